"""The oracle: what should be so, by its own book-keeping, and whether it was.

It never reads our rows. It knows what people asked and how they voted because it saw them do it;
it counts deadlines itself, from the opener's clock and the span that was asked; it asks the cloud
who can act. From our side it hears only that a fact of a name became durable, about which ids.
At each such moment it asks the checkers of `checks.py`; at the end those of `quiet.py`. Each broken
rule is a `Violation` naming its invariant.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from sim.book import (
    BUG,
    HEARD,
    NEVER,
    SLACK,
    START_MS,
    WENT_WITHIN,
    Alarm,
    Alias,
    Ballot,
    Broken,
    Life,
    Seen,
    Violation,
    Wish,
)
from sim.checks import MOMENTS
from sim.quiet import QUIET
from sim.sight import (
    carrying,
    clock_of,
    database_clock,
    first_clock,
    graces,
    last_clock,
    last_read,
    laws_here,
    lets,
    open_lives,
    others,
    since_of,
    too_long,
    use_of,
)
from sim.town import PLACES, person
from tidegate.base.duty import Duty
from tidegate.base.errors import Refused
from tidegate.base.when import parse_instant, to_ms
from tidegate.catalogue import AssignmentKey
from tidegate.connectors.port import Credential
from tidegate.evidence.journal import JournalLine


class Oracle:
    """Watches one world."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.loop = world.loop
        self.violations: list[Violation] = []
        self.ran: Counter[str] = Counter()  # how often each checker was asked
        self.story: list[tuple[int, str]] = []
        self.lives: dict[str, Life] = {}
        self.wishes: dict[str, Wish] = {}
        self.logins: dict[str, str] = {}
        self.ballots: dict[str, list[Ballot]] = {}
        self.by_key: dict[AssignmentKey, list[Life]] = {}
        self.closing: dict[str, dict[str, Life]] = {}  # by target: ends begun, not removed
        self.held: dict[str, list[Credential]] = {}
        self.bound: dict[str, int] = {}  # of a session: the end there was when it was given
        self.foreign: dict[AssignmentKey, int] = {}
        self.asked_to_end: set[str] = set()
        self.given: set[AssignmentKey] = set()  # by another system, once
        self.closed_again: dict[AssignmentKey, int] = {}  # what came back, as the house says
        self.ahead: dict[str, int] = {}  # of a session: how far, when the cloud made it
        self.stood: set[AssignmentKey] = set()
        self.went: dict[AssignmentKey, int] = {}  # when somebody else's access last went away
        self.aliases: dict[str, tuple[int, str]] = {}  # second accounts found out during the run
        self.alarms: list[Alarm] = []  # panics as they were called, sealed ones with an id
        self.journal: set[str] = set()
        self.by_closers: set[str] = set()  # in the journal of a process that closes
        self.uses: Counter[str] = Counter()
        self.sealed_names: Counter[str] = Counter()
        self.last_disturbed = -NEVER
        self.restored_at = -1  # when an older database was put back
        self.disturbed_by: dict[str, int] = {}  # the same by kind
        self.away_since = 0  # the store, and when its disk was or is full no more
        self.room_from = 0
        self.founded_size = 0

    # What it is told.

    def known(self, login: str, principal: str) -> None:
        """An account was made."""
        self.logins[principal] = login

    def founded(self, size: int) -> None:
        """The log has so many events before anything happens."""
        self.founded_size = size

    def disturbed(self, what: str, span: int = 0, kind: str = "") -> None:
        """Something failed now, and may go on failing for `span`."""
        self.disturbed_by[kind] = max(self.disturbed_by.get(kind, -NEVER), self.loop.now + span)
        self.last_disturbed = max(self.last_disturbed, self.loop.now + span)
        self.loop.tell(what)

    def judge(self, what: str, **seen: Any) -> None:
        """Ask every checker of this moment."""
        now = Seen(what, **seen)
        for rule, check in MOMENTS[what]:
            self.ran[rule] += 1
            for words in check(self, now):
                self.broke(rule, words)

    def broke(self, rule: str, words: str) -> None:
        """A rule is broken."""
        self.loop.tell(f"VIOLATION {rule}: {words}")
        if not self.violations:
            self.story = list(self.loop.told)
        if len(self.violations) < 50:
            self.violations.append(Violation(rule, self.loop.now, words))
        if self.world.stop_at_once:
            raise Broken

    def judge_end(self) -> None:
        """All is quiet: nothing open, orphaned, missing or doubled, nothing of others taken."""
        for name, check in QUIET.items():
            self.ran[name] += 1
            for rule, words in check(self):
                self.broke(rule, words)
        for name, bug in self.loop.bugs:
            self.broke(BUG, f"{name}: {type(bug).__name__}: {bug}")

    def journalled(self, process: Any, line: JournalLine) -> None:
        """A line is on disk, in the closing journal of this process."""
        if line.kind == "intended":
            self.journal.add(line.grant)
            if Duty.CLOSE in process.duties:
                self.by_closers.add(line.grant)
        elif line.kind == "closing" and line.grant in self.lives:
            life = self.lives[line.grant]
            life.told_at = min(life.told_at, self.loop.now)
        if line.kind in ("closing", "removed") and line.grant in self.lives:
            life = self.lives[line.grant]
            life.met_at = min(life.met_at, to_ms(line.at) - START_MS)

    def sealed(self, process: Any, facts: Iterable[Any], entered: int | None = None) -> None:
        """Facts became durable: names and ids are taken, ends are checked, nothing is believed."""
        for fact in facts:
            self.sealed_names[fact.name] += 1
            if "grant" in fact.data or "request" in fact.data:
                name = fact.data.get("grant") or fact.data.get("request")
                self.loop.tell(f"{process.name} seals {fact.name} of {name}{_more(fact)}")
            handle = _HANDLERS.get(fact.name)
            if handle is not None:
                handle(self, process, fact, self.loop.now if entered is None else entered)

    def _filed(self, process: Any, fact: Any, entered: int) -> None:
        name = fact.data["request"]
        wish = self.loop.task.memo if self.loop.task else None
        if fact.name == "request.edited":
            old = self.wishes[name]
            old.edits += 1
            old.filed_at = since_of(self)
            old.graces = graces(self, process, old)
            self.ballots[name] = []
            if isinstance(wish, Wish):
                old.span = wish.span
            return
        if not isinstance(wish, Wish) or wish.request not in ("", name):
            wish = None
        self.judge("filed", wish=wish, found=name)
        if wish is not None:
            wish.request = name
            wish.filed_at = since_of(self)
            wish.graces = graces(self, process, wish)
            wish.sealed_at = self.loop.now
            self.wishes[name] = wish
            self.ballots[name] = []

    def _voted(self, process: Any, fact: Any, entered: int) -> None:
        name, login = fact.data["request"], self.logins[fact.data["voter"]]
        ballot = self.loop.task.memo if self.loop.task else None
        self.judge("voted", process=process, wish=self.wishes[name], data=ballot, found=login)
        if isinstance(ballot, Ballot) and (ballot.login, ballot.request) == (login, name):
            self.ballots[name].append(ballot)

    def _turned_out(self, process: Any, fact: Any, entered: int) -> None:
        alias = self.loop.task.memo if self.loop.task else None
        if isinstance(alias, Alias):
            self.aliases[alias.login] = (self.loop.now, alias.person)

    def person(self, login: str, at: int) -> str:
        """The human being behind a login, as everybody could know it at `at`."""
        since, found = self.aliases.get(login, (NEVER, ""))
        return found if since <= at else person(login)

    def _decided(self, process: Any, fact: Any, entered: int) -> None:
        name = fact.data["request"]
        wish = self.wishes.get(name)
        self.judge("decided", process=process, wish=wish, data=fact.name, found=name)
        if wish is None:
            return
        if fact.name == "request.approved":
            wish.approved_at = self.loop.now
            self.world.people.approved(wish)
        else:
            wish.ended = fact.name.partition(".")[2]
            wish.approved_at = NEVER if wish.extends else wish.approved_at

    def _readied(self, process: Any, fact: Any, entered: int) -> None:
        name, wish = fact.data["grant"], self.wishes.get(fact.data["request"])
        self.judge("readied", process=process, wish=wish, data=fact.data)
        if wish is not None and wish.approved_at != NEVER:
            wish.grant = name
            shown = min(entered + process.offset, database_clock(self, process, entered))
            self.lives[name] = Life(name, wish, PLACES[wish.role], "", self.loop.now, shown)
            self.lives[name].counts["grant.readied"] += 1

    def _intended(self, process: Any, fact: Any, entered: int) -> None:
        life = self._life(fact)
        if life is None:
            return
        wish = life.wish
        life.intended_at = self.loop.now
        if wish.start is not None:
            life.since = wish.start
        else:
            said = to_ms(parse_instant(fact.data["at"])) - START_MS
            now, read = clock_of(self, process, entered), last_read(self, life, entered)
            # A clock that was set back while the cloud was asked: no window begins before a reading
            # it was judged by. One that was set meanwhile: either reading.
            first, last = first_clock(self, process, entered), last_clock(self, process, entered)
            life.since = said if now < said <= read or first <= said <= last else now
        life.window = life.since + wish.span
        life.end = self._end_of(process, life, wish, fact)
        books = laws_here(process, life.looked_at)
        book = carrying(self, process, wish, "opened", books)
        life.native = book.native(wish.role) if book else life.place.native
        if fact.data["native_role"] != life.native:  # laws that changed meanwhile name another
            carry = (one for one in books if carrying(self, process, wish, "opened", (one,)))
            if fact.data["native_role"] in {one.native(wish.role) for one in carry}:
                life.native = fact.data["native_role"]
        self.by_key.setdefault(life.key, []).append(life)
        life.stood = life.key in self.foreign
        went = self.went.get(life.key, NEVER)
        just = went <= self.loop.now <= went + WENT_WITHIN
        beside = (one for one in open_lives(self, life) if one is not life)
        life.may_stand = life.stood or just or any(one.may_stand for one in beside)
        self.judge(
            "intended",
            process=process,
            life=life,
            wish=wish,
            data=fact.data,
            entered=entered,
            found=book,
        )
        self.world.people.opening(life)

    def _end_of(self, process: Any, life: Life, wish: Wish, fact: Any) -> int:
        """The end after its window: the one that was sealed, when what was approved gives that."""
        now_given = graces(self, process, wish)
        ends = {life.window + min(old, new) for old in wish.graces for new in now_given}
        said = to_ms(parse_instant(fact.data["ends_at"])) - START_MS
        return said if said in ends else max(ends)

    def _extended(self, process: Any, fact: Any, entered: int) -> None:
        life, wish = self._life(fact), self.wishes.get(fact.data["extension"])
        if life is None:
            return
        now, seen = self.loop.now, {"process": process, "life": life, "wish": wish}
        before = life.window
        if wish is not None:
            life.window = before + wish.span
            life.moved_at, life.old_end = now, life.end
            if life.end - HEARD <= now:
                life.unheard_end = min(life.unheard_end, life.end)
            life.end = self._end_of(process, life, wish, fact)
        self.judge("extended", data=fact.data, entered=entered, found=before, **seen)
        if wish is not None:
            wish.applied = True
            self.world.people.extended(life)

    def _opened(self, process: Any, fact: Any, entered: int) -> None:
        life = self._life(fact)
        if life is not None:
            life.opened_at = self.loop.now
            self.judge("opened", process=process, life=life)

    def _failed(self, process: Any, fact: Any, entered: int) -> None:
        life = self._life(fact)
        if life is not None:
            if life.forgotten:  # it is closed by the journal, when its end has come
                return
            life.failed_at = self.loop.now
            self.judge("failed", process=process, life=life)

    def _closing(self, process: Any, fact: Any, entered: int) -> None:
        life = self._life(fact)
        if life is None:
            return
        life.closing_at = min(life.closing_at, self.loop.now)
        # What a fast clock ends early is late from its end on, as what people end is from then on.
        expired = fact.data["reason"] == "expired"
        life.ending_since = max(life.closing_at, life.end) if expired else life.closing_at
        if life.intended_at != NEVER:
            self.closing.setdefault(life.place.target, {})[life.id] = life
        self.judge("closing", process=process, life=life, data=fact.data, entered=entered)

    def _removed(self, process: Any, fact: Any, entered: int) -> None:
        life = self._life(fact)
        if life is None:
            return
        life.removed_at = self.loop.now
        life.still_held = bool(fact.data["still_held_by"])
        life.seen_cut = bool(fact.data.get("cut_before"))
        self.closing.get(life.place.target, {}).pop(life.id, None)
        self.judge("removed", process=process, life=life)

    def _cut(self, process: Any, fact: Any, entered: int) -> None:
        life = self._life(fact)
        if life is not None:
            life.seen_cut = True

    def _contradicted(self, process: Any, fact: Any, entered: int) -> None:
        life = self._life(fact)
        if life is not None:
            life.removed_at, life.ending_since = NEVER, self.loop.now
            self.closing.setdefault(life.place.target, {})[life.id] = life

    def _gone(self, process: Any, fact: Any, entered: int) -> None:
        life = self._life(fact)
        if life is not None:
            life.gone_at = self.loop.now
            self.judge("gone", process=process, life=life)

    def _called_closed(self, process: Any, fact: Any, entered: int) -> None:
        life = self.lives.get(fact.data["grant"])
        if life is not None:
            self.closed_again[life.key] = self.loop.now

    def _alarmed(self, process: Any, fact: Any, entered: int) -> None:
        """A panic is sealed: by who calls it, or later by whoever finds that it waits."""
        memo = self.loop.task.memo if self.loop.task else None
        waiting = (
            [memo]
            if isinstance(memo, Alarm)
            else [one for one in self.alarms if not one.id or one.waited]
        )
        alarm = next((one for one in waiting if one.scope == fact.data["scope"]), None)
        self.judge("alarmed", data=alarm, found=fact.data["panic"])
        if alarm is None:
            return
        alarm.id, alarm.called_at = fact.data["panic"], self.loop.now
        if alarm.freeze is not None:
            alarm.until = clock_of(self, process, entered) + alarm.freeze
        if alarm not in self.alarms:
            self.alarms.append(alarm)
        for life in self.lives.values():  # no row tells of these: the journals' looks begin them
            if life.forgotten and life.intended_at < self.loop.now and alarm.covers(life.wish):
                life.panicked_at = min(life.panicked_at, self.loop.now)
        self.loop.tell(f"panic about {alarm.scope} {alarm.name} by {alarm.by}")

    def _swept(self, process: Any, fact: Any, entered: int) -> None:
        alarm = next((one for one in self.alarms if one.id == fact.data["panic"]), None)
        if alarm is not None:
            self.judge("swept", data=alarm)

    def _lifted(self, process: Any, fact: Any, entered: int) -> None:
        for alarm in self.alarms:
            if alarm.id == fact.data["panic"]:
                alarm.until = -1

    def _signed(self, process: Any, fact: Any, entered: int) -> None:
        life = self._life(fact)
        if life is not None:
            word = self.loop.task.memo if self.loop.task else None
            self.judge("signed off", life=life, data=word)
            life.signed_at = self.loop.now
            self.closing.get(life.place.target, {}).pop(life.id, None)

    def _resumed(self, process: Any, fact: Any, entered: int) -> None:
        life = self._life(fact)
        if life is not None:
            life.signed_at, life.removed_at = NEVER, NEVER
            self.disturbed(f"the end of {life.id} is taken up again")

    def _issued(self, process: Any, fact: Any, entered: int) -> None:
        life = self._life(fact)
        if life is not None:
            self.judge("issued", process=process, life=life)

    def _life(self, fact: Any) -> Life | None:
        name = fact.data["grant"]
        life = self.lives.get(name)
        if life is not None:
            life.counts[fact.name] += 1
        self.judge("of a grant", life=life, data=fact.name, found=name)
        return life

    # What calls to a cloud must have behind them.

    def opening_call(self, process: Any, hold: Any) -> None:
        """The house asks a cloud to open: intent, end and journal line are durable by now."""
        life = self.lives.get(hold.grant)
        wish = life.wish if life else None
        self.judge("opening call", process=process, life=life, wish=wish, data=hold)
        if life is not None:
            life.called, life.said_stood = True, hold.stood_before

    def acts(self, process: Any, verb: str, duty: Any, hold: Any) -> None:
        """A process uses the identity it has, or not, for that duty in a cloud."""
        self.judge("acts", process=process, data=hold, found=(verb, duty))

    def arming_call(self, process: Any, hold: Any, until: Any) -> None:
        """The house tells a cloud to end something by itself."""
        life = self.lives.get(hold.grant)
        self.judge("arming call", process=process, life=life, data=to_ms(until) - START_MS)

    def closing_call(self, process: Any, hold: Any) -> None:
        """The house asks a cloud to close."""
        life = self.lives.get(hold.grant)
        self.judge("closing call", process=process, life=life, data=hold)
        if life is not None:
            life.tried_at = self.loop.now

    # Uses.

    def holds(self, life: Life, credential: Credential) -> None:
        """Somebody got a session of `life`, and keeps it whatever happens."""
        self.held.setdefault(life.id, []).append(credential)
        moving = life.moved_at >= self.loop.now - SLACK  # it may have been asked for before
        self.bound[credential.key_id] = min(life.end, life.old_end) if moving else life.end
        if self.world.cloud_offset > 0 and not life.place.own:
            self.ahead[credential.key_id] = self.world.cloud_offset

    def use(self, life: Life, credential: Credential) -> None:
        """Somebody uses a session now: judged."""
        self.world.people.used += 1
        allowed = lets(self, credential)
        self.uses["allowed" if allowed else "denied"] += 1
        if allowed:
            found = "excused" if too_long(self, credential) else use_of(self, life)
            self.judge("allowed", life=life, found=found)
        else:
            self.judge("denied", life=life, data=credential)

    def sign_in(self, life: Life) -> tuple[Life, Credential] | None:
        """Its holder, or a thief, tries to start a new session at the cloud: judged.

        Returns the session and the life it belongs to: of one key, the one that is in its window.
        """
        try:
            credential: Credential = self.world.cloud.sign_in(
                life.key, self.world.cloud_now(), life.id
            )
        except Refused:
            self.judge("turned away", life=life)
            return None
        self.uses["signed in"] += 1
        now = self.loop.now
        still_open = open_lives(self, life)
        over = now >= life.over_at() and life.key not in self.foreign and not others(self, life)
        if over:
            self.judge("signed in", life=life, found="some open" if still_open else "none open")
        right = [one for one in still_open if now < one.over_at()] or still_open
        owner = life if not right or life in right else right[0]
        return owner, credential


