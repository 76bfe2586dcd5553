"""revoke of a scope, unfreeze, recover: what is said, and which code a script sees."""

import io
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Shell
from tests.cli.fake import GR, PN, FakeLocal, FakeServer, a_panic
from tidegate.shell.cli.command import Desk

GONE = a_panic(safe=True, closing=0, gone=2, still=[], says="everything in all: 2 gone")


def test_panic_succeeds_while_one_is_still_closing(tidegate: Shell, server: FakeServer) -> None:
    """Watched until the time is over; it exits 4, names what is open and why."""
    server.on("POST", "/api/panics", (202, a_panic()))
    server.on("GET", f"/api/panics/{PN}", a_panic())
    ran = tidegate("revoke", "--all", "--yes", "--timeout", "1s")
    assert ran.code == 4
    assert "still closing  2" in ran.out and GR in ran.out and "refused" in ran.out
    assert f"revoke --status {PN}" in ran.out


def test_panic_ends_before_everything_is_swept(tidegate: Shell, server: FakeServer) -> None:
    """Nothing is closing yet because nothing is named yet: that is not the end."""
    early = a_panic(swept=False, closing=0, grants=0, still=[], says="0 gone; being sealed")
    server.on("POST", "/api/panics", (202, early))
    server.on("GET", f"/api/panics/{PN}", early, a_panic(), GONE)
    ran = tidegate("revoke", "--target", "aws-prod", "--yes", "--reason", "r", "--freeze", "1h")
    assert ran.code == 0 and "gone           2" in ran.out
    (sent,) = server.sent("POST")
    assert sent == {"scope": "target", "name": "aws-prod", "reason": "r", "freeze_seconds": 3600}
    assert len([call for call in server.calls if call[0] == "GET"]) == 3


def test_removed_is_told_as_gone(tidegate: Shell, server: FakeServer) -> None:
    """What is only removed is told with the instant until which a session may act."""
    told = a_panic(
        safe=True, closing=0, removed=1, gone=1, still=[], residual_until="2026-11-23T10:00:00.000Z"
    )
    server.on("GET", f"/api/panics/{PN}", told)
    ran = tidegate("revoke", "--status", PN)
    assert ran.code == 0
    assert "removed        1; a session taken before may act until 2026-11-23T10:00:00Z" in ran.out


def test_panic_left_alone_looks_done(tidegate: Shell, server: FakeServer) -> None:
    """--no-wait gives the id, and 4 while anything is open."""
    server.on("POST", "/api/panics", (202, a_panic()))
    ran = tidegate("revoke", "--all", "--yes", "--no-wait", "--json")
    assert ran.code == 4 and ran.json["id"] == PN


def test_unsealed_panic_looks_done(tidegate: Shell, server: FakeServer) -> None:
    """From the journal: it says so and exits 4, though all was read back as removed."""
    told = a_panic(id="", sealed=False, closing=0, removed=2, still=[], says="not sealed")
    server.on("POST", "/api/panics", (202, told))
    ran = tidegate("revoke", "--all", "--yes")
    assert ran.code == 4 and "not sealed" in ran.out and "tidegate doctor" in ran.out


@pytest.mark.parametrize(
    "words",
    [
        ("--all",),
        ("--all", "--target", "x", "--yes"),
        (),
        (GR, "--all", "--yes"),
        (GR, "--freeze", "1h", "--reason", "r"),
        ("--status", PN, "--all"),
        ("--all", "--yes", "--freeze", "soon"),
    ],
)
def test_wrong_scope_ends_something(
    tidegate: Shell, server: FakeServer, words: tuple[str, ...]
) -> None:
    """Unconfirmed, several or no scope: nothing is sent."""
    assert tidegate("revoke", *words).code == 2
    assert not server.calls


def test_local_panic_needs_a_server(tidegate: Shell, local: FakeLocal, tmp_path: Path) -> None:
    """On the machine itself no server is asked, and the exit code says the same."""
    config = tmp_path / "tidegate.toml"
    config.write_text("")
    ran = tidegate("revoke", "--all", "--yes", "--local", "--config", str(config))
    assert ran.code == 0 and local.asked[0][:3] == ("panic", config, "all")
    for told in (a_panic(), a_panic(id="", sealed=False)):  # and where no server is, none is named
        local.panicked = told
        ran = tidegate("revoke", "--all", "--yes", "--local", "--config", str(config))
        assert ran.code == 4 and "next: type the same again, or `tidegate recover`" in ran.out
        assert "--status" not in ran.out and "doctor" not in ran.out
        assert str(told["says"]) in ran.out  # by what it went, whether or not it is sealed


