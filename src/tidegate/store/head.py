"""The head of the log: one row that says how far the log goes and signs it.

Read and written by the commit writer inside its transaction; made once, when a log begins.
"""

from dataclasses import dataclass

from tidegate.base.errors import AskedWrongly, EvidenceBroken, EvidenceClosed
from tidegate.base.when import Instant, from_ms, to_ms
from tidegate.evidence.checkpoint import (
    Checkpoint,
    TrustedKey,
    open_checkpoint,
    parse_checkpoint,
    sign_checkpoint,
)
from tidegate.evidence.note import Signer, VerifierKey
from tidegate.evidence.tiles import Tree
from tidegate.store.database import Raw, Words
from tidegate.store.migrate import REVISIONS

SCHEMA_MOVED = "schema_moved"  # the code of what is refused from then on
# The schema's version comes along: a newer release may have migrated the database meanwhile.
_READ = (
    "SELECT origin, size, root, tree, checkpoint, at_ms,"
    " (SELECT version_num FROM alembic_version) FROM log_head WHERE id = 1"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The log as others see it. `at` is when its last event was sealed."""

    origin: str
    size: int
    root: bytes
    checkpoint_text: str
    at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class LogHead:
    """The log as the writer needs it to go on."""

    origin: str
    tree: Tree
    root: bytes
    checkpoint: str
    at: Instant

    @property
    def shown(self) -> Head:
        """Without what only the writer needs."""
        return Head(
            origin=self.origin,
            size=self.tree.size,
            root=self.root,
            checkpoint_text=self.checkpoint,
            at=self.at,
        )


def begin(db: Raw, origin: str, signer: Signer, now: Instant) -> None:
    """Make the head of an empty log unless there is one. Runs inside the caller's transaction."""
    if db.execute(_READ).fetchone() is None:
        made = signed(origin, Tree(), signer, now)
        db.execute(
            "INSERT INTO log_head (id, origin, size, root, tree, checkpoint, at_ms)"
            " VALUES (1, ?, 0, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
            (origin, made.root, made.tree.to_bytes(), made.checkpoint, to_ms(now)),
        )


def signed(origin: str, tree: Tree, signer: Signer, at: Instant) -> LogHead:
    """The head of `tree`, with its checkpoint signed. Raises what the signer raises."""
    root = tree.root()
    note = sign_checkpoint(Checkpoint(origin=origin, size=tree.size, root=root), signer)
    return LogHead(origin=origin, tree=tree, root=root, checkpoint=note, at=at)


def read(db: Raw, words: Words, known: LogHead | None, signer: Signer | None = None) -> LogHead:
    """The head as stored, locked, checked against itself and against the `known` one.

    Another process may have taken the log further; that is fine as long as it signed with the key
    of `signer`. A log that became shorter or is another than ours was restored from a copy: going
    on would fork it. One under another key had its key changed: signing on with the old key would
    make checkpoints that every verifier refuses.

    Raises:
        EvidenceClosed: no head, one that contradicts itself, a log that went back, or one that
            another key than `signer`'s signed; or a newer release migrated the database.
    """
    row = db.execute(_READ + words.for_update).fetchone()
    if row is None:
        raise _closed("the log has no head")
    origin, size, root, tree_bytes, checkpoint, at_ms, schema = row
    _check_schema(schema)
    if known is not None and (size, root) == (known.tree.size, known.root):
        return known
    if known is not None and size <= known.tree.size:
        raise _closed(f"the log has {size} events where it had {known.tree.size}, or others")
    try:
        tree = Tree.from_bytes(size, tree_bytes)
        claimed = parse_checkpoint(checkpoint)
    except EvidenceBroken as error:
        raise _closed(error.message) from error
    if tree.root() != root or claimed != Checkpoint(origin=origin, size=size, root=root):
        raise _closed("the log's head contradicts its checkpoint")
    if signer is not None and not _signed_by(checkpoint, signer):
        raise EvidenceClosed(
            "key_changed",
            "evidence cannot be written: the log's key was changed while this process ran",
            "start it again: it then reads the new key",
        )
    return LogHead(origin=origin, tree=tree, root=root, checkpoint=checkpoint, at=from_ms(at_ms))


def check_schema(db: Raw) -> None:
    """Raise EvidenceClosed when another release has migrated the database meanwhile."""
    row = db.execute("SELECT version_num FROM alembic_version").fetchone()
    _check_schema(row and row[0])


def _check_schema(found: str | None) -> None:
    if found != REVISIONS[-1]:
        raise EvidenceClosed(
            SCHEMA_MOVED,
            f"evidence cannot be written: expected schema `{REVISIONS[-1]}`, got `{found}`",
            "another release has migrated this database: run that release here too",
        )


def write(db: Raw, before: LogHead, after: LogHead) -> None:
    """Move the head on. Raises EvidenceClosed if it is not where the writer left it."""
    moved = db.execute(
        "UPDATE log_head SET size = ?, root = ?, tree = ?, checkpoint = ?, at_ms = ?"
        " WHERE id = 1 AND size = ?",
        (
            after.tree.size,
            after.root,
            after.tree.to_bytes(),
            after.checkpoint,
            to_ms(after.at),
            before.tree.size,
        ),
    )
    if moved.rowcount != 1:
        raise _closed("another process moved the log on in the same moment")


def check_ours(head: LogHead, origin: str, signer: Signer) -> None:
    """Raise AskedWrongly unless the log is `origin` and was last signed by `signer`'s key."""
    if head.origin != origin:
        raise AskedWrongly(
            "other_origin",
            f"expected the log `{head.origin}` that this database holds, got `{origin}`",
            "the origin is chosen once, at `tidegate init`: put the first one back",
        )
    if not _signed_by(head.checkpoint, signer):
        key = VerifierKey(signer.name, signer.public)
        raise AskedWrongly(
            "other_key",
            f"expected the key that signed this log, got `{key.text()}`",
            "put back the key file that belongs to this database",
        )


def _signed_by(checkpoint: str, signer: Signer) -> bool:
    """Whether the checkpoint in `checkpoint` was signed by this key."""
    try:
        open_checkpoint(checkpoint, (TrustedKey(key=VerifierKey(signer.name, signer.public)),))
    except EvidenceBroken:
        return False
    return True


def _closed(why: str) -> EvidenceClosed:
    return EvidenceClosed(
        "evidence_closed",
        f"evidence cannot be written: {why}",
        "stop; compare the log with a witnessed checkpoint before going on",
    )
