"""The ways to the clouds: one connector for each name that targets use.

Remembers how a target was reached that left the settings: a grant that is still open there must be
closed there. While the process lives in memory, with the keys; for one that starts afterwards in a
file (`left.py`), with where the keys are read from.
"""

import time
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from tidegate.base.duty import ALL, NONE, Duty
from tidegate.base.errors import WorldFailed
from tidegate.connectors.by_kind import ByKind
from tidegate.connectors.divided import Ask, Divided
from tidegate.connectors.one_writer import Between
from tidegate.connectors.port import Connector
from tidegate.connectors.role_kinds import IAM_ROLE, PERMISSION_SET
from tidegate.main.center import settings_of
from tidegate.main.config import AwsPart, Config, TargetPart, secret
from tidegate.main.left import remember, with_left
from tidegate.main.pairs import read_for
from tidegate.main.values import check_connector

if TYPE_CHECKING:
    from tidegate.connectors.aws import AwsSettings
    from tidegate.connectors.identity_center import CenterSettings

log = structlog.get_logger("tidegate.clouds")

LOCKS = "locks"  # a directory beside the settings: one writer of a role's cuts at a time


class Clouds:
    """Makes connectors from settings, and keeps those that are as they were.

    Only the secrets of `duties` are read; `ask` is how the others' looks are had (`Divided`).
    One that does not keep (`keeps`) writes nothing: neither how targets are reached, nor locks.
    """

    def __init__(
        self,
        duties: frozenset[Duty] = ALL,
        ask: Ask | None = None,
        between: Between | None = None,
        *,
        keeps: bool = True,
    ) -> None:
        self.duties = duties
        self._keeps = keeps
        self._ask = ask
        self._between = between
        self._made: dict[str, Connector] = {}
        self._reached: dict[str, AwsSettings] = {}
        self._center: CenterSettings | None = None
        self._kinds: dict[str, frozenset[str]] = {}

    def connect(self, config: Config) -> Mapping[str, Connector]:
        """Every connector the targets name, and those they named before in this process.

        Clients are made when first used. A connector whose settings did not change stays the same
        object, with its clients; the simulated cloud lives in this process and is never made anew.

        Raises:
            AskedWrongly: an unknown connector, or a secret that is not there; nothing changes then.
            WorldFailed: the `aws` extra is not installed.
        """
        made = dict(self._made)
        for target in config.target:
            check_connector(target.connector)
        named, config = config, with_left(config, self.duties)
        aws = [target for target in config.target if target.connector == "aws"]
        reached = {**self._reached, **(_settings(config, aws, self.duties) if aws else {})}
        center = _center(config, aws, self.duties, before=self._center)
        kinds = {**self._kinds, **_kinds(aws)}
        as_before = (reached, center, kinds) == (self._reached, self._center, self._kinds)
        if reached and (not as_before or "aws" not in made):
            locks = _locks(config) if self._keeps else None
            made["aws"] = _divided(
                _aws(reached, center, kinds, locks, self.duties, self._between),
                self.duties,
                self._ask,
            )
        if "simulated" not in made and any(one.connector == "simulated" for one in config.target):
            made["simulated"] = _divided(_simulated(), self.duties, self._ask)
        self._made, self._reached = made, reached
        self._center, self._kinds = center, kinds
        if self._keeps:
            remember(named)
        return dict(made)


def offline_connectors(config: Config) -> dict[str, Connector]:
    """The same connectors without secrets, locks or memory: for checks that ask no cloud."""
    made: dict[str, Connector] = {}
    aws = [target for target in config.target if target.connector == "aws"]
    if aws:
        center = _center(config, aws, NONE)
        made["aws"] = _aws(_settings(config, aws, NONE), center, _kinds(aws), None, ALL)
    if any(target.connector == "simulated" for target in config.target):
        made["simulated"] = _simulated()
    return made


