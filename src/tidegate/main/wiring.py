"""Putting the house together: the only place that makes adapters, the clock and the randomness."""

import os
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from tidegate.base.duty import ALL, WORKER, Duty, Process, duties_of
from tidegate.base.errors import AskedWrongly, TidegateError
from tidegate.base.sealed_box import shared_key
from tidegate.base.when import Instant
from tidegate.connectors.port import Trouble
from tidegate.diagnose.looking import mismatch
from tidegate.evidence.journal import ClosingJournal
from tidegate.evidence.mounted import MountedJournal
from tidegate.evidence.note import FileSigner, parse_signer
from tidegate.evidence.panic_file import PanicFile
from tidegate.evidence.witnesses import Witnesses
from tidegate.flow.erranding import Errands
from tidegate.flow.governing import put_in_force, start_log
from tidegate.flow.house import LOG_FORKED, BareHouse, Groups, House, Laws
from tidegate.flow.look_hands import LOOK_HANDS
from tidegate.flow.panics_kept import PanicsKept
from tidegate.flow.reconciling import LOOKED_AT_ONCE, help_reconcile, reconcile_some
from tidegate.flow.recovering import look_back
from tidegate.flow.refusing import Refusals
from tidegate.flow.searching import search_some
from tidegate.flow.standing import STANDING_EVERY, look_at_standing
from tidegate.main.clouds import Clouds
from tidegate.main.config import (
    NOT_THERE,
    AwsPart,
    Config,
    database_password,
    database_path,
    database_url,
    load_catalogue,
    load_config,
    load_rule_files,
    secret,
)
from tidegate.main.groups import load_groups
from tidegate.main.keys import coming_signer, finish, log_keys
from tidegate.main.left import tell_left
from tidegate.main.only_server import HOLD_AGAIN, OnlyServer
from tidegate.main.pairs import read_for
from tidegate.main.places import Place
from tidegate.main.values import warn_before
from tidegate.main.waiting import DAMAGED, Opened, once_there
from tidegate.policy.rules import load_rules
from tidegate.shell.worker import (
    GOVERN_EVERY,
    HELP_EVERY,
    RECONCILE_EVERY,
    SEARCH_EVERY,
    WITNESS_EVERY,
    Chore,
    Worker,
)
from tidegate.store import Store

Stamp = tuple[tuple[str, int, int], ...]  # (file, time of change, size): enough to see a change

COMPACT_EVERY = timedelta(minutes=10)


def clock() -> Instant:
    """The real clock. Nothing else in the product reads it."""
    return datetime.now(UTC)


@dataclass(slots=True)
class Running:
    """An installation that is up: the house with its worker, and where checkpoints go."""

    config: Config
    house: House
    refusals: Refusals
    worker: Worker
    witness: Witnesses
    watch: "LawWatch"
    only: OnlyServer

    def close(self) -> None:
        """Stop looking, publish the last checkpoint, let go of the database."""
        self.worker.stop()
        with suppress(TidegateError):  # counts of the running minute
            self.refusals.flush(self.house, whole=True)
        with suppress(TidegateError):  # the next start publishes it: stopping waits for nobody
            publish(self.house, self.witness)
        self.house.store.close()
        self.only.release()


def read_laws(config: Config) -> Laws:
    """Rules, catalogue and groups as the files say. Raises AskedWrongly with file and line."""
    return Laws(
        rules=load_rules(load_rule_files(config)),
        catalogue=load_catalogue(config),
        groups=load_groups(config),
        operators=config.identity.operators,
        auditors=config.identity.auditors,
    )


def read_signer(config: Config) -> FileSigner:
    """The log's key. Raises AskedWrongly when it is missing or another log's."""
    try:
        signer = parse_signer(secret(config, config.evidence.key))
    except AskedWrongly as fault:
        if fault.code != NOT_THERE or not config.evidence.key.startswith(("file:", "env:")):
            raise
        help = "put the log's key back where it was (its backup); only a new log has one by `init`"
        raise AskedWrongly(fault.code, fault.message, help) from fault
    if signer.name != config.evidence.origin:
        raise AskedWrongly(
            "other_log_key",
            f"expected a key of `{config.evidence.origin}`, got one of `{signer.name}`",
            "the origin of a log never changes; put back the one made by init",
        )
    return signer


