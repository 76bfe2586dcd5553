"""The store: everything the house keeps, behind one object that is safe to share between threads.

Changes of state go through `commit`, with their facts, in one transaction (I6); everything else
reads, or keeps rows no event makes. The queries are in `reads.py`, `log.py`, `queue.py` and
`unsealed.py`; this file only opens views and hands them out.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy import Connection

from tidegate.base.canonical import digest_bytes
from tidegate.base.errors import EvidenceClosed, WorldFailed
from tidegate.base.fact import Step
from tidegate.base.personal import Personal
from tidegate.base.when import Instant, from_ms, to_ms
from tidegate.catalogue import Assignment, AssignmentKey, Membership, Principal
from tidegate.evidence.note import Signer
from tidegate.grant import Grant, GrantState
from tidegate.notice import Notice
from tidegate.panic import Panic
from tidegate.request import Request, RequestState
from tidegate.session import Session
from tidegate.store import chores, log, panic_reads, queue, reads, unsealed
from tidegate.store import head as log_head
from tidegate.store.batch import Committed
from tidegate.store.database import Database
from tidegate.store.due_store import DueStore
from tidegate.store.engines import open_database
from tidegate.store.errand_store import ErrandStore
from tidegate.store.finding_store import FindingStore
from tidegate.store.head import Head
from tidegate.store.memory import Memory
from tidegate.store.migrate import migrate
from tidegate.store.reads import Someone
from tidegate.store.sqlite import PATIENCE
from tidegate.store.unsealed import Account, Token
from tidegate.store.writer import Committer, Direct, Free, Writer


class Store(DueStore, FindingStore, ErrandStore):
    """One open database with its log. Made by `open`, ended by `close`.

    Every reading method raises WorldFailed when the database, or a row asked for, cannot be read;
    every writing one raises EvidenceClosed when it cannot be written.
    """

    def __init__(
        self, database: Database, writer: Writer | Direct, clock: Callable[[], Instant]
    ) -> None:
        super().__init__(database, writer)
        self._clock = clock
        self._turns = queue.Turns()

    @classmethod
    def open(
        cls,
        url: str,
        *,
        origin: str,
        signer: Signer,
        clock: Callable[[], Instant],
        create: bool = False,
        patience: timedelta = PATIENCE,
        password: str | None = None,
    ) -> "Store":
        """Open the database at `url`, bringing its schema up to date.

        Args:
            url: `sqlite:///FILE`, or `postgresql://USER@HOST:PORT/DB` with libpq's options.
            origin: the log's name; it must be the one the log began with.
            signer: the log's key.
            clock: read once a batch; on SQLite it is also the database's clock.
            create: make the file (of SQLite) and an empty log if they are not there.
            patience: how long to wait for another process's lock, and for a server to be back.
            password: PostgreSQL's.

        Raises:
            AskedWrongly: no database there, not ours, a newer schema, another origin or key.
            EvidenceClosed: the file cannot be used.
        """
        database = open_database(url, password=password, create=create, patience=patience)
        try:
            migrate(database, create=create)
            begun = _begin(database, origin, signer, clock)
        except BaseException:
            database.close()
            raise
        return cls(database, Writer(Committer(database, signer, clock, begun)), clock)

    @classmethod
    def memory(
        cls,
        *,
        origin: str,
        signer: Signer,
        clock: Callable[[], Instant],
        again: "Store | None" = None,
    ) -> "Store":
        """A store that lives in memory and is gone with it: for simulation and for tests.

        Everything is as in a file but the thread: a commit runs in its caller's, alone in its
        transaction, and is over when the call returns.

        Args:
            origin: the log's name.
            signer: the log's key.
            clock: read once a commit.
            again: go on with the database of this store, as a new process does after a crash. That
                one is not used afterwards.
        """
        database = again._database if again else Memory()
        begun = _begin(database, origin, signer, clock)
        return cls(database, Direct(Committer(database, signer, clock, begun)), clock)

    def close(self) -> None:
        """Commit what is waiting, then let go of the file. Nothing can be called afterwards."""
        self._writer.close()
        self._database.close()

    def commit(self, step: Step) -> Committed:
        """Store a Step and seal its facts; returns once both are durable.

        Raises:
            Stale: a row is not at the version the Step expects, or a natural key is taken.
            EvidenceClosed: nothing was stored, or (only after a loss behind the very last write)
                nobody can say: read again.
            RuntimeError: no database could take this Step: our own bug.
        """
        return self._writer.commit(step)

    def submit(self, step: Step, *, urgent: bool = False) -> "Future[Committed]":
        """`commit` without waiting: its outcome is the future's.

        An `urgent` one goes before everything that waits, and is never refused for the queue's
        length: for panic alone.
        """
        return self._writer.submit(step, urgent=urgent)

    # What is kept beside the state.

    def keep_document(self, kind: str, data: bytes) -> str:
        """Keep `data` for ever; returns its digest. Keeping it twice keeps it once."""
        digest = digest_bytes(data)
        if self.document(digest) is None:
            self._writer.run(lambda db: unsealed.keep_document(db, digest, kind, data))
        return digest

    def document(self, digest: str) -> bytes | None:
        """The document of that digest."""
        return reads.document(self._database, digest)

    def text(self, commitment: str) -> str | None:
        """The personal text behind a commitment; None when erased or never kept."""
        found = self.disclosures((commitment,)).get(commitment)
        return None if found is None else found.text

    def disclosures(self, commitments: Iterable[str]) -> dict[str, Personal]:
        """Texts with their salts, by commitment; erased and unknown ones are left out."""
        return reads.disclosures(self._database, commitments)

    # Requests, grants, sessions, assignments.

    def request(self, id: str) -> Request:
        """The request of that id. Raises NotFound."""
        return reads.one(self._database, Request, id)

    def requests(
        self,
        *,
        states: frozenset[RequestState] | None = None,
        principal: str | None = None,
        limit: int = 100,
        before: str | None = None,
    ) -> list[Request]:
        """Requests, newest first; `before` is the last id of the page before."""
        return reads.requests(self._database, states, principal, limit, before)

    def extensions_due(self, limit: int, after: str = "") -> list[Request]:
        """Approved extensions that have not moved their grant's end yet, after that id."""
        return chores.extensions_due(self._database, limit, after)

    def arming(self, limit: int, after: str = "") -> list[Grant]:
        """Open grants whose end moved, and journal and cloud may not have it yet, after that id."""
        return chores.arming(self._database, limit, after)

    def unwarned(self, now: Instant, before: timedelta, limit: int) -> list[Grant]:
        """Open grants whose holder is to be warned of the end by now."""
        return chores.unwarned(self._database, now, before, limit)

    def notices(
        self,
        *,
        audience: str | None = None,
        waiting: bool = False,
        limit: int = 100,
        before: str | None = None,
    ) -> list[tuple[Notice, Instant | None]]:
        """What people are to be told, newest first, each with when it was delivered."""
        with self._database.reading() as db:
            return reads.notices(db, audience, waiting, limit, before)

    def grant(self, id: str) -> Grant:
        """The grant of that id. Raises NotFound."""
        return reads.one(self._database, Grant, id)

    def grants(
        self,
        *,
        request: str | None = None,
        principal: str | None = None,
        role: str | None = None,
        target: str | None = None,
        states: frozenset[GrantState] | None = None,
        limit: int = 100,
        before: str | None = None,
    ) -> list[Grant]:
        """Grants that fit everything asked for, newest first; `before` as in `requests`."""
        columns = {"request": request, "principal": principal, "role": role}
        return reads.grants(self._database, columns, target, states, limit, before)

    @property
    def is_shared(self) -> bool:
        """Whether processes of other machines may use this database. Asks nothing of it."""
        return self._database.words.name != "sqlite"

    def grants_named(self, ids: Iterable[str]) -> dict[str, Grant]:
        """Grants by id; those not there, or whose row cannot be read, are left out."""
        return chores.grants_named(self._database, ids)

    def grant_states(self, ids: Iterable[str]) -> dict[str, GrantState | None]:
        """The states of grants by id, None for one that cannot be read; without those not there."""
        return chores.states_named(self._database, ids)

    def grants_ending(self, ids: Iterable[str]) -> dict[str, GrantState]:
        """Those of these grants that are closing, removed, gone or failed, with which of them."""
        return chores.ending_of(self._database, ids)

    def assignments_named(self, ids: Iterable[str]) -> dict[str, Assignment]:
        """Assignments by id, as `grants_named`."""
        return chores.assignments_named(self._database, ids)

    def panic(self, id: str) -> Panic:
        """The panic of that id. Raises NotFound."""
        return reads.one(self._database, Panic, id)

    def panics(self, *, stopping_at: Instant | None = None, limit: int = 100) -> list[Panic]:
        """Panics, newest first; with `stopping_at` those by which something may not open then."""
        return panic_reads.panics(self._database, stopping_at, limit)

    def stopping(self, principal: str, role: str, now: Instant) -> Panic | None:
        """A panic by which access of `principal` to `role` may not open at `now`."""
        return panic_reads.stopping(self._database, principal, role, now)

    def panic_about(self, principal: str, role: str, since: Instant) -> tuple[str, str] | None:
        """The last panic about access of `principal` to `role` that was called since then: its id
        and who called it. Asked of columns alone, so that a damaged row hides nothing.
        """
        return panic_reads.about(self._database, principal, role, since)

    def panic_count(self) -> int:
        """How many panics there are, damaged ones too; none is ever taken away."""
        return panic_reads.count(self._database)

    def panics_called(self, limit: int = 1_000) -> list[Panic]:
        """Panics whose ends are not all sealed yet, oldest first."""
        return panic_reads.called(self._database, limit)

    def stopping_count(self, now: Instant) -> int:
        """How many panics keep something shut at `now`; counted to ten thousand."""
        return panic_reads.stopping_count(self._database, now)

    def ended_since(self, since: Instant, target: str, limit: int) -> list[tuple[str, str]]:
        """(grant, request) of grants removed since then, or closing; `target` empty: of all."""
        with self._database.reading() as db:
            return reads.ended_since(db, since, target, limit)

    def live(self, now: Instant) -> tuple[dict[str, int], Instant | None]:
        """How many grants are in each state that is not over, and the earliest overdue end."""
        with self._database.reading() as db:
            counts, oldest = reads.counts_of_live(db, now)
        return counts, None if oldest is None else from_ms(oldest)

    def cuts_in_force(self, since: Instant) -> list[Grant]:
        """Grants whose cut may have to stand after `since`."""
        return chores.cuts_in_force(self._database, since)

    def closing_on(self, assignment: str) -> list[Grant]:
        """Grants of an assignment whose removal is not read back yet."""
        return reads.closing_on(self._database, assignment)

    def sessions(self, grant: str) -> list[Session]:
        """Every session of a grant, oldest first."""
        return reads.sessions(self._database, grant)

    def session_by_key(self, key_id: str) -> Session | None:
        """The newest session of a credential's public key id."""
        with self._database.reading() as db:
            return reads.session_by_key(db, key_id)

    def assignment(self, id: str) -> Assignment | None:
        """The assignment of that id."""
        return reads.maybe(self._database, Assignment, id)

    def assignment_by_key(self, key: AssignmentKey) -> Assignment | None:
        """The assignment of a natural key."""
        return reads.assignment_by_key(self._database, key)

    # People.

    def principal(self, id: str) -> Principal:
        """The principal of that id. Raises NotFound."""
        return reads.one(self._database, Principal, id)

    def someone(self, id: str) -> Someone:
        """The principal of that id, with groups and mail address. Raises NotFound."""
        return reads.someone(self._database, id)

    def principal_by(self, issuer: str, subject: str) -> Principal | None:
        """The principal of an identity provider's immutable pair."""
        return reads.principal_by(self._database, issuer, subject)

    def memberships(
        self, *, principal: str | None = None, with_left: bool = False
    ) -> list[Membership]:
        """Who was seen in which group; those over only when asked for."""
        return reads.memberships(self._database, principal, with_left)

    def account(self, login: str) -> Account | None:
        """The local account of a login."""
        return unsealed.account(self._database, login)

    def accounts(self) -> list[Account]:
        """Every local account, by login."""
        with self._database.reading() as db:
            return unsealed.accounts(db)

    def login_of(self, principal: str) -> str:
        """The login of a principal; empty when it has no local account."""
        return unsealed.login_of(self._database, principal)

    def put_account(self, account: Account) -> None:
        """Make a local account, or change its password or principal."""
        self._writer.run(lambda db: unsealed.put_account(db, account))

    def change_password(self, before: Account, password_hash: str) -> bool:
        """Replace a hash, only while the account is still as in `before`; whether it was."""
        return self._writer.run(lambda db: unsealed.change_password(db, before, password_hash))

    def put_token(self, token: Token, verified: Account | None = None) -> bool:
        """Keep a new API token; the caller seals `token.made`. Returns whether it was kept.

        With `verified`, only while that account has the very password it was read with and its
        principal is enabled.
        """
        try:
            if verified is not None:
                return self._writer.run(lambda db: unsealed.put_token_of(db, token, verified))
            self._writer.run(lambda db: unsealed.put_token(db, token))
        except self._database.clashes as error:
            raise RuntimeError(f"token {token.id} is there already") from error
        return True

    def token_by_hash(self, hash: str) -> Token | None:
        """The token whose secret has that hash, ended or not."""
        return unsealed.token_by_hash(self._database, hash)

    def tokens(self, principal: str) -> list[Token]:
        """Every token of a principal, oldest first, ended ones too."""
        with self._database.reading() as db:
            return unsealed.tokens(db, principal)

    def end_token(self, id: str, at: Instant) -> None:
        """End a token; one that ended already keeps its first end."""
        self._writer.run(lambda db: unsealed.end_token(db, id, at))

    def beat(self, name: str, now: Instant, detail: str) -> None:
        """Say that `name` is alive."""
        self._writer.run(Free(lambda db: unsealed.beat(db, name, now, detail)))

    def forget_beats(self, kind: str, before: Instant) -> None:
        """Drop signs of life named `kind`, or `kind:` and something, from before `before`."""
        self._writer.run(lambda db: unsealed.forget_beats(db, kind, before))

    def beats(self) -> dict[str, tuple[Instant, str]]:
        """When each part of the house was last alive, and what it said."""
        return unsealed.beats(self._database)

    # The log.

    def head(self) -> Head:
        """How far the log goes, with its signed checkpoint."""
        return log.head_now(self._database)

    def events(self, subject: str) -> list[tuple[int, bytes]]:
        """Every event of one subject, in order: (index, leaf)."""
        return log.chain(self._database, subject)

    def chains(self, subjects: Iterable[str]) -> dict[str, list[bytes]]:
        """The leaves of each subject's chain, in order."""
        with self._database.reading() as db:
            return log.chains(db, subjects)

    def all_events(self, first: int = 0) -> Iterator[tuple[int, bytes]]:
        """Every event from index `first` on, in pages; new ones appear while it runs."""
        return log.walk(self._database, first)

    @contextmanager
    def whole_log(self) -> Iterator[tuple[Head, Iterator[bytes], Iterator[bytes]]]:
        """Head, every leaf and every stored leaf hash, all of one moment, for checking the log."""
        with self._database.reading() as db:
            yield log.head(db), (leaf for _, leaf in log.pages(db)), log.hashes(db)

    def prove(self, idx: int, size: int | None = None) -> list[bytes]:
        """The inclusion proof of event `idx` in the tree of `size`; None: at the current head.

        Raises:
            NotFound: no such event in a tree of that size.
        """
        with self._database.reading() as db:
            return log.inclusion(db, idx, size)

    def consistency(self, old_size: int, size: int | None = None) -> list[bytes]:
        """The proof that the tree of `size` (None: the current head) extends that of `old_size`.

        Raises:
            AskedWrongly: the log never had that size.
        """
        with self._database.reading() as db:
            return log.consistency(db, old_size, size)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One consistent view of everything, for `rebuild.compare`."""
        with self._database.reading() as db:
            yield db

    def integrity(self) -> tuple[str, ...]:
        """What is wrong with the database, in words; empty when nothing is. A quick look."""
        found: list[str] = []
        try:
            # A real write that changes nothing: finds a lock, a full disk, a read-only file.
            self._writer.run(lambda db: db.execute("UPDATE log_head SET size = size").rowcount)
        except EvidenceClosed as fault:
            found.append(fault.message)
        try:
            found.extend(self._database.doubts())
            with self._database.reading() as db:
                found.extend(_doubts(db))
        except WorldFailed as fault:
            found.append(fault.message)
        return tuple(found)

    def now(self) -> Instant:
        """The database's clock. SQLite has none of its own: it is this process's.

        Raises:
            WorldFailed: the database cannot be asked.
        """
        now = self._database.now_ms()
        return from_ms(to_ms(self._clock()) if now is None else now)


def _begin(
    database: Database, origin: str, signer: Signer, clock: Callable[[], Instant]
) -> log_head.LogHead:
    """The head of the log, made if there is none, once it is known to be ours."""
    with database.writing() as db:
        log_head.begin(db, origin, signer, from_ms(to_ms(clock())))
        begun = log_head.read(db, database.words, None)
    log_head.check_ours(begun, origin, signer)
    return begun


def _doubts(db: Connection) -> Iterator[str]:
    """What a reader can see to be wrong."""
    size, (count, following) = log.head(db).size, log.counted(db)
    if not size == count == following:
        yield f"the log's head says {size} events, the table holds {count}"
    asleep = reads.asleep_for_ever(db)
    if asleep:
        yield f"{asleep} grants are not over and would never be looked at again"
