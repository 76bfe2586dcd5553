"""Minting: one credential, its session sealed where it is made, by a process that may open."""

from tidegate.base.errors import NotAllowed, Stale, Unreachable, WorldFailed
from tidegate.base.ids import SESSION
from tidegate.base.when import Instant
from tidegate.connectors.port import Credential
from tidegate.flow.holding import hold_of
from tidegate.flow.house import House
from tidegate.flow.stopping import stop_says, stopped
from tidegate.session import issued, may_issue

TRIES = 3


def mint(
    house: House, grant_id: str, principal: str, until: Instant | None = None
) -> tuple[str, Credential]:
    """Mint a credential of the principal's open grant: session id and credential.

    The material exists only in the return value. When the session cannot be sealed (the grant began
    to close, the evidence cannot be written), or `until` has passed by the database's clock, it is
    dropped and nobody ever holds it.

    Raises:
        NotAllowed: not theirs, not open, past the end; nothing was minted, or it was dropped.
        WorldFailed: the cloud or the evidence, or it is too late; `log_forked`: an older database
            does not know which ends came since. Nothing was handed out.
    """
    if not house.looked_back:
        raise WorldFailed(
            "still_starting",
            "expected a server that has read its closing journal, got one that is still reading it "
            "or cannot",
            "try again in a few seconds; if it goes on, its log says why",
        )
    now = house.opening_now()
    if forked := house.forked(now):
        raise WorldFailed(
            forked.code,
            f"expected a log that goes on from what was witnessed, got another: {forked.message}",
            forked.help,
        )
    grant = house.store.grant(grant_id)
    may_issue(grant, principal, now)
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
        if until is not None and house.store.now() >= until:
            raise Unreachable("too_late", "expected an answer in time, got it later", "ask again")
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
            return session, credential
        except Stale:
            grant = house.store.grant(grant.id)
            may_issue(grant, principal, house.opening_now())
    raise Stale("busy", f"`{grant.id}` keeps changing", "try again in a moment")
