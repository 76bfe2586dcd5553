"""What the API shows of health and evidence, wired from `diagnose/` and `flow/proving`."""

from dataclasses import replace
from datetime import timedelta

from tidegate.base.canonical import Json
from tidegate.base.errors import AskedWrongly, TidegateError, WorldFailed
from tidegate.base.when import Instant, show_duration
from tidegate.connectors.port import Trouble
from tidegate.diagnose.check import Diagnosis
from tidegate.diagnose.doctor import examine
from tidegate.diagnose.examined import TargetSeen, published
from tidegate.diagnose.lateness import BY, LONGEST_SINCE, lateness_report
from tidegate.diagnose.looking import InForce, Places, look
from tidegate.diagnose.paths_looking import Asked, look_for_ways
from tidegate.diagnose.paths_told import Ways
from tidegate.diagnose.trace import Trace, gather, trace
from tidegate.diagnose.verify import Verified, verify
from tidegate.evidence.checkpoint import write_keys
from tidegate.evidence.seal import read_event
from tidegate.finding import FindingState
from tidegate.flow.allowing import Verb, allow_house
from tidegate.flow.finding import MOST_LOOKED_AT, list_findings
from tidegate.flow.gating import shut_at_filing
from tidegate.flow.holding import hold_of, person_of
from tidegate.flow.house import Actor, House
from tidegate.flow.meaning import person_meant
from tidegate.flow.people import shown_name
from tidegate.flow.proving import pack
from tidegate.flow.reading import find_grant, find_request
from tidegate.flow.standing import untold
from tidegate.main.config import database_path
from tidegate.main.groups import empty_groups
from tidegate.main.keys import log_keys
from tidegate.main.wiring import Running, clock, read_signer
from tidegate.shell.api.insight import Insight
from tidegate.store import Wanted

MOST_NAMED = 20  # findings beside the ways of one person: `tidegate findings list` has all


def make_insight(running: Running) -> Insight:
    """The callables behind the evidence and health routes."""
    house = running.house
    key = read_signer(running.config).verifier()
    keys = write_keys(log_keys(house.store, key))  # they do not change while the server runs

    def show_trace(actor: Actor, some_id: str) -> dict[str, Json]:
        return trace_of(running, actor, some_id).as_json()

    def show_verify(actor: Actor, some_id: str) -> dict[str, Json]:
        return verified(running, actor, some_id).as_json()

    def show_paths(actor: Actor, person: str, target: str) -> dict[str, Json]:
        return ways(running, actor, person, target).as_json()

    def show_doctor(actor: Actor) -> dict[str, Json]:
        allow_house(house, actor, Verb.AUDIT)
        return diagnosis(running).as_json()

    def consistency(old: int) -> dict[str, Json]:
        head = house.store.head()
        if not 0 <= old <= head.size:
            raise AskedWrongly(
                "bad_size",
                f"expected a size from 0 to {head.size}, got {old}",
                "a larger remembered size means the log was rolled back",
            )
        return {
            "old": old,
            "size": head.size,
            "hashes": [part.hex() for part in house.store.consistency(old)],
            "checkpoint": head.checkpoint_text,
        }

    def show_lateness(actor: Actor, since: timedelta, by: str, target: str) -> dict[str, Json]:
        allow_house(house, actor, Verb.AUDIT)
        if by not in BY:
            raise AskedWrongly("bad_by", f"expected one of {', '.join(BY)}, got `{by}`", "choose")
        if not timedelta(0) < since <= LONGEST_SINCE:
            longest = show_duration(LONGEST_SINCE)
            got = show_duration(since)
            raise AskedWrongly(
                "bad_since", f"expected at most {longest}, got {got}", "ask for less"
            )
        return lateness_report(house.store, house.now(), since, by=by, target=target)

    return Insight(
        trace=show_trace,
        verify=show_verify,
        paths=show_paths,
        doctor=show_doctor,
        pack=lambda actor, some_id: pack(house, log_keys(house.store, key), actor, some_id),
        checkpoint=lambda: house.store.head().checkpoint_text,
        keys=lambda: keys,
        consistency=consistency,
        lateness=show_lateness,
    )


