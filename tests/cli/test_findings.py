"""findings: what a tired person reads."""

from tests.cli.conftest import Shell
from tests.cli.fake import FakeServer

PATH = "/api/findings"
FINDING = {
    "id": "fi_01",
    "kind": "readded",
    "severity": "high",
    "state": "closed",
    "says": "was there again",
    "closed_how": "healed",
    "closed_at": "2026-11-23T09:00:00.000Z",
    "next": "nothing to do: Tidegate put it right",
}


def test_closed_finding_says_nothing_of_what_is_left(tidegate: Shell, server: FakeServer) -> None:
    """The last line is what to do, also when that is nothing."""
    server.on("GET", f"{PATH}/fi_01", {"finding": FINDING, "history": []})
    out = tidegate("findings", "show", "fi_01").out
    assert out.endswith("next: nothing to do: Tidegate put it right\n")


def test_empty_list_is_taken_for_all_is_well(tidegate: Shell, server: FakeServer) -> None:
    """Nobody sees every finding but auditors: an empty list says whose it is."""
    server.on("GET", PATH, {"findings": [], "next_before": None})
    assert "no open findings you may see" in tidegate("findings", "list").out
    assert "no findings you may see" in tidegate("findings", "list", "--closed").out


def test_two_states_are_asked_for_at_once(tidegate: Shell, server: FakeServer) -> None:
    """`--closed` beside another state is refused, not dropped."""
    ran = tidegate("findings", "list", "--closed", "--state", "open")
    assert ran.code == 2 and "--state open` alone" in ran.err
    assert server.calls == []


def test_duration_that_is_too_long_is_called_misspelt(tidegate: Shell, server: FakeServer) -> None:
    """A sound one above the bound is told the bound; nothing is asked of the server."""
    ran = tidegate("findings", "close", "fi_01", "--reason", "x", "--accept-for", "500d")
    assert ran.code == 2 and "expected a duration of at most 366d, got `500d`" in ran.err
    ran = tidegate("findings", "close", "fi_01", "--reason", "x", "--accept-for", "0s")
    assert ran.code == 2 and "above zero" in ran.err
    assert server.calls == []
