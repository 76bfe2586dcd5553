"""Proving: packs that leave the house, and checkpoints kept where we cannot take them back."""

import threading
from collections.abc import Iterable
from pathlib import Path

import structlog

from tidegate.base.canonical import Json
from tidegate.base.errors import EvidenceBroken, TidegateError, WorldFailed
from tidegate.base.when import Instant, wire
from tidegate.evidence.checkpoint import TrustedKey, open_checkpoint
from tidegate.evidence.life import commitments, digests_named
from tidegate.evidence.note import LONGEST_NOTE, VerifierKey
from tidegate.evidence.pack import build_pack
from tidegate.evidence.proof import Proof
from tidegate.evidence.seal import read_event
from tidegate.evidence.verify import LogReport, verify_log
from tidegate.evidence.witness import LATEST, publish_over_http, publish_to_directory
from tidegate.flow.allowing import Verb
from tidegate.flow.house import Actor, House
from tidegate.flow.reading import find_grant
from tidegate.store import Store

log = structlog.get_logger("tidegate.proving")

TRIES = 10  # to read a chain and its proofs under one checkpoint while the log grows


def pack(house: House, key: VerifierKey, actor: Actor, some_id: str) -> tuple[str, bytes]:
    """The evidence pack of a grant the actor may see: (file name, bytes).

    Raises:
        NotFound, AskedWrongly: as `reading.find_grant` tells.
        WorldFailed: the log grew under every try.
    """
    grant = find_grant(house, actor, some_id, Verb.SEE)
    for _ in range(TRIES):
        head = house.store.head()
        chain = [(i, leaf) for i, leaf in house.store.events(grant.request) if i < head.size]
        proofs = [
            Proof(index=i, hashes=tuple(house.store.prove(i)), checkpoint=head.checkpoint_text)
            for i, _ in chain
        ]
        if house.store.head().size == head.size:
            break
    else:
        raise WorldFailed("log_busy", "the log grew while the pack was made", "try again")
    events = [read_event(leaf) for _, leaf in chain]
    named = {text for event in events for _, text in commitments(event)}
    data = build_pack(
        grant=grant.id,
        leaves=[leaf for _, leaf in chain],
        proofs=proofs,
        checkpoint=head.checkpoint_text,
        keys=[key],
        disclosures=house.store.disclosures(named),
        documents=_documents(house.store, digests_named(events)),
    )
    return f"{grant.id}.pack.zip", data


def check_log(store: Store, key: VerifierKey, since: Iterable[str]) -> LogReport:
    """Check the whole log of a database against remembered or witnessed checkpoints.

    `since` are signed notes; one that does not open with the key is an EvidenceBroken of its own.
    """
    trusted = (TrustedKey(key=key),)
    remembered = [open_checkpoint(note, trusted) for note in since]
    with store.whole_log() as (head, leaves, hashes):
        return verify_log(leaves, head.checkpoint_text, trusted, since=remembered, hashes=hashes)


class Witness:
    """Publishes each new checkpoint, and remembers how that went for `doctor`."""

    def __init__(self, *, directory: Path | None, url: str) -> None:
        self.directory = directory
        self.url = url
        self.published_size = 0
        self.published_at: Instant | None = None
        self.fault = ""
        self._lock = threading.Lock()

    @property
    def configured(self) -> bool:
        """Whether there is any place outside."""
        return bool(self.directory or self.url)

    def publish(self, house: House) -> None:
        """Publish the newest checkpoint to every place, unless all have it.

        Raises:
            WorldFailed, EvidenceBroken: kept as `fault` too, so that `doctor` tells it.
        """
        with self._lock:
            head = house.store.head()
            if not self.configured or not head.size:
                return
            if head.size == self.published_size and not self.fault:
                self.published_at = house.now()
                return
            try:
                self._publish(head.checkpoint_text)
            except TidegateError as fault:
                self.fault = fault.message
                raise
            self.fault, self.published_size, self.published_at = "", head.size, house.now()

    def latest(self) -> str | None:
        """The newest checkpoint kept in the directory, not opened; None when there is none yet.

        Raises:
            WorldFailed: it is there and cannot be read.
        """
        if self.directory is None:
            return None
        try:
            with (self.directory / LATEST).open("rb") as file:
                return file.read(LONGEST_NOTE + 1).decode()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as fault:
            why = fault.strerror if isinstance(fault, OSError) else "it is no UTF-8"
            raise WorldFailed(
                "witness_unreadable",
                f"witness directory: cannot read `{LATEST}`: {why}",
                "mend its rights; the checkpoints beside it are copies by size",
            ) from None

    def as_json(self) -> dict[str, Json]:
        """For `doctor`."""
        return {
            "configured": self.configured,
            "published_size": self.published_size,
            "published_at": wire(self.published_at) if self.published_at else None,
            "fault": self.fault,
        }

    def _publish(self, note: str) -> None:
        if self.directory is not None:
            try:
                self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
                publish_to_directory(self.directory, note)
            except OSError as fault:
                raise WorldFailed(
                    "witness_unwritable",
                    f"witness directory: {fault.strerror}",
                    "make room or mend its rights",
                ) from None
        if self.url:
            publish_over_http(self.url, note)


def _documents(store: Store, digests: Iterable[str]) -> dict[str, bytes]:
    found = {}
    for digest in digests:
        data = store.document(digest)
        if data is None:
            raise EvidenceBroken("document_lost", f"document `{digest}`", "kept text", "none")
        found[digest] = data
    return found
