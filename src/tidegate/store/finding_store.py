"""The part of the store that keeps findings, baselines and turns; `Store` is made of it."""

from collections.abc import Iterable, Sequence
from datetime import timedelta

from tidegate.base.errors import WorldFailed
from tidegate.base.when import Instant
from tidegate.catalogue import Assignment, Baseline
from tidegate.finding import Finding, FindingKind
from tidegate.grant import Grant
from tidegate.store import findings, reads
from tidegate.store.database import Database
from tidegate.store.findings import Turn, Wanted
from tidegate.store.writer import Direct, Writer


class FindingStore:
    """Raises as `Store` does."""

    def __init__(self, database: Database, writer: Writer | Direct) -> None:
        self._database = database
        self._writer = writer

    def finding(self, id: str) -> Finding:
        """The finding of that id. Raises NotFound."""
        return reads.one(self._database, Finding, id)

    def finding_of(self, kind: FindingKind, target: str, what: str) -> Finding | None:
        """The finding of a natural key."""
        return findings.finding_of(self._database, kind, target, what)

    def findings(
        self, wanted: Wanted | None = None, limit: int = 100, before: str | None = None
    ) -> list[Finding]:
        """Findings, newest first; `before` as in `requests`."""
        with self._database.reading() as db:
            return findings.findings(db, wanted or Wanted(), limit, before)

    def live_findings(
        self, oldest: int, target: str = ""
    ) -> tuple[dict[FindingKind, int], list[Finding]]:
        """How many findings are not closed, by kind, and the `oldest` of them."""
        with self._database.reading() as db:
            counts = findings.live_counts(db, target)
            return counts, findings.oldest_live(db, target, oldest) if counts else []

    def live_of_role(self, target: str, role: str) -> list[Finding]:
        """Findings of a role that are not closed."""
        return findings.live_of_role(self._database, target, role)

    def live_of_kind(self, kind: FindingKind) -> list[Finding]:
        """Findings of a kind that are not closed, newest first; the newest ten thousand."""
        return findings.live_of_kind(self._database, kind)

    def acceptances_over(self, now: Instant, limit: int) -> list[Finding]:
        """Accepted findings whose acceptance has run out."""
        return findings.acceptances_over(self._database, now, limit)

    def findings_seen(self, names: Iterable[str], now: Instant) -> None:
        """A look saw these findings unchanged."""
        seen = tuple(names)
        if seen:
            self._writer.run(lambda db: findings.seen_at(db, seen, now))

    def assignments_on(self, connector: str, account: str, native_role: str) -> list[Assignment]:
        """Every assignment of one native role, held or not."""
        return findings.assignments_on(self._database, connector, account, native_role)

    def readable_on(
        self, connector: str, account: str, native_role: str
    ) -> tuple[list[Assignment], dict[str, WorldFailed]]:
        """Every assignment of one native role; of those that cannot be read, why, by principal."""
        return findings.readable_on(self._database, connector, account, native_role)

    def last_grant_on(self, assignment: str) -> Grant | None:
        """The grant that held an assignment last."""
        return findings.last_grant_on(self._database, assignment)

    def last_made_on(self, assignment: str) -> Grant | None:
        """The last grant on an assignment that may have made something there."""
        return findings.last_made_on(self._database, assignment)

    def unsearched(self, since: Instant, now: Instant, limit: int) -> list[Grant]:
        """Grants removed after `since` whose side doors were not looked for, if that is due."""
        return findings.unsearched(self._database, since, now, limit)

    def baselines(self, target: str) -> list[Baseline]:
        """What stood on each role of a target when it was first looked at."""
        return findings.baselines(self._database, target)

    def turns_to_take(self, names: Sequence[str], now: Instant) -> list[str]:
        """Which of these turns are due and nobody has, longest first: `take_turn` of the first."""
        return findings.turns_to_take(self._database, names, now)

    def take_turn(self, name: str, now: Instant, lease: timedelta) -> Turn | None:
        """Take the turn `name` until `now + lease`; None: it is not due, or another has it."""
        if not findings.may_take_turn(self._database, name, now):
            return None
        return self._writer.run(lambda db: findings.take_turn(db, name, now, lease))

    def owe_turn(self, name: str, place: str, due_at: Instant) -> None:
        """Have a turn there for somebody to take; one of that name stays as it is."""
        self._writer.run(lambda db: findings.owe_turn(db, name, place, due_at))

    def turns_due(self, begins: str, now: Instant, limit: int) -> list[str]:
        """The names of turns that begin so and may be taken at `now`, longest waiting first."""
        return findings.turns_due(self._database, begins, now, limit)

    def end_turn(self, turn: Turn, due_at: Instant) -> None:
        """Give a turn back, due again at `due_at`."""
        self._writer.run(lambda db: findings.end_turn(db, turn, due_at))

    def drop_turn(self, name: str) -> None:
        """Forget a turn that is over."""
        self._writer.run(lambda db: findings.drop_turn(db, name))
