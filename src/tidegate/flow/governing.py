"""Governing: which rules, catalogue and groups are in force, and sealing when they change."""

import orjson
import structlog

from tidegate.base.canonical import canonical
from tidegate.base.duty import workers
from tidegate.base.fact import SYSTEM, Fact, Step
from tidegate.base.when import Instant, wire
from tidegate.flow.house import House, Laws
from tidegate.flow.people import join_groups

log = structlog.get_logger("tidegate.governing")


def start_log(house: House, origin: str, key: str) -> None:
    """Seal the first event of a new log. Does nothing when the log has begun."""
    if house.store.head().size:
        return
    data = {"origin": origin, "key": key, "at": wire(house.now())}
    fact = Fact(name="log.started", subject=SYSTEM, actor=SYSTEM, data=data)
    house.store.commit(Step((), (fact,)))


def put_in_force(house: House, laws: Laws, *, starting: bool = False) -> list[str]:
    """Make `laws` the ones in force, sealing what changed: names of `rules`, `catalogue`, `groups`.

    With `starting` nobody changed a file just now. Then rules that were replaced while another
    process that lives judges by the newer ones are not sealed over those: two machines with
    different files would take turns for ever. `house.apart` says so, and nothing opens here until
    the files are the same, or the others are gone. Call it again to see.

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
    apart = _apart(house, before["rules"], rules) if starting and "rules" in changed else ""
    if apart:
        changed.remove("rules")
        if apart != house.apart:
            log.error("the rules of this machine are not those in force", why=apart)
    regrouped = join_groups(house, laws.groups, now) > 0
    if changed:
        facts = [_activated(subject, found[subject], before[subject], now) for subject in changed]
        house.store.commit(Step((), tuple(facts)))
    house.apart = apart
    house.laws = laws  # after the groups: whoever sees the laws sees the memberships with them
    return [*changed, "groups"] if regrouped else changed


def last_digest(house: House, subject: str) -> str | None:
    """The digest last sealed as in force for `rules` or `catalogue`; None at the beginning."""
    events = house.store.events(subject)
    return str(orjson.loads(events[-1][1])["data"]["digest"]) if events else None


def _apart(house: House, sealed: str | None, ours: str) -> str:
    """How another process that lives judges by the rules last sealed, which replaced ours; empty
    when none does, or ours are new.
    """
    events = house.store.events("rules")
    if ours not in {orjson.loads(leaf)["data"]["digest"] for _, leaf in events}:
        return ""
    now = house.store.now()
    for other in workers(house.store.beats()):
        if other.rules == sealed and other.id != house.me and not other.silent(now):
            return (
                f"this machine has rules {ours[:19]}…, which were replaced by {other.rules[:19]}…,"
                f" and `{other.id}` judges by those"
            )
    return ""


def _activated(subject: str, found: str, before: str | None, now: Instant) -> Fact:
    return Fact(
        name=f"{subject}.activated",
        subject=subject,
        actor=SYSTEM,
        data={"digest": found, "before": before, "at": wire(now)},
    )
