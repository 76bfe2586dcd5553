"""One life under chaos, and the oracle that judges it by its own books.

Two grants: one is ended early by its holder, one runs out. The oracle knows what it approved
through the API and when it first held keys. From that it works out by itself when they must be dead
(first held + duration, or the answer to ending it) and asks the cloud, with those very keys,
whether they are. It never reads a row or an end that Tidegate told.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError

from chaos.town import Down, Json, Problem, Town

WINDOW = 5  # seconds of the grant that runs out: as long as a life needs to take and use keys
LONG = 600  # of the one that is ended early
PATIENCE = 75.0  # seconds for a whole life with a restart in it; what is waited for comes on top
LOOK = 0.25  # between looks at the cloud
# How long access may act beyond its end, in seconds. For what the cloud itself ends: its clock has
# whole seconds and a look takes time. For what must be taken away: from the end, or from when a
# killed process is up again, a look of the worker or of the journal (10 s) and the cloud's own time
# to make it true (2 s at the stand-in), with a machine that runs other things beside this.
NATIVE = 1.5
TAKEN = 20.0
# Two looks at the journal (10 s) and one at the cuts (30 s) of a process that has come back.
BACK = 35.0

Got = TypeVar("Got")


@dataclass(slots=True)
class Held:
    """One grant in the oracle's books. Instants are seconds of the machine's clock.

    `must_end_at` is worked out here; `asked_early_at` is when its early end was first asked for,
    `early_at` when the server answered that; `last_allowed_at` the last time the keys acted.
    """

    person: str
    role: str
    seconds: int
    early: bool
    ticket: str
    request: str = ""
    grant: str = ""
    approved: bool = False
    keys: Any = None
    first_held_at: float = 0.0
    early_at: float = 0.0
    last_allowed_at: float = 0.0
    denied: int = 0
    state: str = ""
    over: bool = False

    @property
    def must_end_at(self) -> float | None:
        """When its keys must be dead; None while nobody holds any."""
        ends = [self.first_held_at + self.seconds] if self.first_held_at else []
        ends += [self.early_at] if self.early_at else []
        return min(ends) if ends else None


@dataclass(slots=True)
class Verdict:
    """What one case came to. Empty lists are what must be."""

    case: str
    killed: int = 0
    seconds: float = 0.0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    orphaned: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    unreached: list[str] = field(default_factory=list)
    latest: float = 0.0  # seconds past an end at which keys still acted
    latest_up: float = 0.0  # the same, of the time in which Tidegate was up
    requests: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing was kept, and who was to be killed was."""
        return not (self.kept or self.unreached)

    @property
    def kept(self) -> list[str]:
        """What was lost, doubled, orphaned, late or cut."""
        return self.lost + self.doubled + self.orphaned + self.late + self.cut


