"""PostgreSQL restarted, cut off, full, read-only, crowded, replaced: nothing half-written, and
nobody is ever told what is not so.
"""

import signal
import socket
import threading
from contextlib import contextmanager, suppress
from datetime import timedelta
from urllib.parse import urlsplit

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from chaos.proxy import FaultProxy
from sqlalchemy import text

from tests import postgres
from tidegate.base.errors import AskedWrongly, EvidenceClosed, WorldFailed
from tidegate.main.postgres import postgres_server
from tidegate.store import Pace, Store, answered, compare
from tidegate.store.engines import open_database
from tidegate.store.locks import number_of
from tidegate.store.migrate import REVISIONS
from tidegate.store.postgres import spelled
from tidegate.store.schema import metadata

from .making import NOW, ORIGIN, SIGNER, Clock, filed, lifecycle, open_store, said
from .test_queue import waiting

pytestmark = pytest.mark.only("postgresql")
SHORT = 0.3  # seconds of patience where the server is not coming back


@pytest.fixture(scope="module")
def own():
    """A server that a test may stop."""
    with postgres_server() as server:
        yield server


def _database(server, name):
    with psycopg.connect(server.url(), autocommit=True) as db:
        db.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
        db.execute(f"CREATE DATABASE {name}".encode())
    return server.url(name)


def _tell(url, *statements):
    with psycopg.connect(url, autocommit=True) as db:
        for statement in statements:
            db.execute(statement)


def test_every_connection_is_durable_and_bounded(place):
    """Whatever the role was given as a default, a commit waits for the disk, and none for ever."""
    name = place.rpartition("/")[2]
    _tell(place, f"ALTER DATABASE {name} SET synchronous_commit = off")
    store = open_store(place)
    shown = store._writer.run(
        lambda db: [
            db.execute(f"SHOW {one}").fetchone()[0]
            for one in ("synchronous_commit", "statement_timeout", "lock_timeout")
        ]
    )
    assert shown == ["on", "20s", "5s"]
    _tell(place, f"ALTER DATABASE {name} RESET synchronous_commit")
    store.close()


def test_texts_compare_as_bytes_in_any_language(store, place):
    """In a database made for a language pages and ranges still go by bytes, in every table."""
    with psycopg.connect(place) as db:
        odd = db.execute(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = 'public' AND data_type = 'text'"
            " AND collation_name IS DISTINCT FROM 'C'"
        ).fetchall()
    assert odd == []


def test_restart_of_the_server_is_not_noticed(own):
    """Stopped and started again between two calls, reading and writing go on as if it had not."""
    store = open_store(_database(own, "restarted"))
    store.commit(filed(1)[0])
    store.requests(), store.beats(), store.now()
    own.stop(signal.SIGKILL)
    own.start()
    assert len(store.requests()) == 1
    assert store.now() > NOW
    assert store.commit(filed(2)[0]).first_idx == 1
    assert store.claim_due(NOW, 10, timedelta(minutes=1)) == []
    assert compare(store) == [] and store.integrity() == ()
    store.close()


def test_server_that_is_away_closes_evidence_and_heals(own):
    """While it is away every write is refused in words, within the patience; then it goes on."""
    store = open_store(_database(own, "away"), patience=SHORT)
    store.commit(filed(1)[0])
    own.stop()
    try:
        with pytest.raises(EvidenceClosed, match="evidence cannot be written: the database"):
            store.commit(filed(2)[0])
        with pytest.raises(WorldFailed, match="the database cannot be read"):
            store.head()
        with pytest.raises(WorldFailed, match="the database cannot be read"):
            store.now()
        with store.only_one("key") as ours:
            assert not ours
        with store.only_one("key", unasked=True) as end, store.only_one("key", unasked=True) as two:
            assert end and not two  # an end waits for no database, but has one hand here
        assert store.integrity() != ()
    finally:
        own.start()
    assert store.commit(filed(2)[0]).first_idx == 1
    store.close()


