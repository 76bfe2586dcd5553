"""The part of the store that carries errands between processes; `Store` is made of it."""

from collections.abc import Callable, Iterable
from itertools import islice

from tidegate.base.duty import Duty
from tidegate.base.when import Instant
from tidegate.store import errands
from tidegate.store.database import Database
from tidegate.store.errands import Errand
from tidegate.store.writer import Direct, Writer


class ErrandStore:
    """Raises as `Store` does."""

    _database: Database
    _writer: Writer | Direct

    def ask(self, errand: Errand) -> bool:
        """Leave an errand for a process that has its duty; False when too many wait."""
        words = self._database.words
        left = self._writer.run(lambda db: errands.ask(db, errand, words))
        self._database.news.tell()
        return left

    def take_errands(
        self,
        duties: Iterable[Duty],
        me: str,
        now: Instant,
        limit: int,
        may: Callable[[Errand], bool] = lambda errand: True,
    ) -> list[Errand]:
        """Errands for one of `duties`, given to nobody else; `me` is who takes them.

        `may` is asked of each in turn, what runs out first ahead; what it says no to is left for
        another process, or for later.
        """
        if limit < 1:
            return []
        waiting = errands.asked(self._database, duties, now)
        chosen = list(islice(filter(may, waiting), limit))
        if not chosen:
            return []
        names = [one.id for one in chosen]
        taken = self._writer.run(lambda db: errands.take(db, names, me, now))
        return [one for one in chosen if one.id in taken]

    def answer(self, errand: str, reply: str, now: Instant) -> bool:
        """Leave the answer to an errand; False when it is too late or nobody waits."""
        words = self._database.words
        left = self._writer.run(lambda db: errands.answer(db, errand, reply, now, words))
        self._database.news.tell()
        return left

    def reply_to(self, errand: str) -> str | None:
        """The answer to an errand; None when there is none yet."""
        return errands.reply_to(self._database, errand)

    def drop_errand(self, errand: str, now: Instant) -> None:
        """Forget an errand that was fetched or given up."""
        self._writer.run(lambda db: errands.drop(db, errand, now))

    def use_errand(self, errand: str, until: Instant, now: Instant) -> bool:
        """Say, durably and for every process, that an errand is being answered; False when it was
        said before. `until`: when it runs out; it is remembered for longer than that.
        """
        return self._writer.run(lambda db: errands.use(db, errand, until, now))
