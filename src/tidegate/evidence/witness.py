"""Checkpoints kept where the log's own operator cannot take them back: a directory, an endpoint,
and each client's memory.

The only part of this room that touches files and the network. It moves text; what a checkpoint is
worth is decided by whoever opens it with a key.
"""

import hashlib
import os
import re
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from datetime import timedelta
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from tidegate.base.address import is_loopback
from tidegate.base.errors import (
    AskedWrongly,
    EvidenceBroken,
    Refused,
    TidegateError,
    Unknown,
    Unreachable,
)
from tidegate.evidence.checkpoint import parse_checkpoint
from tidegate.evidence.note import LONGEST_NOTE

PATIENCE = timedelta(seconds=5)  # publishing is retried with every later checkpoint
MOST_WITNESSED = 1_000_000  # files read back, the newest ones: some minutes, for a check by hand
MOST_FORKED = 20  # refused checkpoints kept beside the others: one shows it, more show how it grew
# Checkpoints of one directory: 80 MB where a file takes 4 KiB, seconds to verify. Half of it is the
# newest without a gap, a day and more of a log that never rests.
MOST_KEPT = 20_000
DROPPED_AT_ONCE = 1_000  # some seconds: publishing waits for it
LATEST = "latest"

# How a checkpoint kept outside contradicts the log as it is: one sentence, or empty.
Contradicts = Callable[[str], str]

_NAME = re.compile(r"checkpoint-(\d{16})", re.ASCII)
_FORK = re.compile(r"forked-(\d{16})-[0-9a-f]{16}", re.ASCII)


def publish_to_directory(
    directory: Path, note: str, contradicts: Contradicts | None = None
) -> Path:
    """Keep the checkpoint `note` as a file named by its size, and as `latest`. Safe to repeat.

    Args:
        directory: where to.
        note: a checkpoint of the log as it is, or as it was a moment ago.
        contradicts: asked about the newest one kept there; None: only sizes are compared.

    Raises:
        EvidenceBroken: `forked`: the log does not extend what is kept there, or another checkpoint
            of that size is, or this is another log's directory. Nothing is overwritten, and what
            was refused is kept beside it.
        OSError: the directory is missing or cannot be written.
    """
    checkpoint = parse_checkpoint(note)
    if contradicts is not None and (kept_note := last_kept(directory)) is not None:
        refuse_fork(directory, note, contradicts(kept_note))
    path = directory / f"checkpoint-{checkpoint.size:016d}"
    if path.exists():
        kept = parse_checkpoint(_read(path))
        if kept != checkpoint:
            keep_fork(directory, note)
            raise EvidenceBroken(
                "forked",
                f"witnessed checkpoint {checkpoint.size}",
                f"root {kept.root.hex()} of `{kept.origin}`",
                f"root {checkpoint.root.hex()} of `{checkpoint.origin}`",
            )
    else:
        _write(path, note)
    latest = directory / LATEST
    if not latest.exists() or parse_checkpoint(_read(latest)).size <= checkpoint.size:
        _write(latest, note)
    return path