def _locks(config: Config) -> Path:
    """Where locks are. One that cannot be made there keeps openings back, and no end."""
    locks = config.path(LOCKS)
    try:
        locks.mkdir(mode=0o700, exist_ok=True)
    except OSError as fault:
        log.warning("there is no place for locks", path=str(locks), errno=fault.errno)
    return locks


def _divided(connector: Connector, duties: frozenset[Duty], ask: Ask | None) -> Connector:
    return connector if duties == ALL else Divided(connector, duties, ask)


def _settings(
    config: Config, targets: list[TargetPart], duties: frozenset[Duty]
) -> "dict[str, AwsSettings]":
    try:
        import botocore  # noqa: F401 - asked here, so that a missing extra is told in words
    except ImportError:
        raise WorldFailed(
            "no_extra", "expected the `aws` extra, got none", "pip install 'tidegate[aws]'"
        ) from None
    from tidegate.connectors.aws import AwsSettings
    from tidegate.connectors.aws_calls import Keys

    found = {}
    for target in targets:
        part = target.aws or AwsPart()
        wanted = read_for(duties, part.keys())
        pairs = {
            prefix: Keys(
                access_key_id=secret(config, key), secret_access_key=secret(config, hidden)
            )
            for prefix, (key, hidden) in part.keys().items()
            if prefix in wanted and key and hidden
        }
        own = pairs.get("") or (next(iter(pairs.values()), None) if len(duties) == 1 else None)
        found[target.id] = AwsSettings(
            region=part.region,
            endpoint_url=part.endpoint_url or None,
            access_key_id=own.access_key_id if own else "",
            secret_access_key=own.secret_access_key if own else "",
            opener=pairs.get("opener_"),
            closer=pairs.get("closer_"),
            own=tuple(part.own),
            protect=tuple(part.protect),
            handed=tuple(
                role.arn for role in target.role if role.arn and role.kind != PERMISSION_SET
            ),
        )
    return found


def _center(
    config: Config,
    targets: list[TargetPart],
    duties: frozenset[Duty],
    before: "CenterSettings | None" = None,
) -> "CenterSettings | None":
    """The instance, or the one before while this process lives, with the targets of both."""
    if config.identity_center is None:
        return before
    from tidegate.connectors.identity_center_settings import AccountSettings, Handed

    here = dict(before.targets) if before else {}
    for target in targets:
        part = target.aws or AwsPart()
        here[target.id] = AccountSettings(
            schedule=part.schedule,
            management=part.management,
            account=target.account,
            handed=tuple(
                Handed(
                    role=f"{target.id}/{role.name}",
                    arn=role.arn,
                    session=timedelta(seconds=int(role.native()["session_seconds"])),
                )
                for role in target.role
                if role.kind == PERMISSION_SET
            ),
        )
    wanted = read_for(duties, config.identity_center.keys())
    return settings_of(config.identity_center, here, partial(secret, config), wanted)


def _kinds(targets: list[TargetPart]) -> dict[str, frozenset[str]]:
    """Which kinds of roles each target has; one without roles is looked at as an account."""
    return {
        target.id: frozenset(role.kind for role in target.role) or frozenset({IAM_ROLE})
        for target in targets
    }


def _aws(
    settings: "Mapping[str, AwsSettings]",
    center: "CenterSettings | None",
    kinds: Mapping[str, frozenset[str]],
    locks: Path | None,
    duties: frozenset[Duty],
    between: Between | None = None,
) -> Connector:
    from tidegate.connectors.aws import AwsConnector
    from tidegate.connectors.identity_center import IdentityCenterConnector

    roles = AwsConnector(
        settings, lock_dir=locks, monotonic=time.monotonic, duties=duties, between=between
    )
    sets = IdentityCenterConnector(
        center,
        lock_dir=locks,
        monotonic=time.monotonic,
        duties=duties,
        between=between,
        accounts=settings,
    )
    return ByKind({IAM_ROLE: roles, PERMISSION_SET: sets}, kinds)


def _simulated() -> Connector:
    from tidegate.connectors.simulated import SimulatedCloud, SimulatedConnector

    return SimulatedConnector(SimulatedCloud())