def test_local_panic_asks_for_a_yes_before_it_names_its_settings(
    tidegate: Shell, local: FakeLocal, tmp_path: Path
) -> None:
    """In the wrong directory that is what is wrong, whether or not somebody confirms."""
    nowhere = str(tmp_path / "tidegate.toml")
    for sure in ([], ["--yes"]):
        ran = tidegate("revoke", "--local", "--all", "--config", nowhere, *sure)
        assert ran.code == 2 and nowhere in ran.err and "--yes" not in ran.err
    assert not local.asked


def test_recover_says_done_with_something_open(
    tidegate: Shell, local: FakeLocal, tmp_path: Path
) -> None:
    """Exit 4 while a grant is not removed; what cannot be known is printed whatever the outcome."""
    config = tmp_path / "tidegate.toml"
    config.write_text("")
    grant = {"grant": GR, "role": "aws-prod/admin", "fate": "still closing", "why": "no answer"}
    local.recovered = {
        "ok": False,
        "grants": [grant],
        "counts": {"still closing": 1, "removed": 0},
        "unknown": ["7 events are missing"],
        "next": ["type it again"],
    }
    ran = tidegate("recover", "--config", str(config), "--from", "journal=/a", "--dry-run")
    assert ran.code == 4 and "still closing: no answer" in ran.out
    assert "7 events are missing" in ran.out and "next: type it again" in ran.out
    asked = local.asked[0]
    assert asked[1:4] == (config, {"journal": ["/a"], "witness": [], "database": []}, True)
    assert tidegate("recover", "--config", str(config), "--from", "tape=/a").code == 2


def test_recover_says_nothing_to_close_where_it_can_close_nothing(
    tidegate: Shell, local: FakeLocal, tmp_path: Path
) -> None:
    """An end is owed and nothing says of what: it is counted, and never called nothing."""
    config = tmp_path / "tidegate.toml"
    config.write_text("")
    local.recovered |= {"ok": False, "lost": 1, "unknown": ["too little of `gr_1`"]}
    ran = tidegate("recover", "--config", str(config))
    assert ran.code == 4 and "1 may be open, and cannot be closed from here" in ran.out
    assert "nothing to close" not in ran.out and "no grant is known" not in ran.out
    local.recovered |= {"lost": 0, "unread": 1, "unknown": ["journal `/a` cannot be read"]}
    ran = tidegate("recover", "--config", str(config))
    assert ran.code == 4 and "what is open is not known" in ran.out
    assert "journals not read whole: 1" in ran.out and "nothing to close" not in ran.out
    local.recovered |= {"ok": True, "lost": 0, "unread": 0, "unknown": []}
    ran = tidegate("recover", "--config", str(config))
    assert ran.code == 0 and "no grant is known to be open\n\nnothing to close" in ran.out


def test_recover_fails_and_says_nothing_of_why(
    tidegate: Shell, local: FakeLocal, tmp_path: Path
) -> None:
    """Everything is removed or held, and it exits 4: of sessions, and of what stands, it tells."""
    config = tmp_path / "tidegate.toml"
    config.write_text("")
    counts = {"removed": 3, "still held": 2}
    local.recovered |= {"ok": False, "counts": counts, "uncut": 1, "standing": 1}
    ran = tidegate("recover", "--config", str(config))
    assert ran.code == 4 and "sessions not cut of 1" in ran.out
    assert "1 of the held by what is not ours to take" in ran.out


def test_recover_with_nothing_to_go_by_says_that_nothing_is_open(
    tidegate: Shell, local: FakeLocal, tmp_path: Path
) -> None:
    """No journal with a line, and no copy or an old one: it says just that, and exits 4."""
    config = tmp_path / "tidegate.toml"
    config.write_text("")
    local.recovered |= {"ok": False, "unread": 1, "blind": True, "unknown": ["what is open"]}
    ran = tidegate("recover", "--config", str(config))
    assert ran.code == 4 and "no journal here has a line" in ran.out
    assert "nothing to close" not in ran.out and "not read whole" not in ran.out


