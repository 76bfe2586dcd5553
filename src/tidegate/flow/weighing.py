"""Weighing: what the rules in force say of something asked for, before and without filing it.

Two kinds of asking: for a new access, and for a later end of one that is open. Nobody gets past a
rule's `@max` by asking in parts: what is held already counts with what is asked for.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta

from tidegate.base.canonical import canonical
from tidegate.base.errors import AskedWrongly
from tidegate.base.personal import Personal
from tidegate.base.text import LONGEST_REASON, clean_text
from tidegate.base.when import Instant, show_duration, wire
from tidegate.connectors.port import Exposure
from tidegate.extend import check_may_extend
from tidegate.flow import gating
from tidegate.flow.allowing import Verb
from tidegate.flow.house import Actor, House, Laws
from tidegate.flow.reading import find_grant
from tidegate.flow.stopping import stop_says, stopped
from tidegate.grant import Grant, GrantState
from tidegate.policy.decide import TOO_LONG, Ask, Verdict, decide
from tidegate.request import Extension, Item, Request, RequestState, Terms, check_terms

_TICKET = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9#/_.:-]{0,98}[A-Za-z0-9])?", re.ASCII)
MOST_HELD = 1_000  # grants of one role and person; their lengths add up, so rules allow fewer
HOLDING = frozenset({GrantState.INTENDED, GrantState.OPEN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What somebody typed, parsed.

    `extends` names the grant whose window gets `duration` longer; `roles` may be empty then.
    `again`: on purpose, though the role is held already.
    """

    roles: tuple[str, ...]
    duration: timedelta
    reason: str
    ticket: str | None = None
    start: Instant | None = None
    emergency: bool = False
    extends: str = ""
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """What the rules in force say about it. `refusal` is (code, why), or None when permitted."""

    terms: Terms
    reason: Personal
    verdicts: tuple[Verdict, ...]
    exposures: tuple[Exposure, ...]
    refusal: tuple[str, str] | None


def weigh(house: House, actor: Actor, asked: Asked, now: Instant) -> Weighed:
    """Everything filing would decide, without filing. Raises AskedWrongly for what cannot be asked.

    Keeps the catalogue entries it names as documents: closing and packs need them for ever.
    """
    if asked.extends:
        return _weigh_extension(house, actor, asked, now)
    laws = house.laws
    reason = clean_text("reason", asked.reason, LONGEST_REASON)
    ticket = _ticket(asked.ticket)
    check_terms(asked.roles, asked.duration, asked.start, now)
    items, verdicts, exposures = [], [], []
    refusal: tuple[str, str] | None = None
    for role_id in asked.roles:
        role = laws.catalogue.role(role_id)
        connector = house.connector(laws.catalogue.target(role.target).connector)
        _check_floor(role_id, asked.duration, connector.powers(role.kind).floor)
        held = held_by(house, actor.id, role_id, asked.start or now)
        if held and not asked.again:
            refusal = refusal or _already(held[0])
        verdict = judge(laws, actor.id, actor.groups, role_id, asked, now, held)
        verdicts.append(verdict)
        exposures.append(connector.exposure(laws.catalogue.target(role.target), role))
        items.append(_item(house, laws, role_id, verdict))
    sealed_reason = house.personal(reason)
    return Weighed(
        terms=Terms(
            principal=actor.id,
            items=tuple(items),
            duration=asked.duration,
            start=asked.start,
            reason=sealed_reason.commitment,
            ticket=ticket,
            emergency=asked.emergency,
            rules_digest=laws.rules.digest,
        ),
        reason=sealed_reason,
        verdicts=tuple(verdicts),
        exposures=tuple(exposures),
        refusal=(
            _refusal(asked.roles, verdicts)
            or refusal
            or _frozen(house, actor, asked, now)
            or _shut(house, asked, now)
        ),
    )


def judge(
    laws: Laws,
    principal: str,
    groups: frozenset[str],
    role_id: str,
    asked: Asked,
    now: Instant,
    held: Iterable[Grant] = (),
) -> Verdict:
    """The verdict of `laws` on one role, for a window that starts at `asked.start` or `now`.

    `held` are other grants of the role and principal that reach into that window: a rule must cover
    them and this one together. The caller reads `house.laws` once, so that the verdict and the
    digest it is sealed with are of one rule set though another comes into force meanwhile.
    """
    start = asked.start or now
    return decide(
        laws.rules,
        Ask(
            principal=principal,
            groups=groups,
            group_parents=laws.groups.within,
            role=role_id,
            target=laws.catalogue.target(role_id.partition("/")[0]),
            emergency=asked.emergency,
            duration=asked.duration,
            start=start,
            ticket=asked.ticket,
            covers=together(held, start, asked.duration),
        ),
    )


