"""Changing the key of a log: one event, sealed by both keys, under a checkpoint of the new one.

Not through the commit writer: it signs with one key for as long as it lives. Whoever calls this has
seen to it that no server runs; a writer of another process that was missed refuses to go on
(`head.read`), because the key is compared inside its transaction.
"""

from collections.abc import Callable

from tidegate.base.fact import SYSTEM, Fact, Step
from tidegate.base.when import Instant, from_ms, to_ms
from tidegate.evidence.keychange import EVENT, KeyChange, sign_change
from tidegate.evidence.note import Signer
from tidegate.store import commit, head
from tidegate.store.batch import Batch
from tidegate.store.engines import open_database
from tidegate.store.rows import codecs


def change_key(
    url: str,
    *,
    origin: str,
    before: Signer,
    after: Signer,
    clock: Callable[[], Instant],
    password: str | None = None,
) -> KeyChange:
    """Seal the change from `before` to `after` in the database at `url`; durable on return.

    All or nothing: one transaction writes the event, the tree, and the head signed by `after`.

    Raises:
        AskedWrongly: the log is another one, or not `before`'s; nothing was written.
        EvidenceClosed: it cannot be written; nothing was.
    """
    database = open_database(url, password=password)
    try:
        with database.writing() as db:
            begun = head.read(db, database.words, None)
            head.check_ours(begun, origin, before)
            at = max(from_ms(to_ms(clock())), begun.at)
            change = sign_change(begun.tree.size, before, after)
            fact = Fact(name=EVENT, subject=SYSTEM, actor=SYSTEM, data=change.data(at))
            step, kinds = Step((), (fact,)), codecs()
            sql = commit.statements(kinds, database.words)
            batch = Batch(kinds, commit.gather(db, (step,), kinds, sql), begun.tree.size, at)
            batch.admit(step)
            commit.store(db, batch, begun, after, sql)
        return change
    finally:
        database.close()
