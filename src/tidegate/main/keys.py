"""The files of the log's key, and how one key follows another.

Beside the key file `log.key` stand `log.vkey` (every public key of the log, for verifiers), during
a change `log.key.next`, and afterwards `log.key.until-N`, the key that signed up to size N.

A change is: the new key is on disk as `log.key.next` → one transaction seals `log.key_changed`
under a checkpoint of the new key → the files take their places. Whoever opens the database next
finishes what was cut short: the log itself tells which of the two keys is its own.
"""

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tidegate.base.canonical import Json
from tidegate.base.errors import AskedWrongly, EvidenceBroken
from tidegate.base.fact import SYSTEM
from tidegate.base.when import Instant
from tidegate.evidence.checkpoint import TrustedKey, follow, write_keys
from tidegate.evidence.events import Event
from tidegate.evidence.keychange import EVENT, KeyChange, read_change
from tidegate.evidence.merkle import LARGEST_TREE
from tidegate.evidence.note import KEY_BYTES, FileSigner, VerifierKey, parse_signer
from tidegate.evidence.seal import read_event
from tidegate.main.config import Config, database_password, database_url
from tidegate.store import Store
from tidegate.store.rekey import change_key


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFiles:
    """Where a log's key is kept: the key itself, the one that is to follow, the public ones."""

    current: Path
    coming: Path
    public: Path

    def past(self, index: int) -> Path:
        """Where the key is kept that signed checkpoints up to size `index`."""
        return self.current.with_name(f"{self.current.name}.until-{index}")


def key_files(config: Config) -> KeyFiles:
    """The key's files. Raises AskedWrongly (`key_not_in_file`): from elsewhere, or a link."""
    kind, _, name = config.evidence.key.partition(":")
    current = config.path(name)
    if kind != "file" or current.is_symlink():
        got = "a link" if kind == "file" else "a key from the environment"
        raise AskedWrongly(
            "key_not_in_file",
            f"expected the log's key in a file of its own, got {got}",
            "put it in a file, name that in `evidence.key`, and change it there",
        )
    return KeyFiles(
        current=current,
        coming=current.with_name(f"{current.name}.next"),
        public=current.with_suffix(".vkey"),
    )


def coming_signer(config: Config) -> FileSigner | None:
    """The key that a change left beside the current one; None when there is none to be read."""
    try:
        return parse_signer(key_files(config).coming.read_text(encoding="utf-8"))
    except (AskedWrongly, OSError, UnicodeDecodeError):
        return None


def log_keys(store: Store, newest: VerifierKey) -> tuple[TrustedKey, ...]:
    """Every key of the log, the first one first, as those before `newest` were sealed by it.

    Changes that do not hold are left out: the check of the whole log is what names them.
    """
    return follow((TrustedKey(key=newest),), [change for _, change in _changes(store)])


def described(store: Store, newest: VerifierKey) -> list[dict[str, Json]]:
    """The keys of the log for people: id, sizes, and when the key after it took over."""
    ended = {change.index: event.at for event, change in _changes(store)}
    return [
        {
            "id": held.key.key_id.hex(),
            "key": held.key.text(),
            "first": held.first,
            "until": None if held.until == LARGEST_TREE else held.until,
            "ended_at": ended.get(held.until),
        }
        for held in log_keys(store, newest)
    ]


def prepare(files: KeyFiles, origin: str, randomness: Callable[[int], bytes]) -> FileSigner:
    """A new key of the log, on disk as `coming` before it is used; one left there is dropped.

    The caller has opened the database with the current key, so what lay there never signed.

    Raises:
        AskedWrongly: `cannot_write`.
    """
    made = FileSigner(origin, randomness(KEY_BYTES))
    try:
        files.coming.unlink(missing_ok=True)
        _write_new(files.coming, made.text() + "\n")
    except OSError as fault:
        raise _cannot(files.coming, fault) from fault
    return made


def seal(config: Config, after: FileSigner, clock: Callable[[], Instant]) -> KeyChange:
    """Seal the change from the current key to `after`. From here on the log is `after`'s.

    Raises what `store.rekey.change_key` raises.
    """
    return change_key(
        database_url(config),
        origin=config.evidence.origin,
        before=parse_signer(key_files(config).current.read_text(encoding="utf-8")),
        after=after,
        clock=clock,
        password=database_password(config),
    )


def finish(config: Config, store: Store, signer: FileSigner) -> None:
    """Give the files of a sealed change their places. Safe to repeat, and in two processes.

    The new key takes its place last: until then the next start comes here again.

    Raises:
        AskedWrongly: `cannot_write`: the change is sealed, its files are not in place.
    """
    files = key_files(config)
    keys = log_keys(store, signer.verifier())
    try:
        if files.coming.exists():
            text = files.current.read_text(encoding="utf-8")
            if len(keys) > 1 and parse_signer(text).verifier() == keys[-2].key:
                _replace(files.past(keys[-2].until), text, 0o600)
            _replace(files.public, write_keys(keys), 0o644)
            with suppress(FileNotFoundError):  # another process has just finished
                files.coming.replace(files.current)
            for torn in files.current.parent.glob(f".{files.current.name}.until-*"):
                torn.unlink(missing_ok=True)  # a copy of the old key that was cut short
            _sync(files.current.parent)
    except OSError as fault:
        raise _cannot(files.current, fault) from fault


def _changes(store: Store) -> list[tuple[Event, KeyChange]]:
    found = []
    for _, leaf in store.events(SYSTEM):
        if EVENT.encode() not in leaf:
            continue
        try:
            event = read_event(leaf)
            if event.name == EVENT:
                found.append((event, read_change(event.idx, event.data)))
        except EvidenceBroken:
            continue
    return found


def _write_new(path: Path, text: str) -> None:
    """A file of mode 0600 that was not there, on disk with its name before this returns."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    _sync(path.parent)


def _replace(path: Path, text: str, mode: int) -> None:
    """Make or replace a file in one step, on disk before it has its name."""
    fd, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    fresh = Path(name)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.chmod(mode)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _cannot(path: Path, fault: OSError) -> AskedWrongly:
    return AskedWrongly(
        "cannot_write",
        f"the key files beside `{path.name}` cannot be written: {fault.strerror}",
        "run this as their owner, with room on the disk; repeating it is safe",
    )