def judge_longer(
    laws: Laws, principal: str, groups: frozenset[str], grant: Grant, by: timedelta, terms: Asked
) -> Verdict:
    """The verdict on a grant whose window gets `by` longer: of all of it, from its start on.

    So `@max`, and every condition on a length or an end, holds of what was had and what is asked
    for together. Two extensions are never judged apart.
    """
    window, since = grant.window_ends_at, grant.held_since
    if window is None or since is None:
        raise RuntimeError(f"extension of {grant.id} before its end was fixed")
    whole = replace(terms, duration=window + by - since, start=since)
    return judge(laws, principal, groups, grant.role, whole, since)


def held_by(house: House, principal: str, role_id: str, at: Instant, but: str = "") -> list[Grant]:
    """Grants of that role that `principal` holds, or is about to, and that last beyond `at`."""
    found = house.store.grants(principal=principal, role=role_id, states=HOLDING, limit=MOST_HELD)
    return [one for one in found if one.id != but and one.ends_at and one.ends_at > at]


def together(held: Iterable[Grant], start: Instant, duration: timedelta) -> timedelta:
    """How long a role is had by `held` grants and one more from `start` on; zero with none held.

    The longer of two: from the first of them to the last end, and all their windows added up, so
    that neither one after the other nor side by side gives more than one request could.
    """
    spans, since, until = duration, start, start + duration
    found = False
    for grant in held:
        if grant.window_ends_at is None or grant.held_since is None:
            continue
        found = True
        spans += grant.duration + grant.extended
        since = min(since, grant.held_since)
        until = max(until, grant.window_ends_at)
    return max(spans, until - since) if found else timedelta(0)


def _weigh_extension(house: House, actor: Actor, asked: Asked, now: Instant) -> Weighed:
    """As `weigh`, for a later end. Raises Stale `ended` or `not_open` too, NotAllowed, NotFound."""
    laws = house.laws
    grant = find_grant(house, actor, asked.extends, Verb.USE)
    window = check_may_extend(grant, now)
    if asked.roles not in ((), (grant.role,)) or asked.start is not None or grant.ends_at is None:
        raise AskedWrongly(
            "bad_extension",
            f"expected an extension of `{grant.role}` without a start, as `{grant.id}` has it",
            "leave role and start out, or ask for something new: `tidegate request`",
        )
    check_terms((grant.role,), asked.duration, None, now)
    before = house.store.request(grant.request).terms
    asked = replace(
        asked,
        ticket=_ticket(asked.ticket) or before.ticket,
        emergency=before.emergency,
        roles=(grant.role,),
    )
    verdict = judge_longer(laws, actor.id, actor.groups, grant, asked.duration, asked)
    refusal = (
        _longer_refusal(house, grant, window, verdict)
        or _frozen(house, actor, asked, now)
        or _shut(house, asked, now)
    )
    until = window + asked.duration + verdict.grace
    if refusal is None and until <= grant.ends_at:
        raise AskedWrongly(
            "not_later",
            f"expected an end after {wire(grant.ends_at)}, got {wire(until)}: no grace is given"
            " by the rule that would carry it",
            "ask for more",
        )
    target, role = laws.catalogue.targets.get(grant.role.partition("/")[0]), None
    role = laws.catalogue.roles.get(grant.role)
    exposure = Exposure(attended=grant.exposure, unattended=grant.unattended)
    if target and role:
        exposure = house.connector(target.connector).exposure(target, role)
    sealed_reason = house.personal(clean_text("reason", asked.reason, LONGEST_REASON))
    return Weighed(
        terms=Terms(
            principal=actor.id,
            items=(_item(house, laws, grant.role, verdict, grant.role_digest),),
            duration=asked.duration,
            start=None,
            reason=sealed_reason.commitment,
            ticket=asked.ticket,
            emergency=asked.emergency,
            rules_digest=laws.rules.digest,
            extends=Extension(grant=grant.id, ends_at=grant.ends_at, until=until),
        ),
        reason=sealed_reason,
        verdicts=(verdict,),
        exposures=(exposure,),
        refusal=refusal,
    )


