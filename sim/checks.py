"""The checkers: one for each invariant, given what the oracle saw at the moment it saw it.

Each yields, in plain words, what breaks its invariant, and nothing when all is well. Which moments
it is asked at stands in `CHECKERS`; what is asked at each step is bounded by one key or one target.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sim.book import (
    CLAIM_WITHIN,
    CLOSING_LATE,
    JOURNAL_LOOKS,
    NEVER,
    SLACK,
    START_MS,
    Alarm,
    Ballot,
    Life,
    Seen,
    Word,
)
from sim.closer import CLOSER
from sim.ports import LATE_MS
from sim.sight import (
    acts,
    blind,
    carrying,
    first_clock,
    groups_alone,
    last_clock,
    late,
    laws_here,
    laws_since,
    may_start,
    offsets_of,
    others,
    right_until,
    set_back_since,
    since_of,
    unheard,
)
from sim.town import OPERATORS
from tidegate.base.when import parse_instant, to_ms

Checker = Callable[[Any, Seen], Iterator[str]]


def deadline_before_effect(oracle: Any, seen: Seen) -> Iterator[str]:
    """I1: intent and absolute end are durable before the cloud is called, the outcome after.

    The end is what was approved, to the millisecond; a lost reply is never called failed.
    """
    life = seen.life
    if life is None:
        if seen.what == "opening call":
            yield f"the cloud is asked to open {seen.data.grant} before its intent is sealed"
        return
    match seen.what:
        case "intended":
            said = to_ms(parse_instant(seen.data["ends_at"])) - START_MS
            if said != life.end:
                yield f"the end of {life.id} is {said - life.end} ms off what was approved"
            start = life.wish.start
            clock = first_clock(oracle, seen.process, seen.entered)
            if clock >= max(life.claim_from, start or 0) + CLAIM_WITHIN + SLACK:
                yield f"{life.id} opens after its claim-by"
            clock = last_clock(oracle, seen.process, seen.entered)
            if start is not None and clock < start:
                yield f"{life.id} opens before its start"
        case "extended":
            yield from _moved(oracle, seen, life)
        case "opening call" if life.intended_at == NEVER:
            yield f"the cloud is asked to open {life.id} before its intent is sealed"
        case "opened":
            if not life.answered:
                yield f"{life.id} is called open and no cloud said yes"
            if life.intended_at == NEVER:
                yield f"{life.id} is open and was never intended"
        case "failed":
            if life.intended_at != NEVER and acts(oracle, life) and not others(oracle, life):
                yield f"{life.id} is called failed and can act"
        case "allowed" if life.failed_at <= oracle.loop.now and seen.found in _AFTER:
            # By what another grant of the same access left, whose own end is judged for itself.
            if any(_may_act(oracle, one) for one in oracle.by_key.get(life.key, ())):
                return
            yield f"{life.id} was used and had failed"


def _may_act(oracle: Any, life: Life) -> bool:
    """Whether it was open and its sessions may act: until it is removed, and as long after as its
    role kind declares.
    """
    opened = life.opened_at != NEVER and life.failed_at == NEVER
    return opened and bool(oracle.loop.now < life.removed_at + life.place.exposure)


def _moved(oracle: Any, seen: Seen, life: Life) -> Iterator[str]:
    """An end moves by an approved extension of that grant, once, by what was approved, in time."""
    wish = seen.wish
    if wish is None or wish.extends is not life or wish.approved_at == NEVER or wish.ended:
        yield f"the end of {life.id} moved and nobody approved that"
        return
    if wish.applied:
        yield f"the end of {life.id} moved twice by {wish.request}"
    said = to_ms(parse_instant(seen.data["ends_at"])) - START_MS
    if said != life.end:
        yield f"the new end of {life.id} is {said - life.end} ms off what was approved"
    clock = first_clock(oracle, seen.process, seen.entered)
    reads_hang = oracle.world.plan.wants("store.read.slow")  # one reading lies between
    if clock >= seen.found + (40_000 if reads_hang else 1_000):
        yield f"the end of {life.id} moved {clock - seen.found} ms after its window had ended"
    if life.closing_at <= oracle.loop.now:
        yield f"the end of {life.id} moved after it began to close"


def never_stop_closing(oracle: Any, seen: Seen) -> Iterator[str]:
    """I2: closing goes on until gone. Accepted is not removed, and removed is not gone."""
    life, now = seen.life, oracle.loop.now
    if seen.what == "swept":
        yield from _left_out(oracle, seen.data)
    if life is None:
        return
    match seen.what:
        case "intended" | "opening call":
            if life.forgotten or life.closing_at < oracle.restored_at:
                yield f"{life.id} is opened again by a database that was put back"
        case "signed off":
            yield from _answered(oracle, life, seen.data)
        case "closing":
            if seen.data["reason"] == "expired" and life.intended_at != NEVER:
                clock = last_clock(oracle, seen.process, seen.entered)
                if life.met_at != NEVER:  # by the journal, whose clock may have been right since
                    clock = max(clock, life.met_at)
                # NB. without the store it ends by the journal, which may have an end before.
                known = (life.end, life.old_end, life.unheard_end)
                end = min(known) if blind(oracle, life) else life.end
                ready = min(life.readied_at, life.claim_from)
                early = clock < end and clock < ready + CLAIM_WITHIN - SLACK
                if early and life.wish.start is None:
                    yield f"{life.id} expired {life.end - clock} ms before its end"
            # NB. the house itself takes back an intent that the rules forbid by now, and ends what
            # was prolonged while nobody held anything by it.
            ended = life.counts["grant.opened"] and seen.data["reason"] in ("done", "revoked")
            nothing = life.moved_at >= 0 and not _holds(oracle, life)
            if ended and life.id not in oracle.asked_to_end and not nothing:
                yield f"{life.id} ended as {seen.data['reason']} and nobody asked for that"
            if seen.data["reason"] == "panic" and not any(
                one.covers(life.wish) for one in oracle.alarms
            ):
                yield f"{life.id} ended by a panic nobody called about it"
        case "removed":
            back = set_back_since(oracle, life)
            if not life.still_held and may_start(oracle, life) and not back:
                yield f"{life.id} is called removed while a new session could start"
        case "gone":
            yield from _wrongly_gone(oracle, life)
        case "signed in":
            if seen.found == "none open":
                yield f"a new session of {life.id} started after it was called removed"
        case "allowed" if seen.found == "tampered":
            if late(oracle, now, life.tampered_at, 40_000):
                yield f"the deny of {life.id} was taken away and is not put back"
        case "allowed" if seen.found == "closed again":
            # It may have been given and closed again before this grant was opened: its end counts.
            again = oracle.closed_again[life.key]
            since = (again, max(again, life.over_at()))
            if all(late(oracle, now, one, life.place.exposure) for one in since):
                yield f"{life.id} was used {now - again} ms after it was closed again"
        case "allowed" if seen.found == "gone":
            yield f"{life.id} was used {now - life.gone_at} ms after it was called gone"


def _holds(oracle: Any, life: Life) -> bool:
    """Whether the cloud has something that somebody could use by it."""
    cloud = oracle.world.cloud
    return life.place.own or bool(cloud.assigned(life.key, oracle.world.cloud_now()))


def _left_out(oracle: Any, alarm: Alarm) -> Iterator[str]:
    """A panic that is swept has ended all there was in its scope when it was called."""
    for life in oracle.lives.values():
        ending = min(life.closing_at, life.failed_at, life.panicked_at) != NEVER
        if life.readied_at < alarm.called_at and alarm.covers(life.wish) and not ending:
            yield f"{life.id} was left out of the panic about {alarm.scope} {alarm.name}"
    for wish in oracle.wishes.values():
        waits = wish.approved_at == NEVER and not wish.ended
        if wish.sealed_at < alarm.called_at and alarm.covers(wish) and waits:
            yield f"{wish.request} waits on after the panic about {alarm.scope} {alarm.name}"


def _answered(oracle: Any, life: Life, word: Any) -> Iterator[str]:
    """An operator answers for an end that was begun, and never for their own access."""
    if not isinstance(word, Word) or word.grant != life.id or word.login not in OPERATORS:
        yield f"the end of {life.id} was signed off and no operator did"
    elif oracle.person(word.login, since_of(oracle)) == oracle.person(
        life.wish.login, since_of(oracle)
    ):
        yield f"the end of {life.id} was signed off by who held it ({word.login})"
    if life.closing_at == NEVER or life.gone_at != NEVER:
        yield f"the end of {life.id} was signed off before it began, or after it was gone"


def _wrongly_gone(oracle: Any, life: Life) -> Iterator[str]:
    if life.removed_at == NEVER:
        yield f"{life.id} is called gone and was never removed"
    yield from _last_look(oracle, life)
    if set_back_since(oracle, life):
        return
    if may_start(oracle, life):
        yield f"{life.id} is called gone while a new session could start"
    # NB. what another system gave meanwhile, and took back unseen, is no session of it.
    given = life.key in oracle.given
    if acts(oracle, life) and not others(oracle, life) and not given:
        yield f"{life.id} is called gone while a session of it acts"


def _last_look(oracle: Any, life: Life) -> Iterator[str]:
    """What the house was shown last must not say that access is there again."""
    cloud, at, key = oracle.world.cloud, oracle.world.cloud_now(), life.key
    if life.place.own:
        denied = cloud.denied(key.account, key.native_role, life.id, at)
        before_end = oracle.loop.now + oracle.world.cloud_offset < life.end
        if -1 < life.tampered_at < life.probed_at and not denied and before_end:
            yield f"{life.id} is called gone over a probe that was allowed"
        return
    added = oracle.foreign.get(key, NEVER)
    held = any(one is not life and one.gone_at == NEVER for one in oracle.by_key.get(key, ()))
    blind = any(name.startswith(("cloud.observe", "store")) for name in oracle.world.plan.chances)
    seen_until = life.read_at if blind else max(life.read_at, oracle.loop.now - 1_000)
    if life.removed_at < added < seen_until and cloud.assigned(key, at) and not held:
        yield f"{life.id} is called gone over a list that shows it again"


def locks_on_the_end(oracle: Any, seen: Seen) -> Iterator[str]:
    """I3: after the end nothing acts, nothing starts, and no credential is handed out."""
    life, now = seen.life, oracle.loop.now
    if life is None:
        return
    match seen.what:
        case "issued":
            since = since_of(oracle)
            if since + min(offsets_of(seen.process, since)) >= life.window:
                yield f"a credential of {life.id}, asked for after its end, was sealed"
            elif life.closing_at <= now:
                yield f"a credential of {life.id} was sealed after it began to close"
        case "arming call":
            # A process that was stopped in between says what it read before.
            since = since_of(oracle)
            ends = [one.end for one in oracle.by_key.get(life.key, ()) if one.gone_at >= since]
            if life.intended_at != NEVER and seen.data > max([life.end, *ends]):
                yield f"the cloud is told to end {life.id} {seen.data - life.end} ms after its end"
        case "forged" if seen.found:
            yield f"a process did an errand for {life.id} that nobody of the house asked"
        case "signed in" if not unheard(oracle, life):
            if seen.found == "some open" and late(oracle, now, right_until(oracle, life), 5_000):
                yield f"a new session of {life.id} started {_ago(now, life)}"
        case "allowed" if seen.found == "past the cloud's deadline":
            yield f"{life.id} was used {_ago(now, life)}, past the cloud's own deadline"
        case "allowed" if seen.found == "after" and not unheard(oracle, life):
            by_journal = JOURNAL_LOOKS if life.forgotten else 0
            if late(oracle, now, right_until(oracle, life), life.place.exposure + by_journal):
                yield f"{life.id} was used {_ago(now, life)}"


def open_only_what_closes(oracle: Any, seen: Seen) -> Iterator[str]:
    """I4: nothing opens where an end is long overdue, or where a panic keeps shut."""
    life = seen.life
    if life is None or seen.process.offset:
        return
    clock = last_clock(oracle, seen.process, seen.entered)
    for alarm in oracle.alarms:
        before = alarm.called_at < since_of(oracle)
        if before and clock < alarm.until - 1_000 and alarm.covers(life.wish):
            yield f"{life.id} opened in the freeze of {alarm.scope} {alarm.name}"
    if life.wish.emergency:
        return
    for other in oracle.closing.get(life.place.target, {}).values():
        if other.key == life.key and other.ending_since < since_of(oracle) - 1_000:
            yield f"{life.id} opened while {other.id} of the same access was closing"
    overdue = oracle.loop.now - CLOSING_LATE - SLACK - 30_000
    for other in oracle.closing.get(life.place.target, {}).values():
        if other is not life and other.ending_since < overdue:
            yield f"{life.id} opened while {other.id} was late to close"
            return


def _stands(oracle: Any, life: Life) -> bool:
    return life.stood or life.key in oracle.foreign


def only_what_is_ours(oracle: Any, seen: Seen) -> Iterator[str]:
    """I5: what is not ours is never removed, and nobody is cut off before the end."""
    life = seen.life
    match seen.what:
        case "closing call" if life is None:
            yield f"the cloud is asked to close {seen.data.grant}, which nobody opened"
        case "opening call" if life is not None and not life.may_stand and seen.data.stood_before:
            yield f"{life.id} is said to have stood before"
        case "opened" if life is not None and life.said_stood and not _stands(oracle, life):
            yield f"{life.id} is open as what stood before, and nothing did"
        case "acts":
            verb, duty = seen.found
            if duty not in seen.process.duties:
                yield f"{seen.process.name} may not {duty}, and does `{verb}` of {seen.data.grant}"
        case "alarmed":
            alarm = seen.data
            if alarm is None:
                yield f"{seen.found} was called and nobody did"
            elif alarm.by not in OPERATORS and (alarm.scope, alarm.name) != ("principal", alarm.by):
                yield f"{alarm.by} ended everything of {alarm.scope} {alarm.name}"
        case "denied" if life is not None:
            yield from _cut_early(oracle, life, seen.data)
        case "turned away" if life is not None:
            now = oracle.loop.now
            held = life.opened_at < now - 5_000 and now < life.over_at()
            moving = life.moved_at >= 0 and now < max(life.moved_at, life.old_end) + SLACK
            if held and not moving and not life.stood and oracle.last_disturbed == -NEVER:
                yield f"{life.id} gave no new session {life.over_at() - now} ms before its end"


def _cut_early(oracle: Any, life: Life, credential: Any) -> Iterator[str]:
    """In a world where nothing fails, nobody loses access before the end."""
    now = oracle.loop.now
    if oracle.last_disturbed > -NEVER or now >= life.over_at() or life.tampered_at >= 0:
        return
    issued_at = to_ms(credential.issued_at) - START_MS
    if issued_at < life.intended_at or life.stood:
        return
    if life.moved_at >= 0 and now < max(life.moved_at, life.old_end) + SLACK:
        return  # the cloud is told a moment after it was sealed
    if life.place.own and now >= oracle.bound[credential.key_id]:
        return  # each credential carries the end it was given under
    if _refused_from_the_start(oracle, life, credential):
        return
    if to_ms(credential.expires_at) - START_MS > now:
        yield f"{life.id} was cut {life.end - now} ms before its end"


def _refused_from_the_start(oracle: Any, life: Life, credential: Any) -> bool:
    """Whether it was taken while the cut of an earlier end of the same access reached as far: the
    access is cut until its removal may have arrived everywhere, and opened anew before that.
    """
    issued_at, cloud = credential.issued_at, oracle.world.cloud
    cut_before = cloud.cut_before(life.key, issued_at)
    if cut_before is None or cut_before < issued_at:
        return False
    ends = (one.removed_at for one in oracle.by_key[life.key] if one is not life)
    return any(at <= oracle.loop.now and to_ms(issued_at) - START_MS <= at + LATE_MS for at in ends)


def journal_before_cloud(oracle: Any, seen: Seen) -> Iterator[str]:
    """I6: before a cloud is asked to open, the closing journal has the grant and its end."""
    if seen.life is not None and seen.life.id not in oracle.journal:
        yield f"the cloud is asked to open {seen.life.id}, not in the closing journal"


def evidence_is_complete(oracle: Any, seen: Seen) -> Iterator[str]:
    """I7: what is sealed took place, once, and is about something that was sealed before."""
    name = seen.found
    match seen.what:
        case "filed" if seen.wish is None:
            yield f"{name} was filed though nobody asked"
        case "decided" if seen.wish is None:
            yield f"{seen.data} of {name}, which nobody asked"
        case "of a grant" if seen.life is None:
            yield f"{seen.data} of {name}, which was never made ready"
        case "of a grant" if seen.data in _ONCE and seen.life.counts[seen.data] > 1:
            yield f"{seen.data} of {name} was sealed twice"


def rules_never_mix(oracle: Any, seen: Seen) -> Iterator[str]:
    """I8: one rule in force carries what is approved, opened or tried again; a forbid wins."""
    wish, process, life = seen.wish, seen.process, seen.life
    if wish is None:
        return
    books = []
    match seen.what:
        case "decided":
            if seen.data != "request.approved":
                return
            what = "approved"
        case "intended":
            if seen.found is not None:  # carried: the oracle had to know what that names
                return
            what, books = "opened", laws_here(process, life.looked_at if life else 0)
        case "extended":
            what, books = "extended", laws_here(process, since_of(oracle))
        case _:  # another try is judged as the first was, by the rules in force by then
            if life is None or not life.called:
                return
            what, books = "asked for again", laws_here(process, since_of(oracle))
    if carrying(oracle, process, wish, what, books) is None:
        names = ", ".join(book.name for book in books or laws_since(oracle, process, 0))
        yield f"{wish.request} ({wish.role} of {wish.login}) {what} against `{names}`"


def votes_name_the_digest(oracle: Any, seen: Seen) -> Iterator[str]:
    """I9: a vote is of somebody else than who asks, once, on what they were shown, and needed."""
    match seen.what:
        case "voted":
            yield from _vote(oracle, seen)
        case "decided" if seen.wish is not None:
            wish, name = seen.wish, seen.wish.request
            waits = wish.extends and seen.data == "request.refused" and not wish.applied
            if wish.ended or (wish.approved_at != NEVER and not waits):
                yield f"{seen.data} of {name}, decided already"
            denied = any(not ballot.approve for ballot in oracle.ballots[name])
            if seen.data == "request.approved" and denied:
                yield f"{name} was approved over a deny"
        case "readied":
            wish, name = seen.wish, seen.data["grant"]
            # The approval is a fact of the same Step, sealed before it.
            if wish is None or wish.approved_at == NEVER:
                yield f"{name} is ready though {seen.data['request']} was never approved"
            elif wish.grant not in ("", name):
                yield f"{wish.request} has two grants for one role"


def _vote(oracle: Any, seen: Seen) -> Iterator[str]:
    login, ballot, wish = seen.found, seen.data, seen.wish
    assert wish is not None
    name = wish.request
    if not isinstance(ballot, Ballot) or ballot.login != login or ballot.request != name:
        yield f"a vote of {login} on {name} was sealed that they did not cast"
        return
    since = since_of(oracle)
    who = oracle.person(login, since)
    if who == oracle.person(wish.login, since):
        yield f"{login} voted on {name}, asked by themselves ({wish.login})"
    if ballot.version != wish.edits:
        yield f"{login} voted on version {ballot.version} of {name}, not the last"
    if any(oracle.person(old.login, since) == who for old in oracle.ballots[name]):
        yield f"{login} voted twice on {name}"
    if wish.ended:
        yield f"{login} voted on {name}, which was {wish.ended}"
    in_force = laws_since(oracle, seen.process, wish.filed_at - 4_000)
    wanted = {group for book in in_force for _, group in book.needs(wish)}
    if wish.extends:  # with another grant of the role that was held before, it is longer than this
        wanted |= {"leads", "sec"}
    grouped = (*in_force, *groups_alone(oracle, wish.filed_at - 4_000))
    if not any(wanted & book.groups(login) for book in grouped):
        yield f"{login} voted on {name}, and is in no group that it needs"


def _ago(now: int, life: Life) -> str:
    over = life.over_at()
    how = "its end" if over == life.end else "it was ended"
    return f"{now - over} ms after {how}"


_AFTER = frozenset({"tampered", "standing", "closed again", "gone", "after"})
_ONCE = frozenset(
    {
        "grant.readied",
        "grant.intended",
        "grant.opened",
        "grant.failed",
        "grant.closing",
        "grant.gone",
    }
)

# The invariant, its checker, and the moments at which it is asked.
CHECKERS: Mapping[str, tuple[Checker, tuple[str, ...]]] = {
    "I1": (
        deadline_before_effect,
        ("intended", "extended", "opening call", "opened", "failed", "allowed"),
    ),
    "I2": (
        never_stop_closing,
        (
            "intended",
            "opening call",
            "closing",
            "removed",
            "gone",
            "signed off",
            "swept",
            "signed in",
            "allowed",
        ),
    ),
    "I3": (locks_on_the_end, ("issued", "arming call", "forged", "signed in", "allowed")),
    "I4": (open_only_what_closes, ("intended",)),
    "I5": (
        only_what_is_ours,
        ("closing call", "opening call", "opened", "denied", "turned away", "alarmed", "acts"),
    ),
    "I6": (journal_before_cloud, ("opening call",)),
    "I7": (evidence_is_complete, ("filed", "decided", "of a grant")),
    "I8": (rules_never_mix, ("decided", "intended", "extended", "opening call")),
    "I9": (votes_name_the_digest, ("voted", "decided", "readied")),
}
_ALL = tuple(
    (rule, check, moments)
    for rule, own in CHECKERS.items()
    for check, moments in (own, *CLOSER.get(rule, ()))
)
MOMENTS: Mapping[str, tuple[tuple[str, Checker], ...]] = {
    moment: tuple((rule, check) for rule, check, moments in _ALL if moment in moments)
    for moment in sorted({one for _, _, moments in _ALL for one in moments})
}

__all__ = ["CHECKERS", "MOMENTS"]
