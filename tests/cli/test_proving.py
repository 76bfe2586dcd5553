"""trace, verify, doctor, evidence: proof shown, checked, and remembered."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Shell
from tests.cli.fake import ESCAPE, GR, RQ, FakeLocal, FakeReport, FakeServer, problem
from tests.evidence.made_log import GRANT, KEYS, SIGNER, STRANGER, MadeLog, make_log, story
from tidegate.diagnose.walk import Stage, StageState, StageView, Trace, Walk
from tidegate.evidence.merkle import consistency_proof

KEY = KEYS[0].line() + "\n"


def a_trace() -> Trace:
    """A trace that stops at its end."""
    views = [StageView(stage=stage, state=StageState.DONE, headline="all well") for stage in Stage]
    views[-1] = StageView(
        stage=Stage.EXPIRE,
        state=StageState.STOPPED,
        headline="no removal was read back",
        next_step=f"`tidegate verify {GR}`",
    )
    walk = Walk(grant=GR, role="aws-prod/admin", views=tuple(views))
    return Trace(request=RQ, at="2026-11-23T09:00:00.000Z", walks=(walk,))


def serve_log(server: FakeServer, log: MadeLog, old: int = 0, **changed: object) -> None:
    """Let `server` show `log`, with the proof from size `old`."""
    server.on("GET", "/api/evidence/keys", KEY)
    server.on("GET", "/api/evidence/checkpoint", log.checkpoint())
    proof = consistency_proof(old, log.tree.size, log.read())
    told = {"hashes": [part.hex() for part in proof], "checkpoint": log.checkpoint()}
    server.on("GET", "/api/evidence/consistency", told | changed)


SHORT, LONG = make_log(story()[:9]), make_log()


def test_trace_is_drawn_with_the_stage_it_stops_at(tidegate: Shell, server: FakeServer) -> None:
    """The five stages, where it stops, and the next step; JSON is the server's own."""
    serve_log(server, LONG)
    server.on("GET", f"/api/trace/{GR}", a_trace().as_json())
    ran = tidegate("trace", GR)
    assert ran.code == 0, ran.err
    assert "The evidence stops at Expire: no removal was read back" in ran.out
    assert f"Next: `tidegate verify {GR}`" in ran.out
    assert tidegate("trace", GR, "--json").json == a_trace().as_json()


def test_trace_without_a_checkpoint_is_still_shown(tidegate: Shell, server: FakeServer) -> None:
    """A server that shows no checkpoint is noted, and the trace stands."""
    server.on("GET", f"/api/trace/{GR}", a_trace().as_json())
    ran = tidegate("trace", GR)
    assert ran.code == 0
    assert "was not compared" in ran.err


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"ok": True, "verdict": "closed", "agrees": True}, 0),
        ({"ok": True, "verdict": "open_as_granted", "agrees": True}, 0),
        ({"ok": False, "verdict": "cannot_tell", "agrees": True}, 4),
        ({"ok": False, "verdict": "not_closed", "agrees": True}, 4),
        ({"ok": False, "verdict": "not_closed", "agrees": False}, 1),
        ({"ok": False, "verdict": "cannot_tell", "claims": {"gap": "event 3 is missing"}}, 5),
    ],
)
def test_verify_exits_by_its_verdict(
    tidegate: Shell, server: FakeServer, answer: dict[str, object], code: int
) -> None:
    """Proven is 0, not yet 4, contradicted 1, broken evidence 5; the sentence is shown."""
    told = {"grant": GR, "says": f"as it is{ESCAPE}", "help": "look", **answer}
    server.on("POST", f"/api/verify/{GR}", told)
    ran = tidegate("verify", GR)
    assert ran.code == code
    assert "as it is\\x1b[31m" in ran.out and "next: look" in ran.out
    assert tidegate("verify", GR, "--json").json == told


@pytest.mark.parametrize(("ok", "code"), [(True, 0), (None, 0), (False, 1)])
def test_doctor_exits_1_on_a_fault(
    tidegate: Shell, server: FakeServer, ok: bool | None, code: int
) -> None:
    """Every check is a line with its fix; a warning is no failure."""
    check = {"name": "worker", "ok": ok, "says": "silent for 5m", "fix": "start it"}
    answer = {"ok": ok is not False, "at": "2026-11-23T09:00:00.000Z", "findings": [check]}
    server.on("GET", "/api/doctor", answer)
    ran = tidegate("doctor")
    assert ran.code == code
    assert "worker" in ran.out and "fix: start it" in ran.out
    assert tidegate("doctor", "--json").json == answer