class Life:
    """Lives one life in a town whose server may be killed at any moment, and judges it."""

    def __init__(
        self, town: Town, case: str, number: int, *, swapped: bool = False, panics: bool = False
    ) -> None:
        """`swapped`: what runs out is the role whose end the cloud does not know by itself.

        `panics`: what is ended early is ended by its holder's panic.
        """
        self.town, self.verdict, self._panics = town, Verdict(case), panics
        early, late = town.roles[::-1] if swapped else town.roles
        self.grants = [
            Held("ana", early, LONG, True, f"INC-{number}1"),
            Held("cy", late, WINDOW, False, f"INC-{number}2"),
        ]
        self._began = time.time()
        self._until = self._began + PATIENCE

    def live(self, trouble: Callable[["Life"], None] = lambda _: None) -> Verdict:
        """From asking to both gone. `trouble` is made once both are held."""
        self._lead(self.grants, lambda: trouble(self))
        self.verdict.killed = self.town.kills
        return self.verdict

    def come_back(self) -> None:
        """The same people hold the same access once more, and the dead come back with what they
        knew: nobody may cut what is held now for what was held then.
        """
        again = [Held(one.person, one.role, LONG, True, f"{one.ticket}9") for one in self.grants]
        self._until = time.time() + PATIENCE + BACK

        def returned() -> None:
            self.town.bring_back()
            self.watch(time.time() + BACK, again)
            for one in again:
                if one.keys is None:
                    self.verdict.lost.append(f"{one.ticket}: approved and never held")
                elif one.denied:
                    self.verdict.cut.append(f"{one.grant} acts no more, long before its end")

        self._lead(again, returned)

    def _lead(self, grants: Sequence[Held], trouble: Callable[[], None]) -> None:
        try:
            for one in grants:
                self._ask(one)
                self._approve(one)
            for one in grants:
                self._hold(one)
            trouble()
            for one in grants:
                if one.early:
                    self._end(one)
        except (Down, Problem) as fault:
            self.verdict.lost.append(f"refused for {PATIENCE:g} s: {fault}")
        while not all([*(self._done(one) for one in grants), self._swept()]):
            if time.time() > self._until:
                break
            self.town.revive()
            for one in grants:
                self._look(one)
            time.sleep(LOOK)
        if not self._swept():
            self.verdict.lost.append("a panic is still under way: nothing is granted in its scope")
        for one in grants:
            self._judge(one)
        self.verdict.seconds = time.time() - self._began
        self.verdict.requests += [one.request for one in grants]

    def watch(
        self,
        until: float,
        grants: Sequence[Held] = (),
        enough: Callable[[], bool] = lambda: False,
    ) -> None:
        """Look at the cloud alone, and at nothing of Tidegate's, until that instant, or `enough`.

        For a time in which Tidegate cannot answer and must end what is due all the same.
        """
        self._until += max(0.0, until - time.time())
        while time.time() < until and not enough():
            for one in grants or self.grants:
                self._try_keys(one)
            time.sleep(LOOK)

    def has_run_out(self) -> bool:
        """Whether the keys of what runs out are dead, by the cloud alone."""
        return all(one.early or one.keys is None or one.denied >= 2 for one in self.grants)

    def must_be_refused(self, seconds: float) -> None:
        """Nothing new may be taken on from soon on: the last commits may still have had room."""
        self._until += seconds
        told, until, tried = "", time.time() + seconds, 0
        while time.time() < until and not told:
            tried += 1
            try:
                self._file("cy", self.grants[1].role, LONG, f"{self.grants[1].ticket}{tried}")
            except Problem as problem:
                told = problem.code
            except Down as down:
                told = f"no answer: {down}"
            for one in self.grants:
                self._try_keys(one)
        if not told:
            self.verdict.lost.append(f"nothing was refused, {tried} requests were taken on")

    def _file(self, person: str, role: str, seconds: int, ticket: str) -> str:
        body = {
            "roles": [role],
            "duration_seconds": seconds,
            "reason": f"{ticket} chaos",
            "ticket": ticket,
        }
        return str(self.town.call(person, "POST", "requests", body)["id"])

    def _ask(self, one: Held) -> None:
        """File it once: a lost answer is looked up by its ticket before it is filed again."""

        def once() -> str:
            found = self.town.call(one.person, "GET", "requests?view=mine&limit=50")
            mine = [str(r["id"]) for r in _listed(found) if r.get("ticket") == one.ticket]
            if mine:
                return mine[0]
            return self._file(one.person, one.role, one.seconds, one.ticket)

        one.request = self._surely(once)

    def _approve(self, one: Held) -> None:
        def once() -> bool:
            shown = self.town.call("bo", "GET", f"requests/{one.request}")
            if shown["state"] == "pending":
                vote = {"choice": "approve", "digest": shown["digest"]}
                shown = self.town.call("bo", "POST", f"requests/{one.request}/votes", vote)
            return bool(shown["state"] == "approved")

        one.approved = self._surely(once)

    def _hold(self, one: Held) -> None:
        """Keys, as soon as they can be had; a grant that never opens, or is over, gives none."""
        while time.time() < self._until:
            found = self._surely(lambda: self._grant(one))
            if found.get("state") in ("closing", "removed", "gone", "failed"):
                return
            if found.get("state") == "open":
                keys = self._taken(one)
                if keys is not None:
                    one.keys, one.first_held_at = keys, one.first_held_at or time.time()
                    if self.town.acts(keys):
                        one.last_allowed_at = time.time()
                    return
            time.sleep(LOOK)

    def _taken(self, one: Held) -> Any:
        try:
            return self.town.take(one.person, one.grant, one.role)
        except Down:
            self.town.revive()
        except Problem:
            pass
        return None

    def _end(self, one: Held) -> None:
        def once() -> bool:
            if self._panics:
                everything = {"scope": "principal", "name": one.person}
                self.town.call(one.person, "POST", "panics", everything)
            else:
                self.town.call(one.person, "POST", f"grants/{one.grant}/end")
            return True

        if one.grant:
            self._surely(once)
            one.early_at = time.time()

    def _look(self, one: Held) -> None:
        """Whether the keys act now, and how Tidegate says it is."""
        self._try_keys(one)
        try:
            one.state = str(self._grant(one).get("state", ""))
        except (Down, Problem):
            return
        one.over = one.state in ("gone", "failed")

    def _try_keys(self, one: Held) -> None:
        if one.keys is None:
            return
        try:
            allowed = self.town.acts(one.keys)
        except BotoCoreError:  # the cloud itself is away: nobody can act
            allowed = False
        one.last_allowed_at = time.time() if allowed else one.last_allowed_at
        one.denied = 0 if allowed else one.denied + 1

    def _done(self, one: Held) -> bool:
        return one.over and (one.keys is None or one.denied >= 2)

    def _swept(self) -> bool:
        """Whether every panic is over, by those who called them."""
        if not self._panics:
            return True
        people = {one.person for one in self.grants if one.early}
        try:
            found = [_listed(self.town.call(one, "GET", "panics")) for one in people]
        except (Down, Problem):
            return False
        return all(one.get("swept") for some in found for one in some)

    def _grant(self, one: Held) -> Json:
        """The request's grant: the one there must be, and no second."""
        found = _listed(
            self.town.call(one.person, "GET", f"grants?view=mine&request={one.request}")
        )
        if len(found) > 1:
            self.verdict.doubled.append(f"{one.request} has {len(found)} grants")
        if found:
            one.grant = str(found[0]["id"])
            return dict(found[0])
        return {}

    def _judge(self, one: Held) -> None:
        told = self.verdict
        if not one.approved or not one.grant:
            told.lost.append(f"{one.ticket}: approved and never a grant")
        elif not one.over:
            told.lost.append(f"{one.grant} is `{one.state}`, expected gone")
        end = one.must_end_at
        if end is not None and one.last_allowed_at > end:
            late = one.last_allowed_at - end
            told.latest = max(told.latest, late)
            told.latest_up = max(told.latest_up, one.last_allowed_at - max(end, self.town.up_again))
            if late > self._bound(one, end):
                told.late.append(f"{one.grant} acted {late:.1f} s past its end")
        if self.town.may_sign_in(one.person, one.role):
            told.orphaned.append(f"{one.person} may still sign in as {one.role}")
        if one.keys is not None and self.town.acts(one.keys):
            told.orphaned.append(f"keys of {one.grant} still act")

    def _bound(self, one: Held, end: float) -> float:
        """How late its keys may act: what the cloud ends itself waits for nobody."""
        if self.town.kind == "iam-role" and not one.early:
            return NATIVE
        return max(0.0, self.town.up_again - end) + TAKEN

    def _surely(self, once: Callable[[], Got]) -> Got:
        """`once`, again and again over kills and what passes by itself."""
        while True:
            try:
                return once()
            except Down:
                if time.time() > self._until:
                    raise
                self.town.revive()
                time.sleep(LOOK)
            except Problem:
                if time.time() > self._until:
                    raise
                time.sleep(LOOK)


def _listed(found: Json) -> list[Json]:
    lists = [value for value in found.values() if isinstance(value, list)]
    return lists[0] if lists else []
