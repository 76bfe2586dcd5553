"""evidence pack|verify|list|key|checkpoint|rebuild: proof that leaves the server, and its checks.

`verify` and `list` of a pack file need no server: whoever trusts neither us nor our server runs
them with a key that came another way.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tidegate.base.errors import AskedWrongly
from tidegate.shell.cli.answer import Answer
from tidegate.shell.cli.command import Desk, Room, tool
from tidegate.shell.cli.exits import Exit
from tidegate.shell.cli.files import read_file, read_small, write_file
from tidegate.shell.cli.hosting import CONFIG_NAME, config_option, installed
from tidegate.shell.cli.keys import make_room as make_key_room
from tidegate.shell.cli.printing import clean, fields, moment, table
from tidegate.shell.cli.remembering import look

if TYPE_CHECKING:
    from tidegate.evidence.events import Event


@tool(
    "pack",
    ("tidegate evidence pack gr_01j… -o pack.zip", "everything about one grant, in one file"),
    ("tidegate evidence pack rq_01j…", "a request id does, when exactly one grant fits"),
)
@click.argument("grant", metavar="GRANT")
@click.option("-o", "--output", metavar="FILE", default="", help="Where to [GRANT.pack.zip].")
@click.option("--force", is_flag=True, help="Replace FILE when it is there.")
def pack(desk: Desk, grant: str, output: str, force: bool) -> None:
    """Save the evidence pack of a grant: events, proofs, checkpoint, rules, report."""
    path = Path(output or f"{grant}.pack.zip")
    if not output and not grant.replace("_", "").isalnum():
        raise AskedWrongly(
            "bad_id", f"expected a grant id, got `{grant[:40]}`", "copy it from a list"
        )
    if path.exists() and not force:
        raise AskedWrongly("file_exists", f"`{path}` is there already", "pass `--force`, or `-o`")
    data = desk.server().download("api", "evidence", "pack", grant)
    write_file(path, data)
    desk.answer(
        {"path": str(path), "bytes": len(data)},
        [f"{path}: {len(data)} bytes", f"check it: tidegate evidence verify {path} --key FILE"],
    )


@tool(
    "verify",
    ("tidegate evidence verify pack.zip --key log.vkey", "a pack, without server and database"),
    (
        "tidegate evidence verify --config /srv/tidegate/tidegate.toml --since old.checkpoint",
        "the whole log on the server's host, against what was seen before",
    ),
    (
        "tidegate evidence verify",
        "beside a tidegate.toml its whole log; elsewhere, that the server's log extends what "
        "this client saw",
    ),
)
@click.argument("pack", default="", metavar="[PACK]")
@click.option("--key", "keys", metavar="FILE", multiple=True, help="The log's public key, trusted.")
@click.option(
    "--since", metavar="FILE", multiple=True, help="A checkpoint remembered or witnessed before."
)
@config_option(None)
def verify(
    desk: Desk, pack: str, keys: Sequence[str], since: Sequence[str], config: str | None
) -> Exit:
    """Check a pack, a whole log, or that a server's log was not set back. Exits 5 when it was."""
    if pack:
        if config or since:
            raise AskedWrongly(
                "two_checks", "expected a pack or a log, got both", "leave out PACK or the options"
            )
        return _verify_pack(desk, Path(pack), keys)
    if config or since or (not keys and Path(CONFIG_NAME).is_file()):
        notes = [read_small(name) for name in since]
        at = installed(config or CONFIG_NAME)
        given = "\n".join(read_small(name) for name in keys)
        report = (
            desk.local.verify_log(at, notes, given) if given else desk.local.verify_log(at, notes)
        )
        return _reported(desk, report.ok, report.as_json(), f"the log of {at}")
    if keys:
        raise AskedWrongly(
            "no_pack", "expected a pack with `--key`, got none", "name the pack file"
        )
    return checkpoint_seen(desk, show_note=False)


@tool(
    "list",
    ("tidegate evidence list gr_01j…", "the sealed events of its request, in order"),
    ("tidegate evidence list pack.zip", "the events in a pack file; nothing is verified by this"),
)
@click.argument("what", metavar="GRANT_OR_PACK")
def listing(desk: Desk, what: str) -> None:
    """List the sealed events behind a grant, or in a pack file."""
    from tidegate.evidence.archive import read_pack
    from tidegate.evidence.seal import read_event

    path = Path(what)
    data = read_file(path) if path.is_file() else None
    if data is None:
        data = desk.server().download("api", "evidence", "pack", what)
    found = read_pack(data)
    events = [read_event(leaf) for leaf in found.leaves]
    rows = [
        (str(event.idx), moment(event.at), event.name, event.actor, _about(event))
        for event in events
    ]
    plain = [{"idx": event.idx, "at": event.at, "name": event.name, "actor": event.actor,
              "data": dict(event.data)} for event in events]  # fmt: skip
    manifest = found.manifest.plain()
    lines = table(("EVENT", "AT", "WHAT", "WHO", "ABOUT"), rows, desk.width())
    desk.answer({"pack": manifest, "events": plain}, [*lines, *_as_of(found.manifest.as_of)])