def test_recover_with_a_copy_it_could_not_read_says_that_nothing_is_open(
    tidegate: Shell, local: FakeLocal, tmp_path: Path
) -> None:
    """The journals have nothing, and the copy that was named was not read."""
    config = tmp_path / "tidegate.toml"
    config.write_text("")
    local.recovered |= {"ok": False, "copy_unread": True, "unknown": ["what the copy says"]}
    ran = tidegate("recover", "--config", str(config))
    assert ran.code == 4 and "the copy that was named cannot be read" in ran.out
    assert "nothing to close" not in ran.out and "no grant is known" not in ran.out


def test_recover_with_a_clock_that_is_behind_says_that_nothing_is_left(
    tidegate: Shell, local: FakeLocal, tmp_path: Path
) -> None:
    """Nothing looks due: among the counts it says that the clock may be why."""
    config = tmp_path / "tidegate.toml"
    config.write_text("")
    local.recovered |= {"ok": False, "clock_behind": True, "unknown": ["what is due"]}
    ran = tidegate("recover", "--config", str(config))
    assert ran.code == 4 and "this machine's clock may be behind" in ran.out
    assert "nothing to close" not in ran.out


def test_dry_run_looks_like_a_run(tidegate: Shell, local: FakeLocal, tmp_path: Path) -> None:
    """It says first that it did nothing."""
    config = tmp_path / "tidegate.toml"
    config.write_text("")
    local.recovered |= {"dry_run": True}
    ran = tidegate("recover", "--config", str(config), "--dry-run")
    assert ran.out.startswith("dry run: no cloud was called and nothing was written\n")


@pytest.mark.parametrize("later", [True, False])
def test_session_that_ended_long_ago_is_told_as_one_that_may_act(
    tidegate: Shell, local: FakeLocal, tmp_path: Path, later: bool
) -> None:
    """Only an instant after the removal is one until which somebody may act."""
    config = tmp_path / "tidegate.toml"
    config.write_text("")
    until = "2026-11-23T10:00:00.000Z" if later else "2026-08-25T09:00:00.000Z"
    grant = {"grant": GR, "role": "aws-prod/admin", "fate": "removed", "residual_until": until}
    local.recovered |= {"grants": [grant | {"at": "2026-11-23T09:00:00.000Z"}]}
    ran = tidegate("recover", "--config", str(config))
    assert ("may act until" in ran.out) is later


def test_journal_moves_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    """What is told on the way comes from journals too: control characters are written out."""
    Desk(FakeLocal(), {}).tell("gr_1\x1b[2J\x1b[1A prod/admin: removed", "and\nmore")
    assert capsys.readouterr().err == "gr_1\\x1b[2J\\x1b[1A prod/admin: removed\nand\\nmore\n"


class Gone(io.StringIO):
    """A pipe whose reader is gone."""

    def write(self, text: str) -> int:
        """As the system says it."""
        raise BrokenPipeError


def test_reader_that_went_away_stops_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """`recover 2>&1 | less`, and `q`: the ends go on, and so does what tells of them."""
    monkeypatch.setattr(sys, "stderr", Gone())
    Desk(FakeLocal(), {}).tell("gr_1 prod/admin: removed")


def test_colours_of_a_request_are_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever paints a line has made it safe before."""
    Desk(FakeLocal(), {}).tell("rq_1  \x1b[32mapproved\x1b[0m", painted=True)
    assert "\\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("scope", "name", "of"), [("all", "", ""), ("target", "aws-prod", " of `target aws-prod`")]
)
def test_local_panic_that_left_nothing_is_to_be_typed_again(
    tidegate: Shell, local: FakeLocal, tmp_path: Path, scope: str, name: str, of: str
) -> None:
    """Exit 4 stays, for others may have opened more; what is next is another machine."""
    config = tmp_path / "tidegate.toml"
    config.write_text("")
    local.panicked = a_panic(
        id="", sealed=False, closing=0, removed=2, still=[], done=True, scope=scope, name=name
    )
    which = [f"--{scope}", *([name] if name else [])]
    ran = tidegate("revoke", *which, "--yes", "--local", "--config", str(config))
    assert ran.code == 4 and "type the same again" not in ran.out
    done = f"done on this machine: it has ended all{of} that its journal names; do the same on"
    assert f"{done} every other machine that closes" in ran.out