def test_other_cluster_at_the_same_address_is_refused(own):
    """A server restored or swapped behind the same name and port is not written to, nor read."""
    url = _database(own, "swapped")
    store = open_store(url, patience=SHORT)
    store.commit(filed(1)[0])
    own.stop()
    try:
        with postgres_server(port=own.port) as other:
            theirs = _database(other, "swapped")
            open_store(theirs).close()
            with pytest.raises(EvidenceClosed, match="leads to another database"):
                store.commit(filed(2)[0])
            with pytest.raises((EvidenceClosed, WorldFailed)):
                store.head()
            with psycopg.connect(theirs) as db:
                assert db.execute("SELECT size FROM log_head").fetchone() == (0,)
    finally:
        own.start()
    assert store.commit(filed(2)[0]).first_idx == 1
    store.close()


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("53100", "the database's disk is full"),
        ("40001", "two transactions got in each other's way"),
        ("57014", "the database did not answer in time"),
        ("XX001", "the database's files are damaged"),
    ],
)
def test_failing_write_fails_the_whole_batch_and_heals(store, place, state, words):
    """Whatever the server says no with, nobody's Step is stored and each is told why."""
    store.commit(filed(1)[0])
    _tell(
        place,
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$",
        "CREATE TRIGGER no BEFORE INSERT ON event_bytes EXECUTE FUNCTION no()",
    )
    waiting = [store.submit(filed(number)[0]) for number in range(2, 20)]
    for future in waiting:
        assert isinstance(future.exception(), EvidenceClosed)
        assert words in future.exception().message
    assert (store.head().size, len(store.requests())) == (1, 1)
    _tell(place, "DROP TRIGGER no ON event_bytes")
    assert store.commit(filed(2)[0]).first_idx == 1
    assert compare(store) == []


def test_read_only_server_refuses_in_words_and_heals(store, place):
    """A database that turned read-only takes nothing, and later takes it again."""
    name = place.rpartition("/")[2]
    _tell(place, f"ALTER DATABASE {name} SET default_transaction_read_only = on", _CUT)
    with pytest.raises(EvidenceClosed, match="the database is read-only"):
        store.commit(filed(1)[0])
    undo = f"ALTER DATABASE {name} RESET default_transaction_read_only"
    _tell(place, "SET default_transaction_read_only = off", undo, _CUT)
    assert store.commit(filed(1)[0]).first_idx == 0


def test_crowded_server_is_told_in_words(place):
    """With every connection taken a write is refused, and goes through when one is free."""
    name = place.rpartition("/")[2]
    _tell(
        place,
        "DROP ROLE IF EXISTS app",
        "CREATE ROLE app LOGIN",
        "GRANT ALL ON SCHEMA public TO app",
    )
    mine = place.replace("tidegate@", "app@")
    _tell(place, "GRANT ALL ON ALL TABLES IN SCHEMA public TO app")
    store = open_store(mine, patience=SHORT)
    _tell(place, f"ALTER DATABASE {name} CONNECTION LIMIT 0", _CUT)
    with pytest.raises(EvidenceClosed, match="too many connections"):
        store.commit(filed(1)[0])
    _tell(place, f"ALTER DATABASE {name} CONNECTION LIMIT -1")
    assert store.commit(filed(1)[0]).first_idx == 0
    store.close()


def test_text_the_database_cannot_hold_fails_alone(store):
    """A value PostgreSQL refuses is its Step's fault: what waits beside it is stored."""
    with pytest.raises(psycopg.DataError):
        store._writer.run(lambda db: db.execute("SELECT CAST(? AS text)", ("a\0b",)))
    assert store.commit(filed(1)[0]).first_idx == 0