def secret_checks(config: Config) -> list[tuple[Place, Callable[[], object]]]:
    """One check for each secret the settings refer to, with its place. Each raises AskedWrongly."""
    key: Place = ("evidence", "key")
    checks: list[tuple[Place, Callable[[], object]]] = [(key, partial(read_signer, config))]
    for number, target in enumerate(config.target):
        aws = target.aws or AwsPart()
        checks += _key_checks(config, ("target", number, "aws"), aws.keys())
    if config.identity_center is not None:
        checks += _key_checks(config, ("identity_center",), config.identity_center.keys())
    if config.database.password:
        checks.append((("database", "password"), partial(database_password, config)))
    return checks


def _key_checks(
    config: Config, part: Place, keys: Mapping[str, tuple[str, str]]
) -> Iterator[tuple[Place, Callable[[], object]]]:
    wanted = read_for(duties_of(config.server.worker), keys)
    for prefix, pair in keys.items():
        if prefix not in wanted:
            continue  # for a process of another duty: not read here, and so not missed
        for name, reference in zip(("access_key_id", "secret_access_key"), pair, strict=True):
            if reference:
                yield (*part, f"{prefix}{name}"), partial(secret, config, reference)


def open_store(config: Config, create: bool = False) -> Store:
    """The database, brought up to this version's schema.

    A change of the log's key that was sealed, and cut short before its files were in place, is
    finished here: from then on `read_signer` gives the new key.
    """
    try:
        return _open_store(config, read_signer(config), create)
    except AskedWrongly as fault:
        coming = coming_signer(config) if fault.code == "other_key" else None
        if coming is None:
            raise
        store = _open_store(config, coming, create)
    try:
        finish(config, store, coming)
    except BaseException:
        store.close()
        raise
    return store


def _open_store(config: Config, signer: FileSigner, create: bool) -> Store:
    return Store.open(
        database_url(config),
        origin=config.evidence.origin,
        signer=signer,
        clock=clock,
        create=create,
        password=database_password(config),
    )


def open_house(
    config: Config,
    *,
    create: bool = False,
    clouds: Clouds | None = None,
    me: str = WORKER,
    journal: ClosingJournal | None = None,
    store: Store | None = None,
) -> House:
    """The house without its worker. Its duties are those `clouds` has keys for.

    A `store` that is given stays open also when there can be no house.
    """
    laws = read_laws(config)
    clouds = clouds or Clouds()
    connectors = clouds.connect(config)
    house = House(
        store=store or open_store(config, create),
        journal=journal or MountedJournal(config.path(config.evidence.journal)),
        connectors=connectors,
        laws=laws,
        clock=clock,
        randomness=os.urandom,
        warn_before=warn_before(config.warn.before),
        process=Process(id=me, duties=clouds.duties, key=shared_key(read_signer(config).seed)),
    )
    house.wanted = PanicsKept(panic_file(config))
    try:
        start_log(house, config.evidence.origin, read_signer(config).verifier().text())
    except BaseException:
        if store is None:
            house.store.close()
        raise
    return house


def panic_file(config: Config) -> PanicFile:
    """Where panics wait that cannot be sealed: beside the closing journal."""
    journal = config.path(config.evidence.journal)
    return PanicFile(journal.with_name(f"{journal.name}.panics"))


def process_id() -> str:
    """This process among all: host, process id, and a little that no other ever had."""
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:40] or "host"
    return f"{host}-{os.getpid()}-{os.urandom(4).hex()}"


