"""Governing: which rules, catalogue and groups are in force, and sealing when they change."""

import orjson

from tidegate.base.canonical import canonical
from tidegate.base.fact import SYSTEM, Fact, Step
from tidegate.base.when import Instant, wire
from tidegate.flow.house import House, Laws
from tidegate.flow.people import join_groups


def start_log(house: House, origin: str, key: str) -> None:
    """Seal the first event of a new log. Does nothing when the log has begun."""
    if house.store.head().size:
        return
    data = {"origin": origin, "key": key, "at": wire(house.now())}
    fact = Fact(name="log.started", subject=SYSTEM, actor=SYSTEM, data=data)
    house.store.commit(Step((), (fact,)))


def put_in_force(house: House, laws: Laws) -> list[str]:
    """Make `laws` the ones in force, sealing what changed: names of `rules`, `catalogue`, `groups`.

    The documents are kept first, so that the digest an event names can always be read. Rules and
    catalogue are sealed together and last: nothing that can fail stands between the event that says
    they are in force and their being so.
    """
    now = house.now()
    rules = house.store.keep_document("rules", canonical(laws.rules.document()))
    catalogue = house.store.keep_document("catalogue", canonical(laws.catalogue.document()))
    found = {"rules": rules, "catalogue": catalogue}
    before = {subject: last_digest(house, subject) for subject in found}
    changed = [subject for subject in found if found[subject] != before[subject]]
    regrouped = join_groups(house, laws.groups, now) > 0
    if changed:
        facts = [_activated(subject, found[subject], before[subject], now) for subject in changed]
        house.store.commit(Step((), tuple(facts)))
    house.laws = laws  # after the groups: whoever sees the laws sees the memberships with them
    return [*changed, "groups"] if regrouped else changed


def last_digest(house: House, subject: str) -> str | None:
    """The digest last sealed as in force for `rules` or `catalogue`; None at the beginning."""
    events = house.store.events(subject)
    return str(orjson.loads(events[-1][1])["data"]["digest"]) if events else None


def _activated(subject: str, found: str, before: str | None, now: Instant) -> Fact:
    return Fact(
        name=f"{subject}.activated",
        subject=subject,
        actor=SYSTEM,
        data={"digest": found, "before": before, "at": wire(now)},
    )