def _more(fact: Any) -> str:
    """What else a reader of the story wants to know of a fact."""
    data = fact.data
    kept = ("reason", "outcome", "step", "cause", "why", "residual_until", "still_held_by", "proof")
    return "".join(f" {key}={data[key]}" for key in kept if data.get(key))


_HANDLERS: Mapping[str, Any] = {
    "principal.recorded": Oracle._turned_out,
    "leftover.closed": Oracle._called_closed,
    "request.filed": Oracle._filed,
    "request.edited": Oracle._filed,
    "request.voted": Oracle._voted,
    "request.approved": Oracle._decided,
    "request.denied": Oracle._decided,
    "request.refused": Oracle._decided,
    "request.withdrawn": Oracle._decided,
    "request.lapsed": Oracle._decided,
    "grant.readied": Oracle._readied,
    "grant.intended": Oracle._intended,
    "grant.opened": Oracle._opened,
    "grant.extended": Oracle._extended,
    "grant.failed": Oracle._failed,
    "grant.closing": Oracle._closing,
    "grant.removed": Oracle._removed,
    "grant.cut": Oracle._cut,
    "grant.contradicted": Oracle._contradicted,
    "grant.gone": Oracle._gone,
    "grant.signed_off": Oracle._signed,
    "grant.resumed": Oracle._resumed,
    "session.issued": Oracle._issued,
    "panic.called": Oracle._alarmed,
    "panic.swept": Oracle._swept,
    "panic.lifted": Oracle._lifted,
}

__all__ = ["Alias", "Ballot", "Broken", "Life", "Oracle", "Violation", "Wish"]