def start(
    config_path: Path,
    duties: frozenset[Duty] | None = None,
    stopped: threading.Event | None = None,
) -> Running:
    """Everything up: laws sealed as in force, worker looking. `duties` stand over the settings'.

    While it cannot be up (the database is away or of a newer release, a secret, rules or groups
    cannot be read, a bug), ends go on from the closing journal (`waiting.py`); a stop is heard by
    `stopped`.

    Raises:
        AskedWrongly: `already_running`: on SQLite one process has the whole installation.
            `one_process`: it must therefore have every duty.
        WorldFailed: `no_disk`: neither journal nor database can be there.
        ToldToStop: `stopped` was set before all was there.
    """
    config = load_config(config_path)
    duties = duties_of(config.server.worker) if duties is None else duties
    database = database_path(config)
    if database is not None and duties != ALL:
        raise AskedWrongly(
            "one_process",
            "expected every duty in the one process of an installation on SQLite, got fewer",
            "leave it at `all`, or move to PostgreSQL for more processes (docs/operations.md)",
        )
    errands = Errands()
    clouds = Clouds(duties, errands.look, errands.only_one)
    watch = LawWatch(config_path, config, clouds)  # first: a change while we start is then seen
    journal = MountedJournal(config.path(config.evidence.journal))
    opened = Opened(partial(open_store, config))
    only = OnlyServer(journal, database)
    only.hold()  # before anything is closed from the journal
    reach = partial(_reach, config, opened, only, journal, clouds, errands, process_id())
    try:
        if Duty.CLOSE not in duties:
            house = reach()
        else:
            bare = BareHouse(
                journal=journal,
                connectors=clouds.connect(config),
                laws=Laws(rules=load_rules({}), catalogue=load_catalogue(config), groups=Groups()),
                clock=clock,
                randomness=os.urandom,
            )
            bare.confirms = opened.confirms
            read = partial(read_laws, config)
            house = once_there(bare, reach, stopped or threading.Event(), read=read)
    except BaseException:
        opened.close()
        only.release()
        raise
    refusals = Refusals()
    witness = witnesses_of(config, house)
    witness.check()  # before anything opens: an older database may have been put back
    house.late_after = config.lateness.span
    house.outside = partial(outside_of, house, witness, only=only)
    chores = (
        Chore("govern", GOVERN_EVERY, lambda: watch.look(house)),
        Chore("witness", WITNESS_EVERY, lambda: publish(house, witness), long=True),
        Chore("hold", HOLD_AGAIN, only.hold_again, long=True),
        Chore("compact", COMPACT_EVERY, lambda: house.journal.compact(house.now()), long=True),
        *(_looks(house) if Duty.CLOSE in duties else ()),
    )
    worker = Worker(house, refusals, chores)
    worker.start()
    return Running(config, house, refusals, worker, witness, watch, only)


def _looks(house: House) -> Iterator[Chore]:
    """What a process that closes looks for in the clouds, beside what is due."""
    looks = partial(reconcile_some, house, LOOKED_AT_ONCE)
    yield Chore("reconcile", RECONCILE_EVERY, looks, aside=True)
    for hand in range(1, LOOK_HANDS):
        helps = partial(help_reconcile, house, hand)
        yield Chore(f"reconcile {hand}", HELP_EVERY, helps, aside=True)
    yield Chore("standing", STANDING_EVERY, partial(look_at_standing, house), aside=True)
    yield Chore("search", SEARCH_EVERY, lambda: search_some(house), aside=True)


def _reach(
    config: Config,
    opened: Opened,
    only: OnlyServer,
    journal: ClosingJournal,
    clouds: Clouds,
    errands: Errands,
    me: str,
) -> House:
    """The house with all that a start needs its database for.

    The database stays open only when it is something else that keeps the start.
    """
    alone = database_path(config) is not None
    only.hold_again()  # another may have come while a disk was away
    store = opened.open()
    try:
        house = open_house(config, clouds=clouds, me=me, journal=journal, store=store)
        errands.house = house
        if alone:
            house.store.free_leases()  # of a process that is no more
        put_in_force(house, house.laws, starting=not alone)
        tell_left(config, clouds.duties)
        if Duty.CLOSE in house.duties:
            look_back(house)  # before anybody can use what the journal says has ended
    except BaseException as fault:
        errands.house = None
        if not isinstance(fault, AskedWrongly) or isinstance(fault, DAMAGED):
            opened.close()
        raise
    return house


