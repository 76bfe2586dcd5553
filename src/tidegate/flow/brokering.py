"""Brokering: one credential for the holder of an open grant, sealed before it leaves the house."""

from tidegate.base.duty import Duty
from tidegate.base.when import wire
from tidegate.connectors.port import Credential
from tidegate.flow.allowing import Verb
from tidegate.flow.erranding import ask_to_mint
from tidegate.flow.house import Actor, House
from tidegate.flow.minting import mint
from tidegate.flow.reading import find_grant
from tidegate.grant import Grant
from tidegate.session import may_issue


def issue(house: House, actor: Actor, some_id: str) -> tuple[Grant, str, Credential]:
    """Mint a credential for the actor's open grant: (grant, session id, credential).

    A process that may not open asks one that may (`flow/erranding.py`).

    The material exists only in the return value. When the session cannot be sealed (the grant began
    to close, the evidence cannot be written) it is dropped and nobody ever holds it.

    Raises:
        NotAllowed: not theirs, not open, past the end; nothing was minted, or it was dropped.
        WorldFailed: the cloud or the evidence; nothing was handed out.
    """
    grant = find_grant(house, actor, some_id, Verb.USE)
    may_issue(grant, actor.id, house.opening_now())
    make = mint if Duty.OPEN in house.duties else ask_to_mint
    session, credential = make(house, grant.id, actor.id)
    return house.store.grant(grant.id), session, credential


def as_plain(grant: Grant, session: str, credential: Credential) -> dict[str, str]:
    """The credential as the API hands it out, once."""
    if grant.ends_at is None:
        raise RuntimeError(f"credential of {grant.id} without an end")
    return {
        "kind": credential.kind,
        **credential.material,
        "key_id": credential.key_id,
        "session": session,
        "grant": grant.id,
        "issued_at": wire(credential.issued_at),
        "expires_at": wire(credential.expires_at),
        "bound_until": wire(credential.bound_until),
        "ends_at": wire(grant.ends_at),
        "window_ends_at": wire(grant.ends_at - grant.grace),
    }
