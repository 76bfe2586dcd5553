"""Proving: packs that leave the house."""

from collections.abc import Iterable

from tidegate.base.errors import EvidenceBroken, WorldFailed
from tidegate.evidence.checkpoint import Keys
from tidegate.evidence.life import commitments, digests_named
from tidegate.evidence.pack import build_pack
from tidegate.evidence.proof import Proof
from tidegate.evidence.seal import read_event
from tidegate.flow.allowing import Verb
from tidegate.flow.house import Actor, House
from tidegate.flow.reading import find_grant
from tidegate.store import Store

TRIES = 10  # to read a chain and its proofs under one checkpoint while the log grows


def pack(house: House, keys: Keys, actor: Actor, some_id: str) -> tuple[str, bytes]:
    """The evidence pack of a grant the actor may see: (file name, bytes). `keys`: all of the log.

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
        keys=list(keys),
        disclosures=house.store.disclosures(named),
        documents=_documents(house.store, digests_named(events)),
    )
    return f"{grant.id}.pack.zip", data


def _documents(store: Store, digests: Iterable[str]) -> dict[str, bytes]:
    found = {}
    for digest in digests:
        data = store.document(digest)
        if data is None:
            raise EvidenceBroken("document_lost", f"document `{digest}`", "kept text", "none")
        found[digest] = data
    return found