def witnesses_of(config: Config, house: House) -> Witnesses:
    """The places checkpoints go to, each held against the log before it is brought a newer one."""
    keys = log_keys(house.store, read_signer(config).verifier())
    return Witnesses(
        directory=config.path(config.witness.directory) if config.witness.directory else None,
        url=config.witness.url,
        memory=witness_memory(config),
        contradicts=partial(mismatch, house.store, keys),
        started=house.now(),
        beats=house.store.beats(),
    )


def witness_memory(config: Config) -> Path:
    """Where the last checkpoint that an address took is kept: beside the closing journal."""
    return config.path(config.evidence.journal).parent / "witnessed"


def outside_of(
    house: House, witness: Witnesses, now: Instant, only: OnlyServer | None = None
) -> tuple[Trouble, ...]:
    """What lies outside the store and the clouds, for the health gate: what the server cannot
    hold, the witnesses, and other machines' rules.
    """
    ours = tuple(only.troubles()) if only else ()
    return (*ours, *_elsewhere(house, witness, now))


def _elsewhere(house: House, witness: Witnesses, now: Instant) -> tuple[Trouble, ...]:
    forked = witness.forked()
    if forked is not None:
        help = (
            "an older database was put back, or the log was rewritten: closing goes on; see "
            "`A forked log` in docs/operations.md"
        )
        return (Trouble(code=LOG_FORKED, message=forked, help=help),)
    if house.apart:
        help = "copy the same rules to every machine; what was changed last is what should be there"
        return (Trouble(code="rules_apart", message=house.apart, help=help),)
    silent = witness.trouble(house.store.head().size, now)
    if silent is None:
        return ()
    help = "mend the way to it; until then nobody outside could show that events were rewritten"
    return (Trouble(code="witness_silent", message=silent, help=help),)


def publish(house: House, witness: Witnesses) -> None:
    """Publish the newest checkpoint, and keep when each place last had it.

    Raises WorldFailed, EvidenceBroken: as `Witnesses.publish`; what went well is kept all the same.
    """
    try:
        witness.publish(house.store.head().checkpoint_text, house.now())
    finally:
        for name, (at, size) in witness.beats().items():
            house.store.beat(name, at, size)


class LawWatch:
    """Notices that rules, catalogue or groups changed on disk and puts them in force.

    Broken files change nothing: what was in force stays, and `doctor` says what is wrong. A change
    that could not be sealed is tried again until it is.
    """

    def __init__(self, config_path: Path, config: Config, clouds: Clouds) -> None:
        self._path = config_path
        self._clouds = clouds
        self._follow(config)
        self._seen = self._stamp()
        self._broken: Stamp | None = None
        self._half = False  # some may be in force: groups are, before rules can be sealed
        self.fault: TidegateError | None = None

    def look(self, house: House) -> list[str]:
        """Names of what changed. Raises what is wrong: broken files once, the world each time."""
        stamp = self._stamp()
        if stamp == self._broken:
            return []
        known = stamp == self._seen and not self._half
        if known and (self.fault is None or self._broken is not None):
            self._broken, self.fault = None, None  # mended by putting back what was there
            return put_in_force(house, house.laws, starting=True) if house.apart else []
        try:
            config = load_config(self._path)
            self._follow(config)
            stamp = self._stamp()  # before reading: a change in between is then seen next time
            laws = read_laws(config)
            connectors = self._clouds.connect(config)
            self._half = True
            changed = put_in_force(house, laws)
            self._half = False
        except AskedWrongly as fault:
            self._broken, self.fault = stamp, fault
            raise
        except TidegateError as fault:
            self._broken, self.fault = None, fault
            raise
        house.connectors = connectors
        house.looks.forget()
        self._seen, self._broken, self.fault = stamp, None, None
        return changed

    def _follow(self, config: Config) -> None:
        self._rules = config.path(config.rules.directory)
        self._groups = config.path(config.identity.groups)

    def _stamp(self) -> Stamp:
        files = [self._path, self._groups, *self._rules.glob("*.cedar")]
        return tuple(
            (str(file), file.stat().st_mtime_ns, file.stat().st_size)
            for file in sorted(set(files))
            if file.exists()
        )
