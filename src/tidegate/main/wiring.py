"""Putting the house together: the only place that makes adapters, the clock and the randomness."""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from tidegate.base.errors import AskedWrongly, EvidenceBroken, TidegateError, WorldFailed
from tidegate.base.when import Instant
from tidegate.connectors.port import Connector
from tidegate.evidence.journal import ClosingJournal
from tidegate.evidence.note import FileSigner, parse_signer
from tidegate.flow.governing import put_in_force, start_log
from tidegate.flow.house import House, Laws
from tidegate.flow.proving import Witness
from tidegate.flow.refusing import Refusals
from tidegate.main.config import (
    Config,
    TargetPart,
    load_catalogue,
    load_config,
    load_groups,
    load_rule_files,
    secret,
)
from tidegate.policy.rules import load_rules
from tidegate.shell.worker import GOVERN_EVERY, WITNESS_EVERY, Chore, Worker
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
    witness: Witness
    watch: "LawWatch"

    def close(self) -> None:
        """Stop looking, publish the last checkpoint, let go of the database."""
        self.worker.stop()
        with suppress(TidegateError):  # the next start publishes it: stopping waits for nobody
            self.witness.publish(self.house)
        self.house.store.close()


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
    except EvidenceBroken as fault:
        raise AskedWrongly("bad_log_key", fault.message, "restore the key made by init") from None
    if signer.name != config.evidence.origin:
        raise AskedWrongly(
            "other_log_key",
            f"expected a key of `{config.evidence.origin}`, got one of `{signer.name}`",
            "the origin of a log never changes; put back the one made by init",
        )
    return signer


def make_connectors(config: Config) -> dict[str, Connector]:
    """Every connector the targets name. Clients are made when first used."""
    names = sorted({target.connector for target in config.target})
    made: dict[str, Connector] = {}
    for name in names:
        targets = [target for target in config.target if target.connector == name]
        if name == "aws":
            made[name] = _aws(config, targets)
        elif name == "simulated":
            from tidegate.connectors.simulated import SimulatedCloud, SimulatedConnector

            made[name] = SimulatedConnector(SimulatedCloud())
        else:
            raise AskedWrongly(
                "no_connector",
                f"expected connector `aws` or `simulated`, got `{name[:40]}`",
                "correct `connector` of the target",
            )
    return made


def secret_names(config: Config) -> list[Callable[[], object]]:
    """One check for each secret the configuration refers to; each raises what is wrong."""
    checks: list[Callable[[], object]] = [lambda: read_signer(config)]
    for target in config.target:
        part = target.aws
        if part:
            for name in (part.access_key_id, part.secret_access_key):
                if name:
                    checks.append(partial(secret, config, name))
    return checks


def open_store(config: Config, create: bool = False) -> Store:
    """The database, brought up to this version's schema."""
    return Store.open(
        f"sqlite:///{database_path(config)}",
        origin=config.evidence.origin,
        signer=read_signer(config),
        clock=clock,
        create=create,
    )


def open_house(config: Config, *, create: bool = False) -> House:
    """The house without its worker: for `init`, accounts and checks on the same machine."""
    laws = read_laws(config)
    connectors = make_connectors(config)
    house = House(
        store=open_store(config, create),
        journal=ClosingJournal(config.path(config.evidence.journal)),
        connectors=connectors,
        laws=laws,
        clock=clock,
        randomness=os.urandom,
    )
    start_log(house, config.evidence.origin, read_signer(config).verifier().text())
    return house


def start(config_path: Path) -> Running:
    """Everything up: laws sealed as in force, worker looking."""
    config = load_config(config_path)
    house = open_house(config)
    put_in_force(house, house.laws)
    refusals = Refusals()
    witness = Witness(
        directory=config.path(config.witness.directory) if config.witness.directory else None,
        url=config.witness.url,
    )
    watch = LawWatch(config_path, config)
    chores = (
        Chore("govern", GOVERN_EVERY, lambda: watch.look(house)),
        Chore("witness", WITNESS_EVERY, lambda: witness.publish(house)),
        Chore("compact", COMPACT_EVERY, house.journal.compact),
    )
    worker = Worker(house, refusals, chores)
    worker.start()
    return Running(config, house, refusals, worker, witness, watch)


class LawWatch:
    """Notices that rules, catalogue or groups changed on disk and puts them in force.

    Broken files change nothing: what was in force stays, and `doctor` says what is wrong. A change
    that could not be sealed is tried again until it is.
    """

    def __init__(self, config_path: Path, config: Config) -> None:
        self._path = config_path
        self._follow(config)
        self._seen = self._stamp()
        self._broken: Stamp | None = None
        self.fault: TidegateError | None = None

    def look(self, house: House) -> list[str]:
        """Names of what changed. Raises what is wrong: broken files once, the world each time."""
        stamp = self._stamp()
        if stamp in (self._seen, self._broken):
            return []
        try:
            config = load_config(self._path)
            self._follow(config)
            stamp = self._stamp()  # before reading: a change in between is then seen next time
            laws = read_laws(config)
            connectors = {**make_connectors(config), **_kept(house.connectors)}
            changed = put_in_force(house, laws)
        except AskedWrongly as fault:
            self._broken, self.fault = stamp, fault
            raise
        except TidegateError as fault:
            self.fault = fault
            raise
        house.connectors = connectors
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


def _kept(connectors: Mapping[str, Connector]) -> dict[str, Connector]:
    """The simulated cloud lives in this process: making it anew would forget its sessions."""
    return {name: found for name, found in connectors.items() if name == "simulated"}


def _aws(config: Config, targets: list[TargetPart]) -> Connector:
    try:
        import botocore  # noqa: F401 - asked here, so that a missing extra is told in words
    except ImportError:
        raise WorldFailed(
            "no_extra", "expected the `aws` extra, got none", "pip install 'tidegate[aws]'"
        ) from None
    from tidegate.connectors.aws import AwsConnector, AwsSettings
    from tidegate.main.config import AwsPart

    settings = {}
    for target in targets:
        part = target.aws or AwsPart()
        keys = part.access_key_id and part.secret_access_key
        settings[target.id] = AwsSettings(
            region=part.region,
            endpoint_url=part.endpoint_url or None,
            access_key_id=secret(config, part.access_key_id) if keys else "",
            secret_access_key=secret(config, part.secret_access_key) if keys else "",
            own=tuple(part.own),
            protect=tuple(part.protect),
            handed=tuple(role.arn for role in target.role if role.arn),
        )
    locks = config.path("locks")
    locks.mkdir(mode=0o700, exist_ok=True)
    return AwsConnector(settings, lock_dir=locks, monotonic=time.monotonic)


def database_path(config: Config) -> Path:
    """The database file: relative to the configuration file, not to where one stands."""
    scheme, _, rest = config.database.url.partition(":///")
    if scheme == "sqlite" and rest:
        return config.path(rest)
    raise AskedWrongly(
        "bad_database",
        f"expected `sqlite:///FILE`, got `{scheme[:40]}:…`",
        "other databases are not supported yet",
    )