def test_pack_is_saved_and_verifies_offline(
    tidegate: Shell, server: FakeServer, tmp_path: Path
) -> None:
    """A pack is saved once; with the key it holds without any server; one flipped bit is found."""
    server.on("GET", f"/api/evidence/pack/{GRANT}", LONG.pack())
    path, key = tmp_path / "p.zip", tmp_path / "log.vkey"
    key.write_text(KEY)
    assert tidegate("evidence", "pack", GRANT, "-o", str(path)).code == 0
    assert tidegate("evidence", "pack", GRANT, "-o", str(path)).code == 2
    assert tidegate("evidence", "pack", GRANT, "-o", str(path), "--force").code == 0
    for name in ("TIDEGATE_SERVER", "TIDEGATE_TOKEN"):
        del tidegate.environment[name]
    good = tidegate("evidence", "verify", str(path), "--key", str(key))
    assert good.code == 0, good.err
    assert "holds" in good.out and "cannot be excluded" in good.out
    assert tidegate("evidence", "verify", str(path), "--key", str(key), "--json").json["ok"] is True
    data = bytearray(path.read_bytes())
    data[data.find(b"INC-4711") + 5] ^= 1
    path.write_bytes(bytes(data))
    bad = tidegate("evidence", "verify", str(path), "--key", str(key))
    assert bad.code == 5
    assert "DOES NOT HOLD" in bad.out


def test_pack_is_not_verified_by_its_own_key(tidegate: Shell, tmp_path: Path) -> None:
    """Without a key, with another key, or with no pack at all, nothing is verified."""
    path, key = tmp_path / "p.zip", tmp_path / "log.vkey"
    path.write_bytes(LONG.pack())
    assert tidegate("evidence", "verify", str(path)).code == 2
    key.write_text(STRANGER.verifier().text() + "\n")
    assert tidegate("evidence", "verify", str(path), "--key", str(key)).code == 5
    assert tidegate("evidence", "verify", str(tmp_path / "no"), "--key", str(key)).code == 2
    path.write_bytes(b"no zip")
    assert tidegate("evidence", "verify", str(path), "--key", str(key)).code == 5
    key.write_bytes(b"\xff")
    assert tidegate("evidence", "verify", str(path), "--key", str(key)).code == 2


def test_events_of_a_pack_are_listed(tidegate: Shell, server: FakeServer, tmp_path: Path) -> None:
    """In the order of the chain, from a file or from the server."""
    path = tmp_path / "p.zip"
    path.write_bytes(LONG.pack())
    server.on("GET", f"/api/evidence/pack/{GRANT}", LONG.pack())
    listed = tidegate("evidence", "list", str(path))
    assert listed.code == 0, listed.err
    names = [line.split()[2] for line in listed.out.splitlines()[1:]]
    assert names[:2] == ["request.filed", "request.voted"]
    told = tidegate("evidence", "list", GRANT, "--json").json
    assert [event["name"] for event in told["events"]] == names


def test_first_checkpoint_is_remembered_and_extended(
    tidegate: Shell, server: FakeServer, tmp_path: Path
) -> None:
    """The first look remembers; a longer log must prove that it extends it."""
    serve_log(server, SHORT)
    first = tidegate("evidence", "checkpoint", "-o", str(tmp_path / "c"))
    assert first.code == 0, first.err
    assert "seen for the first time" in first.err
    assert (tmp_path / "c").read_text() == SHORT.checkpoint() == first.out
    assert tidegate("evidence", "verify").code == 0
    serve_log(server, LONG, SHORT.tree.size)
    ran = tidegate("evidence", "verify")
    assert ran.code == 0, ran.err
    assert f"extends the {SHORT.tree.size} events seen before" in ran.out
    told = tidegate("evidence", "checkpoint", "--json").json
    assert (told["size"], told["seen_before"]) == (LONG.tree.size, LONG.tree.size)