def trace_of(running: Running, actor: Actor, some_id: str) -> Trace:
    """The walk of a request the actor may see."""
    house = running.house
    found = find_request(house, actor, some_id)
    events, request, grants = gather(house.store, found.id)
    return trace(
        events,
        request,
        grants,
        now=house.now(),
        names=lambda principal: shown_name(house, principal),
        texts=house.store.text,
        beats=house.store.beats(),
    )


def verified(running: Running, actor: Actor, some_id: str) -> Verified:
    """A look into the cloud now, at a grant the actor may see, held against its evidence."""
    house = running.house
    grant = find_grant(house, actor, some_id, Verb.SEE)
    hold = hold_of(house, grant) if grant.ends_at else None
    assignment = house.store.assignment(grant.assignment) if grant.assignment else None
    others = tuple(name for name in (assignment.holders if assignment else ()) if name != grant.id)
    # Without a hold nothing was ever asked of a cloud. With one, its target may be long out of the
    # catalogue: the hold has it from the entry the grant was opened under.
    target = hold.target if hold else house.laws.catalogue.target(grant.role.partition("/")[0])
    return verify(
        grant,
        hold,
        house.connector(target.connector),
        [read_event(leaf) for _, leaf in house.store.events(grant.request)],
        now=house.now(),
        others=others,
        names=lambda principal: shown_name(house, principal),
    )


def ways(running: Running, actor: Actor, person: str, target_id: str) -> Ways:
    """Every way a person the actor may ask about has to a target now."""
    house = running.house
    target = house.laws.catalogue.target(target_id)
    principal = person_meant(house, actor, person, target)
    found = look_for_ways(
        house.store,
        Asked(
            principal=principal.id,
            person=person_of(house, principal.id),
            target=target,
            roles=tuple(
                role
                for _, role in sorted(house.laws.catalogue.roles.items())
                if role.target == target.id
            ),
            connector=lambda: house.connector(target.connector),
            hold_of=lambda grant: hold_of(house, grant),
            names=lambda name: shown_name(house, name),
            now=house.now(),
        ),
    )
    return replace(found, findings=findings_of(house, actor, principal.id, target.id))


def findings_of(
    house: House, actor: Actor, principal: str, target: str
) -> tuple[tuple[str, str], ...]:
    """What is open about a person on a target, as far as the actor may see it: id and words."""
    live = Wanted(target=target, states=frozenset({FindingState.OPEN, FindingState.ASSIGNED}))
    seen, _ = list_findings(house, actor, live, MOST_LOOKED_AT, None)
    mine = [(one.id, one.says) for one in seen if one.principal == principal]
    return tuple(mine[:MOST_NAMED])


def diagnosis(running: Running) -> Diagnosis:
    """The health of the whole installation."""
    house, config, witness = running.house, running.config, running.witness
    groups = house.laws.groups
    newest, unread = None, ""
    try:
        newest = witness.latest()
    except TidegateError as fault:
        unread = fault.message
    seen = look(
        house.store,
        house.connectors,
        InForce(
            rules=house.laws.rules,
            catalogue=house.laws.catalogue,
            groups=groups.names,
            empty=empty_groups(groups),
            fault=running.watch.fault,
        ),
        keys=log_keys(house.store, read_signer(config).verifier()),
        witness=published(witness.seen(), unread),
        places=Places(
            database=database_path(config),
            journal=config.path(config.evidence.journal),
            witnessed=newest,
        ),
        clock=clock,
    )
    if seen.kept and (waiting := tuple(one.as_panic() for one in house.wanted.all())):
        seen = replace(seen, kept=replace(seen.kept, panics=(*waiting, *seen.kept.panics)))
    unseen = _untold(house)
    targets = (
        replace(_gated(house, one, seen.now), administrators=unseen.get(one.target))
        for one in seen.targets
    )
    return examine(replace(seen, targets=tuple(targets)))


def _untold(house: House) -> dict[str, Trouble]:
    """By target, why who administers its account is not told; where the database is there."""
    try:
        return untold(house)
    except WorldFailed:  # said elsewhere
        return {}


def _gated(house: House, seen: TargetSeen, now: Instant) -> TargetSeen:
    """With the health gate's word on it, by this very look."""
    target = house.laws.catalogue.targets.get(seen.target)
    if target is None:
        return seen
    if seen.health is not None:
        house.looks.note(seen.target, seen.health, now)
    try:
        return replace(seen, gate=shut_at_filing(house, target, now))
    except TidegateError:  # the database: said elsewhere
        return seen
