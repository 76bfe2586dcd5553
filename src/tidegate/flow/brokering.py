"""Brokering: one credential for the holder of an open grant, sealed before it leaves the house."""

from tidegate.base.errors import NotAllowed, Stale
from tidegate.base.ids import SESSION
from tidegate.base.when import wire
from tidegate.connectors.port import Credential
from tidegate.flow.allowing import Verb
from tidegate.flow.holding import hold_of
from tidegate.flow.house import Actor, House
from tidegate.flow.reading import find_grant
from tidegate.flow.stopping import stop_says, stopped
from tidegate.grant import Grant
from tidegate.session import issued, may_issue

TRIES = 3


def issue(house: House, actor: Actor, some_id: str) -> tuple[Grant, str, Credential]:
    """Mint a credential for the actor's open grant: (grant, session id, credential).

    The material exists only in the return value. When the session cannot be sealed (the grant began
    to close, the evidence cannot be written) it is dropped and nobody ever holds it.

    Raises:
        NotAllowed: not theirs, not open, past the end; nothing was minted, or it was dropped.
        WorldFailed: the cloud or the evidence; nothing was handed out.
    """
    grant = find_grant(house, actor, some_id, Verb.USE)
    now = house.opening_now()
    may_issue(grant, actor.id, now)
    if panic := stopped(house, grant.principal, grant.role, now):
        raise NotAllowed("frozen", stop_says(panic, now), f"see `tidegate trace {grant.id}`")
    hold = hold_of(house, grant)
    connector = house.connector(hold.target.connector)
    if not connector.powers(hold.role.kind).issues:
        raise NotAllowed(
            "issues_nothing",
            f"`{grant.role}` gives no credentials; sign in at the cloud's own portal",
            f"see `tidegate trace {grant.id}`",
        )
    session = house.new_id(SESSION, now)
    credential = connector.issue(hold, session, now)
    for _ in range(TRIES):
        step = issued(
            grant,
            session,
            credential.key_id,
            credential.expires_at,
            now,
            bound_until=hold.ends_at,
        )
        try:
            house.store.commit(step)
            return grant, session, credential
        except Stale:
            grant = house.store.grant(grant.id)
            may_issue(grant, actor.id, house.opening_now())
    raise Stale("busy", f"`{grant.id}` keeps changing", "try again in a moment")


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