@pytest.mark.parametrize(
    "words", [("evidence", "checkpoint"), ("evidence", "verify"), ("trace", GR)]
)
def test_rollback_is_shouted(tidegate: Shell, server: FakeServer, words: tuple[str, ...]) -> None:
    """A log that became shorter than what was seen ends with 5, also beside a trace."""
    server.on("GET", f"/api/trace/{GR}", a_trace().as_json())
    serve_log(server, LONG)
    assert tidegate("evidence", "checkpoint").code == 0
    serve_log(server, SHORT)
    server.on("GET", "/api/evidence/consistency", (400, problem("bad_size", "from 0 to 9")))
    ran = tidegate(*words)
    assert ran.code == 5
    assert "THIS LOG IS NOT THE ONE SEEN BEFORE" in ran.err
    assert json.loads(tidegate(*words, "--json").err)["code"] == "rolled_back"


def test_fork_and_strange_keys_are_shouted(tidegate: Shell, server: FakeServer) -> None:
    """Another history of the same or a larger size, another key, or a false proof: exit 5."""
    serve_log(server, SHORT)
    assert tidegate("evidence", "checkpoint").code == 0
    forked = make_log([*story()[:8], *story()[9:]])
    serve_log(server, forked, SHORT.tree.size)
    assert tidegate("evidence", "verify").code == 5
    serve_log(server, LONG, SHORT.tree.size, hashes=["00" * 32])
    assert tidegate("evidence", "verify").code == 5
    serve_log(server, LONG, SHORT.tree.size, hashes="x")
    assert tidegate("evidence", "verify").code == 5
    serve_log(server, LONG, SHORT.tree.size)
    server.on("GET", "/api/evidence/keys", STRANGER.verifier().text())
    server.on("GET", "/api/evidence/checkpoint", LONG.checkpoint(STRANGER))
    assert tidegate("evidence", "verify").code == 5
    serve_log(server, LONG, SHORT.tree.size)
    assert tidegate("evidence", "verify").code == 0


def test_key_is_shown_with_a_warning(tidegate: Shell, server: FakeServer, tmp_path: Path) -> None:
    """A key a server shows of itself proves nothing, and that is said."""
    server.on("GET", "/api/evidence/keys", KEY + ESCAPE + "\n")
    ran = tidegate("evidence", "key", "-o", str(tmp_path / "k"))
    assert ran.code == 0
    assert SIGNER.verifier().text() in ran.out and "\x1b" not in ran.out
    assert "compare it first" in ran.err
    assert (tmp_path / "k").read_text().startswith(KEY)


def test_log_is_checked_on_the_servers_host(
    tidegate: Shell, local: FakeLocal, tmp_path: Path
) -> None:
    """With `--config` or `--since` the whole log of this machine is checked; findings exit 5."""
    config, old = tmp_path / "tidegate.toml", tmp_path / "old"
    config.write_text("")
    old.write_text(SHORT.checkpoint())
    words = ("evidence", "verify", "--config", str(config), "--since", str(old))
    ran = tidegate(*words)
    assert ran.code == 0
    assert local.asked == [("verify_log", config, [SHORT.checkpoint()])]
    assert "cannot be excluded: a cut" in ran.out
    found = {"idx": 3, "what": "leaf", "expected": "a", "got": "b"}
    local.report = FakeReport(False, [found])
    ran = tidegate(*words)
    assert ran.code == 5
    assert "event 3: leaf: expected a, got b" in ran.out
    assert tidegate("evidence", "verify", "p.zip", "--since", str(old)).code == 2


def test_rebuild_compares_rows_with_events(
    tidegate: Shell, local: FakeLocal, tmp_path: Path
) -> None:
    """Equal rows are 0, a different one is shown and exits 5."""
    config = tmp_path / "tidegate.toml"
    config.write_text("")
    words = ("evidence", "rebuild", "--check", "--config", str(config))
    assert tidegate(*words).code == 0
    local.differing = [
        {"table": "grants", "id": GR, "field": "state", "expected": "gone", "got": "open"}
    ]
    ran = tidegate(*words)
    assert ran.code == 5
    assert ran.out.splitlines()[1].split() == ["grants", GR, "state", "gone", "open"]
    assert tidegate("evidence", "rebuild", "--config", str(config)).code == 2


def test_refused_pack_is_not_written(tidegate: Shell, server: FakeServer, tmp_path: Path) -> None:
    """A problem is never saved as a pack."""
    server.on("GET", f"/api/evidence/pack/{GR}", (404, problem("unknown_id", "no such")))
    path = tmp_path / "p.zip"
    assert tidegate("evidence", "pack", GR, "-o", str(path)).code == 2
    assert not path.exists()
    assert tidegate("evidence", "pack", "../../x").code == 2
