"""What this client remembers of a server's log, so that a log set back or forked is noticed.

The log's keys are trusted when they are first seen, and kept; a key that one of them sealed as the
next is kept beside it. The last checkpoint is kept, and each later one must extend it. Everything
stands in `<home>/seen`, one pair of files a server.
"""

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.base.errors import AskedWrongly, EvidenceBroken, TidegateError
from tidegate.shell.cli.answer import Answer
from tidegate.shell.cli.client import Server
from tidegate.shell.cli.command import Desk

if TYPE_CHECKING:
    from tidegate.evidence.checkpoint import Checkpoint, Keys

SHOUT = "THIS LOG IS NOT THE ONE SEEN BEFORE: it was set back, forked, or signed anew"


def look(desk: Desk, server: Server) -> tuple[str, int | None]:
    """The server's newest checkpoint (a signed note), seen to extend the one remembered.

    Returns the note and the size remembered before (None: never met). It is remembered from now on.

    Raises:
        EvidenceBroken: not signed by the keys seen first, or not an extension of what was seen.
        WorldFailed: the server did not answer.
    """
    from tidegate.evidence.checkpoint import open_checkpoint
    from tidegate.evidence.witness import recall, remember

    seen = desk.home / "seen"
    try:
        keys = _keys(seen, server)
        note = server.read_text("api", "evidence", "checkpoint")
        try:
            now = open_checkpoint(note, keys)
        except EvidenceBroken as fault:
            keys = _followed(seen, server, keys, fault)
            now = open_checkpoint(note, keys)
        kept = recall(seen, server.name)
        if kept is not None:
            before = open_checkpoint(kept, keys)
            note, now = _extended(server, keys, before, note, now)
        remember(seen, server.name, note)
    except EvidenceBroken as fault:
        raise EvidenceBroken(
            fault.code, f"{SHOUT}; {fault.what}", fault.expected, fault.got
        ) from fault
    except OSError as fault:
        raise AskedWrongly(
            "cannot_remember",
            f"the checkpoint cannot be kept in `{seen}`: {fault.strerror}",
            "mend the folder's rights, or set TIDEGATE_HOME to a folder of yours",
        ) from fault
    return note, before.size if kept is not None else None


def look_quietly(desk: Desk, server: Server) -> None:
    """`look`, beside another command: only what concerns the evidence stops that command.

    Raises EvidenceBroken. A server that does not show its checkpoint is noted, no more.
    """
    try:
        look(desk, server)
    except EvidenceBroken:
        raise
    except TidegateError as fault:
        desk.tell(f"note: the log's checkpoint was not compared: {fault.message}")


def _extended(
    server: Server, keys: "Keys", before: "Checkpoint", note: str, now: "Checkpoint"
) -> tuple[str, "Checkpoint"]:
    """The newest checkpoint and its note, proven to be `before` with events added."""
    from tidegate.evidence.checkpoint import check_extends, open_checkpoint

    if now.size < before.size:
        raise EvidenceBroken(
            "rolled_back", "size of the log", f"at least {before.size}", str(now.size)
        )
    if now.size == before.size:
        check_extends(before, now, ())
        return note, now
    answer = server.get("api", "evidence", "consistency", query={"old": before.size})
    # NB. the log may have grown since `note` was read; the proof is for the checkpoint beside it.
    newest = answer.exact("checkpoint")
    opened = open_checkpoint(newest, keys)
    check_extends(before, opened, hashes_of(answer))
    return newest, opened


def hashes_of(answer: Answer) -> tuple[bytes, ...]:
    """The hashes of a consistency proof, each in hex. Raises EvidenceBroken."""
    found = answer.plain.get("hashes")
    try:
        if not isinstance(found, list):
            raise ValueError("no list")
        return tuple(bytes.fromhex(str(part)) for part in found)
    except ValueError:
        raise EvidenceBroken(
            "bad_proof", "consistency proof", "a list of hashes in hex", "something else"
        ) from None


def _keys(seen: Path, server: Server) -> "Keys":
    """The keys first seen of `server`, with those that followed; what it shows when never met."""
    from tidegate.evidence.checkpoint import parse_keys

    try:
        return parse_keys(_kept(seen, server).read_text("utf-8"))
    except FileNotFoundError:
        text = server.read_text("api", "evidence", "keys")
    keys = parse_keys(text)
    _keep(seen, server, text)
    return keys


def _followed(seen: Path, server: Server, keys: "Keys", fault: EvidenceBroken) -> "Keys":
    """The keys that the server shows to follow `keys`, each sealed by the one before; kept.

    Raises `fault`, why `keys` did not do, when none follows.
    """
    from tidegate.evidence.checkpoint import changes_in, follow, parse_keys, write_keys

    try:
        shown = parse_keys(server.read_text("api", "evidence", "keys"))
    except AskedWrongly:
        raise fault from None
    longer = follow(keys, changes_in(shown))
    if len(longer) == len(keys):
        raise fault
    _keep(seen, server, write_keys(longer))
    return longer


def _kept(seen: Path, server: Server) -> Path:
    return seen / f"{hashlib.sha256(server.name.encode()).hexdigest()[:32]}.keys"


def _keep(seen: Path, server: Server, text: str) -> None:
    """Replace the keys kept of `server`, in one step: a file cut short would be no keys at all."""
    seen.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = _kept(seen, server)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    fresh.write_text(text, "utf-8")
    fresh.replace(path)