def check_one_at_a_time(house: House, terms: Terms, but: str = "") -> None:
    """Refuse a second undecided extension of one grant. Raises AskedWrongly."""
    pending = frozenset({RequestState.PENDING})
    for other in house.store.requests(states=pending, principal=terms.principal):
        same = terms.extends and other.terms.extends
        if same and other.id != but and same.grant == (terms.extends and terms.extends.grant):
            raise AskedWrongly(
                "extension_pending",
                f"`{other.id}` asks for a later end of `{same.grant}` already",
                f"change it: `tidegate request --edit {other.id}`, or `tidegate withdraw`",
            )


def asked_of(request: Request) -> Asked:
    """What a request asked for, without its reason: for judging it anew."""
    terms = request.terms
    return Asked(
        roles=tuple(item.role for item in terms.items),
        duration=terms.duration,
        reason="",
        ticket=terms.ticket,
        start=terms.start,
        emergency=terms.emergency,
    )


def _item(house: House, laws: Laws, role_id: str, verdict: Verdict, role_digest: str = "") -> Item:
    if not role_digest:
        house.store.keep_document("entry", canonical(laws.catalogue.entry(role_id)))
        role_digest = laws.catalogue.entry_digest(role_id)
    return Item(
        role=role_id,
        role_digest=role_digest,
        carrier=verdict.carrier if verdict.allowed else "",
        requirement=verdict.requirement.text if verdict.requirement else "",
        rules=verdict.rules,
        grace=verdict.grace,
    )


def _longer_refusal(
    house: House, grant: Grant, window: Instant, verdict: Verdict
) -> tuple[str, str] | None:
    """The rules' no to an extension. One that is too long is told the longest there is."""
    catalogue = house.laws.catalogue
    if grant.role not in catalogue.roles or (
        catalogue.entry_digest(grant.role) != grant.role_digest
    ):
        return "role_changed", f"`{grant.role}` is not what it was when `{grant.id}` was approved"
    if verdict.allowed:
        return None
    if verdict.code != TOO_LONG or verdict.max is None or grant.held_since is None:
        return verdict.code, f"`{grant.role}`: {verdict.why}"
    had = window - grant.held_since
    left = show_duration(verdict.max - had)
    longest = f"it can be extended by {left} at most" if left != "0s" else "that is all there is"
    return TOO_LONG, (
        f"the rules allow at most {show_duration(verdict.max)} of `{grant.role}` in all, and"
        f" {show_duration(had)} are had with `{grant.id}`: {longest}"
    )


def _already(held: Grant) -> tuple[str, str]:
    until = wire(held.window_ends_at) if held.window_ends_at else "its end"
    return "already_held", (
        f"`{held.role}` is held already, by `{held.id}` until {until}; extend it instead:"
        f" `tidegate extend {held.id} --for … --reason …`"
    )


def _refusal(roles: tuple[str, ...], verdicts: list[Verdict]) -> tuple[str, str] | None:
    for role, verdict in zip(roles, verdicts, strict=True):
        if not verdict.allowed:
            return verdict.code, f"`{role}`: {verdict.why}"
    return None


def _frozen(house: House, actor: Actor, asked: Asked, now: Instant) -> tuple[str, str] | None:
    """A panic's no: no emergency passes it, for whoever panics may fear just that."""
    at = max(now, asked.start) if asked.start else now
    for role in asked.roles:
        if panic := stopped(house, actor.id, role, at):
            return "frozen", stop_says(panic, at)
    return None


def _shut(house: House, asked: Asked, now: Instant) -> tuple[str, str] | None:
    """The gate's no. A later start is gated when it comes, an emergency passes (and that shows)."""
    if asked.emergency or (asked.start is not None and asked.start > now):
        return None
    return gating.refusal(house, asked.roles, now)


def _ticket(ticket: str | None) -> str | None:
    if ticket is None or _TICKET.fullmatch(ticket):
        return ticket
    raise AskedWrongly(
        "bad_ticket",
        f"expected a ticket like `INC-4711` (at most 100 characters), got `{ticket[:40]}`",
        "give the key of the ticket, not its address or title",
    )


def _check_floor(role_id: str, duration: timedelta, floor: timedelta) -> None:
    if duration < floor:
        raise AskedWrongly(
            "below_floor",
            f"`{role_id}` can be held for {show_duration(floor)} at the least, "
            f"got {show_duration(duration)}",
            f"ask for {show_duration(floor)} or more; you can end it early with `tidegate done`",
        )
