"""The ways to the clouds: one connector for each name that targets use.

Remembers, while the process lives, how a target was reached that left the settings: a grant that is
still open there must be closed there. A process that starts afterwards cannot know it any more, so
a target is taken out when nothing is open on it.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.base.errors import WorldFailed
from tidegate.connectors.port import Connector
from tidegate.main.config import AwsPart, Config, TargetPart, secret
from tidegate.main.values import check_connector

if TYPE_CHECKING:
    from tidegate.connectors.aws import AwsSettings

LOCKS = "locks"  # a directory beside the settings: one writer of a role's cuts at a time


class Clouds:
    """Makes connectors from settings, and keeps those that are as they were."""

    def __init__(self) -> None:
        self._made: dict[str, Connector] = {}
        self._reached: dict[str, AwsSettings] = {}

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
        aws = [target for target in config.target if target.connector == "aws"]
        reached = {**self._reached, **(_settings(config, aws, secrets=True) if aws else {})}
        if reached and (reached != self._reached or "aws" not in made):
            locks = config.path(LOCKS)
            locks.mkdir(mode=0o700, exist_ok=True)
            made["aws"] = _aws(reached, locks)
        if "simulated" not in made and any(one.connector == "simulated" for one in config.target):
            made["simulated"] = _simulated()
        self._made, self._reached = made, reached
        return dict(made)


def offline_connectors(config: Config) -> dict[str, Connector]:
    """The same connectors without secrets, locks or memory: for checks that ask no cloud."""
    made: dict[str, Connector] = {}
    aws = [target for target in config.target if target.connector == "aws"]
    if aws:
        made["aws"] = _aws(_settings(config, aws, secrets=False), None)
    if any(target.connector == "simulated" for target in config.target):
        made["simulated"] = _simulated()
    return made


def _settings(
    config: Config, targets: list[TargetPart], *, secrets: bool
) -> "dict[str, AwsSettings]":
    try:
        import botocore  # noqa: F401 - asked here, so that a missing extra is told in words
    except ImportError:
        raise WorldFailed(
            "no_extra", "expected the `aws` extra, got none", "pip install 'tidegate[aws]'"
        ) from None
    from tidegate.connectors.aws import AwsSettings

    found = {}
    for target in targets:
        part = target.aws or AwsPart()
        keys = secrets and part.access_key_id and part.secret_access_key
        found[target.id] = AwsSettings(
            region=part.region,
            endpoint_url=part.endpoint_url or None,
            access_key_id=secret(config, part.access_key_id) if keys else "",
            secret_access_key=secret(config, part.secret_access_key) if keys else "",
            own=tuple(part.own),
            protect=tuple(part.protect),
            handed=tuple(role.arn for role in target.role if role.arn),
        )
    return found


def _aws(settings: "Mapping[str, AwsSettings]", locks: Path | None) -> Connector:
    from tidegate.connectors.aws import AwsConnector

    return AwsConnector(settings, lock_dir=locks, monotonic=time.monotonic)


def _simulated() -> Connector:
    from tidegate.connectors.simulated import SimulatedCloud, SimulatedConnector

    return SimulatedConnector(SimulatedCloud())