def thin(directory: Path, contradicts: Contradicts, most: int = MOST_KEPT) -> int:
    """Drop older checkpoints when more than `most` are kept; returns how many went.

    The newer half stays whole, and so does the very first; of the rest, those go whose neighbours
    are closest, so that what stays is spread over the life of the log. Nothing is lost for a proof:
    whoever holds the log against a later checkpoint holds it against all before it. One that the
    log contradicts is evidence, and stays.

    Never raises: where nothing may be dropped, or the log cannot be asked, everything stays.
    """
    dropped = 0
    try:
        names = sorted(name for name in os.listdir(directory) if _NAME.fullmatch(name))
        spare = len(names) - most
        if spare <= 0:
            return 0
        for name in _closest(names[: len(names) - most // 2], spare + DROPPED_AT_ONCE // 2):
            if not contradicts(_read(directory / name)):
                (directory / name).unlink()
                dropped += 1
    except (OSError, TidegateError):
        return dropped
    return dropped


def _closest(names: Sequence[str], count: int) -> list[str]:
    """Up to DROPPED_AT_ONCE and `count` of `names` to do without: no two neighbours, the smallest
    gaps first, never the first or the last.
    """
    sizes = [int(name.rpartition("-")[2]) for name in names]
    gaps = sorted((sizes[at + 1] - sizes[at - 1], at) for at in range(1, len(names) - 1))
    gone: set[int] = set()
    for _, at in gaps:
        if len(gone) >= min(count, DROPPED_AT_ONCE):
            break
        if not {at - 1, at + 1} & gone:
            gone.add(at)
    return [names[at] for at in sorted(gone)]


def refuse_fork(directory: Path, note: str, said: str) -> None:
    """Raise EvidenceBroken `forked` unless `said` is empty; `note` is then kept in `directory`."""
    if said:
        keep_fork(directory, note)
        raise EvidenceBroken("forked", "log", "an extension of what was witnessed", said)


def keep_fork(directory: Path, note: str) -> None:
    """Keep a refused checkpoint beside those it contradicts, unless MOST_FORKED are there.

    One that is there under its size is no second history, only an older end of the same: it is not
    kept twice. Never raises for a directory that cannot be written: the refusal stands without it.
    """
    checkpoint = parse_checkpoint(note)
    name = f"forked-{checkpoint.size:016d}-{checkpoint.root.hex()[:16]}"
    try:
        same = directory / f"checkpoint-{checkpoint.size:016d}"
        if same.exists() and parse_checkpoint(_read(same)) == checkpoint:
            return
        kept = [path for path in directory.iterdir() if _FORK.fullmatch(path.name)]
        if len(kept) < MOST_FORKED and not (directory / name).exists():
            _write(directory / name, note)
    except (OSError, EvidenceBroken):
        return


def last_kept(directory: Path) -> str | None:
    """The newest checkpoint kept there: `latest`, or without it the largest; None: there is none.

    Raises:
        EvidenceBroken: it is no text. OSError: it cannot be read.
    """
    try:
        return _read(directory / LATEST)
    except FileNotFoundError:
        return largest_kept(directory)


def largest_kept(directory: Path) -> str | None:
    """The checkpoint of the largest size by its name, whatever `latest` says; None: there is none.

    Raises as `last_kept`.
    """
    names = [path.name for path in directory.iterdir()] if directory.is_dir() else []
    newest = max((name for name in names if _NAME.fullmatch(name)), default=None)
    return _read(directory / newest) if newest else None


def read_directory(directory: Path) -> list[str]:
    """The newest MOST_WITNESSED checkpoints kept there, smallest first. Raises OSError."""
    names = sorted(path for path in directory.iterdir() if _NAME.fullmatch(path.name))
    return [_read(path) for path in names[-MOST_WITNESSED:]]


def read_forked(directory: Path) -> list[str]:
    """The checkpoints that were refused there as a fork, smallest first. Raises OSError."""
    names = sorted(path for path in directory.iterdir() if _FORK.fullmatch(path.name))
    return [_read(path) for path in names[:MOST_FORKED]]


def publish_over_http(url: str, note: str, patience: timedelta = PATIENCE) -> None:
    """POST the checkpoint `note` to `url`; any 2xx answer means it was taken.

    Redirects are not followed: a witness is the address that was configured, and no other.

    Raises:
        AskedWrongly: the URL is neither https nor http to this machine, or carries a password.
        Unreachable: certainly not delivered. Unknown: perhaps delivered. Refused: answered no.
    """
    _check_url(url)
    request = urllib.request.Request(  # noqa: S310 - the scheme was checked
        url,
        data=note.encode(),
        headers={"Content-Type": "text/plain; charset=utf-8", "User-Agent": "tidegate"},
        method="POST",
    )
    # NB. an http address is on this machine, so it never goes through a proxy.
    proxies: dict[str, str] | None = {} if urlsplit(url).scheme == "http" else None
    opener = urllib.request.build_opener(_StayHere, urllib.request.ProxyHandler(proxies))
    help = "the next checkpoint tries again; see `[witness]` in the settings"
    where = _shown(url)
    try:
        with opener.open(request, timeout=patience.total_seconds()):
            return
    except urllib.error.HTTPError as error:
        with error:
            message = f"witness {where}: expected a 2xx answer, got {error.code}"
        raise Refused("witness_refused", message, help) from error
    except urllib.error.URLError as error:
        message = f"witness {where} was not reached: {error.reason}"
        raise Unreachable("witness_unreachable", message, help) from error
    except (OSError, HTTPException) as error:
        message = f"witness {where} gave no answer: {type(error).__name__}"
        raise Unknown("witness_silent", message, help) from error


def remember(directory: Path, server: str, note: str) -> None:
    """Keep `note` as the newest checkpoint seen of `server`, in a file of mode 0600.

    The caller has opened it and seen it to extend the one recalled. Raises EvidenceBroken when a
    larger one is remembered, OSError when the file cannot be written.
    """
    kept = recall(directory, server)
    size = parse_checkpoint(note).size
    if kept is not None and parse_checkpoint(kept).size > size:
        raise EvidenceBroken(
            "rolled_back",
            f"size of the log of `{server[:80]}`",
            f"at least the remembered {parse_checkpoint(kept).size}",
            str(size),
        )
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(_memory(directory, server), note)


def remembered(directory: Path) -> list[str]:
    """Every checkpoint remembered there, of whatever server. Raises OSError."""
    return [_read(path) for path in sorted(directory.glob("*.checkpoint"))]


def recall(directory: Path, server: str) -> str | None:
    """The checkpoint last remembered of `server`, or None. Raises OSError."""
    try:
        return _read(_memory(directory, server))
    except FileNotFoundError:
        return None


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Turns every redirect into the error it is here."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        """None: urllib then raises HTTPError with the redirect's own status."""


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        sound = bool(parts.hostname) and parts.username is None and parts.password is None
        _ = parts.port
    except ValueError:
        sound = False
    if sound and parts.scheme == "https":
        return
    if sound and parts.scheme == "http" and is_loopback(parts.hostname or ""):
        return
    raise AskedWrongly(
        "bad_witness",
        f"expected a witness address `https://…` (or http on this machine), got `{_shown(url)}`",
        "give the witness a certificate, or run it on this machine",
    )


def _shown(url: str) -> str:
    """`url` without what could be a secret: user, query, fragment."""
    return url.split("?")[0].split("#")[0].rpartition("@")[2][:120]


def _memory(directory: Path, server: str) -> Path:
    # A digest: server names hold slashes and colons, and must not choose the path.
    return directory / f"{hashlib.sha256(server.encode()).hexdigest()[:32]}.checkpoint"


def _read(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(LONGEST_NOTE + 1)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise EvidenceBroken("bad_note", f"file `{path.name}`", "UTF-8", str(error)) from error
    if len(data) > LONGEST_NOTE:
        raise EvidenceBroken("bad_note", f"file `{path.name}`", f"{LONGEST_NOTE} bytes", "more")
    return text


def _write(path: Path, text: str) -> None:
    """Replace `path` in one step, mode 0600, on disk before it returns."""
    fd, name = tempfile.mkstemp(prefix=".checkpoint-", dir=path.parent)
    fresh = Path(name)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