def test_newer_release_stops_this_one(store, place):
    """After another release migrated the database nothing is written or claimed; it may be read."""
    step, request = filed(1)
    store.commit(step)
    _tell(place, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(EvidenceClosed, match="got `9999`"):
        store.commit(filed(2)[0])
    with pytest.raises(EvidenceClosed, match="got `9999`"):
        store.beat("worker", NOW, "")
    assert store.request(request.id) == request
    with pytest.raises(AskedWrongly, match="got `9999`"):
        open_store(place)


def test_migrations_from_nothing_are_the_schema_here_too(engine):
    """What the chain of migrations builds is what the code speaks, and every text goes by bytes."""
    url = postgres.fresh()
    open_store(url).close()
    database = open_database(url)
    with database.reading() as db:
        context = MigrationContext.configure(db, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == REVISIONS[-1]
        indexes = dict(db.execute(text("SELECT indexname, indexdef FROM pg_indexes")).all())
        ordered = db.execute(
            text(
                "SELECT table_name, column_name FROM information_schema.columns"
                " WHERE table_schema = 'public' AND data_type = 'text'"
                " AND collation_name IS DISTINCT FROM 'C'"
            )
        ).all()
    database.close()
    postgres.drop(url)
    assert ordered == []
    partial = {
        one.name: str(where)
        for table in metadata.tables.values()
        for one in table.indexes
        if (where := one.dialect_options["postgresql"].get("where")) is not None
    }
    assert partial
    assert [name for name in partial if " WHERE " not in indexes[name]] == []


def test_two_processes_take_twice_from_one_bucket(place):
    """However two stores reach into the bucket of an account, it gives what it holds and no more;
    that a cloud asked one of them to be slow holds for both.
    """
    pace = Pace(name="account:1", per_second=1, most=40, kept=0)
    stores = [open_store(place) for _ in range(2)]
    given, ready = [], threading.Barrier(4)

    def take(store):
        ready.wait()
        given.extend(store.take_tokens(pace, 1, NOW) for _ in range(20))

    threads = [threading.Thread(target=take, args=(stores[one % 2],)) for one in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    one, other = stores
    assert (len(given), sum(given)) == (80, 40)
    second = timedelta(seconds=1)
    assert one.take_tokens(pace, 9, NOW + 4 * second) == 4
    assert other.take_tokens(pace, 9, NOW + 4 * second) == 0
    one.slow_pace(pace.name, NOW + 14 * second, NOW + 4 * second)
    assert other.take_tokens(pace, 9, NOW + 10 * second) == 3
    for store in stores:
        store.close()


def test_writers_of_several_processes_share_one_log(place):
    """Four writers at once: every index once, every row what the events say, no Step lost."""
    stores = [open_store(place) for _ in range(4)]

    def work(number):
        for life in range(5):
            lifecycle(stores[number], number * 100 + life)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({store.head() for store in stores}) == 1
    leaves = list(stores[0].all_events())
    assert [idx for idx, _ in leaves] == list(range(stores[0].head().size))
    assert compare(stores[0]) == [] and stores[0].integrity() == ()
    for store in stores:
        store.close()


def test_due_grant_is_given_to_one_process(place):
    """What one process has leased no other is given, though both ask at the same moment."""
    ours, theirs = open_store(place), open_store(place)
    for number in range(40):
        waiting(ours, number)
    found, lease = [], timedelta(minutes=1)
    threads = [
        threading.Thread(target=lambda one=one: found.extend(one.claim_due(NOW, 30, lease)))
        for one in (ours, theirs) * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = [grant.id for grant in found]
    assert len(names) == len(set(names))
    rest = ours.claim_due(NOW, 40, lease)
    assert len(rest) + len(names) == 40
    ours.close()
    theirs.close()


def test_commit_of_another_process_wakes_who_waits(place):
    """News crosses processes: no worker waits out its floor for what another process made due."""
    ours, theirs = open_store(place), open_store(place)
    while ours.wait_for_news(timedelta(seconds=5)) is False:
        pass  # it listens now
    ours.wait_for_news(timedelta(0))
    theirs.commit(filed(1)[0])
    lifecycle(theirs, 2)
    assert ours.wait_for_news(timedelta(seconds=20))
    ours.close()
    theirs.close()


def test_key_in_hand_is_no_other_processs(place):
    """One key, one hand, over all processes; a lost connection gives it up and heals."""
    ours, theirs = open_store(place), open_store(place)
    with ours.only_one("key") as first:
        with theirs.only_one("key") as second, ours.only_one("key") as third:
            assert (first, second, third) == (True, False, False)
        _tell(place, _CUT)
        with theirs.only_one("other") as lost:
            assert not lost  # its own connection went as well: nobody can say
        theirs._database._locks._not_before = 0.0
        with theirs.only_one("key") as after:
            assert after  # the server gave it up with the connection
    ours._database._locks._not_before = 0.0
    with ours.only_one("key") as again:
        assert again
    ours.close()
    theirs.close()


def test_number_of_a_key_fits_a_lock():
    """Any key is 64 signed bits, the same in every release: two releases must not both have it."""
    assert number_of("aws|1|admin") == 7586924463624661602
    assert all(-(2**63) <= number_of(str(one)) < 2**63 for one in range(200))


@pytest.mark.parametrize("arrived", [True, False])
def test_lost_answer_to_a_commit_is_looked_up(place, arrived):
    """Cut at COMMIT, the callers are told what is so: durable when it arrived, nothing when not."""
    with _proxy(place) as proxy:
        store = open_store(proxy.url)
        store.commit(filed(1)[0])
        proxy.cut_at_commit(arrived)
        step, request = filed(2)
        if arrived:
            done = store.commit(step)
            assert (done.first_idx, done.size) == (1, 2)
            assert store.request(request.id) == request
        else:
            with pytest.raises(EvidenceClosed, match="nothing was stored"):
                store.commit(step)
            assert store.head().size == 1
        assert store.commit(said()).first_idx == store.head().size - 1
        assert compare(store) == []
        store.close()


def test_commit_nobody_can_ask_about_is_called_unknown(place):
    """With the way cut for longer than the patience, the outcome is unknown, and said to be."""
    with _proxy(place) as proxy:
        store = open_store(proxy.url, patience=SHORT)
        proxy.cut_at_commit(True, stay=True)
        with pytest.raises(EvidenceClosed, match="its answer never came") as caught:
            store.commit(filed(1)[0])
        assert caught.value.code == "outcome_unknown"
        proxy.heal()
        assert store.head().size == 1
        assert store.commit(filed(2)[0]).first_idx == 1
        store.close()


def test_server_that_says_nothing_holds_nobody_and_is_found_again(place, monkeypatch):
    """Where every byte is taken and none passed on, whoever asks is told within the bounds, the
    next one at once, and the first that asks when it is back is answered.
    """
    monkeypatch.setattr(answered, "ANSWER", timedelta(milliseconds=200))
    monkeypatch.setattr(answered, "AGAIN", timedelta(milliseconds=50))
    port = urlsplit(place).port
    with FaultProxy(port, http=False) as way:
        url = place.replace(f":{port}/", f":{way.port}/") + "?connect_timeout=2"
        store = open_store(url, patience=SHORT)
        before = store.head()
        way.freeze()
        with pytest.raises(WorldFailed, match="cannot be reached"):
            store.head()
        with pytest.raises(EvidenceClosed, match="cannot be reached"):
            store.commit(filed(1)[0])
        with store.only_one("a", unasked=True) as ours:
            assert ours
        way.clear()
        presence = store._database._presence
        for _ in range(200):
            if not presence.away:
                break
            threading.Event().wait(0.02)
        assert store.head() == before
        store.commit(filed(1)[0])
        store.close()


def test_store_that_never_opened_leaves_somebody_asking(place):
    """Whoever tries to open a silent database again and again leaves no thread behind."""
    port = urlsplit(place).port
    with FaultProxy(port, http=False) as way:
        way.freeze()
        url = place.replace(f":{port}/", f":{way.port}/") + "?connect_timeout=2"
        with pytest.raises(EvidenceClosed, match="cannot be reached"):
            open_store(url, patience=SHORT)
        asking = [one for one in threading.enumerate() if one.name == "tidegate-presence"]
        for one in asking:
            one.join(5)
        assert not any(one.is_alive() for one in asking)


def test_long_statement_of_a_server_that_is_there_is_waited_for(place, monkeypatch):
    """Without a word for long, but the server takes connections: the answer is waited for."""
    monkeypatch.setattr(answered, "ANSWER", timedelta(milliseconds=50))
    store = open_store(place)
    assert store._database.look("SELECT 1 FROM pg_sleep(0.4)", ()) == [(1,)]
    store.close()


def test_slow_connect_aborts_what_is_answered(place, monkeypatch):
    """One connection that could not be made in time takes no other's answer away: a commit under
    way would have an outcome nobody knows.
    """
    monkeypatch.setattr(answered, "AGAIN", timedelta(minutes=1))
    store = open_store(place)
    got: list[object] = []
    asking = threading.Thread(
        target=lambda: got.extend(store._database.look("SELECT 1 FROM pg_sleep(0.8)", ()))
    )
    asking.start()
    threading.Event().wait(0.2)  # it is under way
    store._database._presence.missed()
    asking.join()
    assert got == [(1,)]
    store.close()


def test_password_is_asked_for_and_never_in_the_url(place):
    """A password in the URL is refused unseen; one beside it is used."""
    for url in (place.replace("tidegate@", "tidegate:hush@"), f"{place}?password=hush"):
        with pytest.raises(AskedWrongly, match="without a password") as caught:
            Store.open(url, origin=ORIGIN, signer=SIGNER, clock=Clock())
        assert "hush" not in caught.value.message + caught.value.help
    Store.open(
        place, origin=ORIGIN, signer=SIGNER, clock=Clock(), create=True, password="hush"
    ).close()


def test_database_that_is_not_there_is_named(place):
    """A wrong name is a plain error, at once; it is not waited for."""
    with pytest.raises(AskedWrongly, match="got none of that name"):
        open_store(place.rpartition("/")[0] + "/nowhere")
    empty = postgres.fresh()
    with pytest.raises(AskedWrongly, match="got an empty database"):
        open_store(empty, create=False)
    _tell(empty, "CREATE TABLE invoices (id int)")
    with pytest.raises(AskedWrongly, match="a table `invoices`"):
        open_store(empty)


def test_spelling_of_placeholders():
    """Placeholders are the driver's, casts and texts stay as they are."""
    assert spelled("a = ? AND b = :name AND c::text = '?:x%'") == (
        b"a = %s AND b = %(name)s AND c::text = '?:x%%'"
    )
    assert spelled("a % 2") == b"a %% 2"


# Ends every other connection to the database.
_CUT = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


class _Proxy:
    """A wire between a store and its server that can be cut when a commit passes."""

    def __init__(self, url):
        at = urlsplit(url)
        self._to = (at.hostname, at.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = url.replace(f":{at.port}/", f":{self._listener.getsockname()[1]}/")
        self._cut = None
        self._stay = False
        self._open = True
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_at_commit(self, arrives, stay=False):
        """Cut the next commit, before or after the server has it; `stay` down until `heal`."""
        self._cut, self._stay = arrives, stay

    def heal(self):
        """Take connections again."""
        self._open = True

    def close(self):
        """No more."""
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if not self._open:
                client.close()
                continue
            server = socket.create_connection(self._to)
            for pair in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, source, sink, to_server):
        try:
            while data := source.recv(65536):
                if to_server and self._cut is not None and b"COMMIT" in data:
                    arrives, self._cut = self._cut, None
                    self._open = not self._stay
                    source.shutdown(socket.SHUT_RDWR)
                    if arrives:
                        sink.sendall(data)
                    break
                sink.sendall(data)
        except OSError:
            pass
        for one in (source,) if to_server else (source, sink):
            one.close()
        if to_server:
            with suppress(OSError):
                sink.shutdown(socket.SHUT_WR)


@contextmanager
def _proxy(url):
    proxy = _Proxy(url)
    try:
        yield proxy
    finally:
        proxy.close()