@tool(
    "checkpoint",
    ("tidegate evidence checkpoint", "the newest one, checked against the one seen before"),
    ("tidegate evidence checkpoint -o today.checkpoint", "kept in a file, for `verify --since`"),
)
@click.option("-o", "--output", metavar="FILE", default="", help="Write it to FILE.")
def checkpoint(desk: Desk, output: str) -> Exit:
    """Show the log's newest signed checkpoint, and remember it."""
    return checkpoint_seen(desk, show_note=True, output=output)


@tool(
    "rebuild",
    ("tidegate evidence rebuild --check", "rebuilds the state from events and compares the rows"),
    ("tidegate evidence rebuild --check --config /srv/tidegate/tidegate.toml", "elsewhere"),
)
@click.option("--check", is_flag=True, help="Compare; nothing is changed.")
@config_option(CONFIG_NAME)
def rebuild(desk: Desk, check: bool, config: str) -> Exit:
    """Compare the state in the database with the state its events make."""
    if not check:
        raise AskedWrongly(
            "rebuild_changes", "expected `--check`: rebuilding in place is not there", "add --check"
        )
    differing = [Answer(one) for one in desk.local.rebuild_check(installed(config))]
    rows = [
        tuple(one.text(name) for name in ("table", "id", "field", "expected", "got"))
        for one in differing
    ]
    lines = table(("TABLE", "ID", "FIELD", "EVENTS SAY", "ROW SAYS"), rows, desk.width())
    desk.answer(
        {"ok": not rows, "differing": [one.plain for one in differing]},
        lines if rows else ["the rows are what the events say"],
    )
    return Exit.EVIDENCE_BROKEN if rows else Exit.OK


def checkpoint_seen(desk: Desk, *, show_note: bool, output: str = "") -> Exit:
    """Compare the server's log with what this client remembers, and say how it went."""
    from tidegate.evidence.checkpoint import parse_checkpoint

    server = desk.server()
    note, before = look(desk, server)
    seen = parse_checkpoint(note)
    if output:
        write_file(Path(output), note.encode())
    said = (
        "seen for the first time: from now on it is remembered"
        if before is None
        else f"it extends the {before} events seen before"
    )
    plain = {
        "ok": True,
        "checkpoint": note,
        "origin": seen.origin,
        "size": seen.size,
        "seen_before": before,
    }
    lines = [clean(line) for line in note.splitlines()] if show_note else []
    told = f"log {clean(seen.origin)}: {seen.size} events; {said}"
    if show_note:
        desk.answer(plain, lines)
        desk.tell(told)
    else:
        desk.answer(plain, [told])
    return Exit.OK


def _verify_pack(desk: Desk, path: Path, keys: Sequence[str]) -> Exit:
    from tidegate.evidence.checkpoint import parse_keys
    from tidegate.evidence.pack import verify_pack

    if not keys:
        raise AskedWrongly(
            "no_key",
            "expected `--key FILE` with the public key of the log, got none",
            "take it from somewhere else than the pack: a pack that brings its key proves nothing",
        )
    trusted = [held for name in keys for held in parse_keys(read_small(name))]
    report = verify_pack(read_file(path), trusted)
    return _reported(desk, report.ok, report.as_json(), f"pack {path.name}")


def _since(told: Answer) -> str:
    """The remembered and witnessed checkpoints a log was held against."""
    return ", ".join(f"{one.text('from')} ({one.text('size')})" for one in told.some("since"))


def _reported(desk: Desk, ok: bool, plain: Mapping[str, Any], what: str) -> Exit:
    """The outcome of a check: what holds, the first thing that does not, what cannot be known."""
    told = Answer(plain)
    verdict = desk.paint("holds", "green") if ok else desk.paint("DOES NOT HOLD", "red")
    lines = [f"{clean(what)}: {verdict}"]
    lines += [f"  {_finding(found)}" for found in told.some("findings")]
    lines += fields(
        [
            ("origin", told.text("origin")),
            ("grant", told.text("grant")),
            ("request", told.text("request")),
            ("state", told.text("state")),
            ("as of", told.text("as_of")),
            ("proof", told.text("proof")),
            ("events", told.text("events")),
            ("log size", told.text("size")),
            ("erased", ", ".join(told.texts("erased"))),
            ("held against", _since(told)),
        ]
    )
    lines += [f"  cannot be excluded: {part}" for part in told.texts("cannot_exclude")]
    desk.answer(plain, lines)
    return Exit.OK if ok else Exit.EVIDENCE_BROKEN


def _finding(found: Answer) -> str:
    idx = found.number("idx")
    where = "" if idx is None else f"event {idx}: "
    return (
        f"{where}{found.text('what')}: expected {found.text('expected')}, got {found.text('got')}"
    )


def _about(event: "Event") -> str:
    """The one id an event is about, for a list."""
    return str(event.data.get("session") or event.data.get("grant") or event.subject)


def _as_of(as_of: str) -> list[str]:
    return [clean(as_of)] if as_of else []


def make_room() -> Room:
    """`tidegate evidence …`."""
    room = Room(
        "evidence",
        "Take evidence out, and check it: offline, with a key that came another way.",
        ("tidegate evidence pack gr_01j… -o pack.zip", "on the day"),
        ("tidegate evidence verify pack.zip --key log.vkey", "years later, without us"),
    )
    for command in (pack, verify, listing, make_key_room(), checkpoint, rebuild):
        room.add_command(command)
    return room
