"""The production flow on Identity Center as a process over HTTP, with one clock for both."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tests.connectors.conftest import real_now
from tests.connectors.identity_center_world import ACCOUNT, Center
from tests.support import World, laws
from tidegate.catalogue import Catalogue, Role, Target
from tidegate.flow.house import Laws
from tidegate.grant import Grant, GrantState

TARGET = Target(id="prod", connector="aws", account=ACCOUNT, labels=("env=prod",))
ADMIN_GRANTED = "prod/admin"


@dataclass
class CloudClock:
    """The real clock, as far ahead as the cloud was moved: time passes for both or for neither.

    `stopped` is what it shows instead, for tests of one millisecond; the cloud's goes on.
    """

    center: Center
    ahead: timedelta = timedelta(0)
    stopped: datetime | None = None

    def __call__(self) -> datetime:
        """The instant it shows."""
        return self.stopped or real_now() + self.ahead

    def forward(self, **span: float) -> None:
        """Let time pass, in the cloud too."""
        self.ahead += timedelta(**span)
        self.center.pass_time(timedelta(**span))

    def until(self, instant: datetime) -> None:
        """Let time pass until then."""
        self.forward(seconds=max(0.0, (instant - self()).total_seconds()))


def catalogue(center: Center) -> Catalogue:
    """`prod/admin` is a permission set; `prod/same` another name of it."""
    native = {"arn": center.arn, "session_seconds": "3600"}
    roles = {
        name: Role(id=name, kind="permission-set", native=native)
        for name in (ADMIN_GRANTED, "prod/same")
    }
    return Catalogue({"prod": TARGET}, roles)


def laws_of(center: Center) -> Laws:
    """The laws most tests live under, on that catalogue."""
    return laws(found=catalogue(center))


@dataclass
class CenterWorld(World):
    """An installation whose target hands out a permission set."""

    center: Center = field(kw_only=True)

    def _up(self, create: bool = False) -> None:
        super()._up(create)
        found = self.center.settings.targets[self.center.target.id]
        settings = self.center.made_settings(targets={TARGET.id: found})
        connector: Any = self.center.connect(settings, lock_dir=self.directory)
        self.house.connectors = {"aws": connector}

    def settle(self, seconds: float = 120, step: float = 5) -> None:
        """Let time pass and the worker have its tries."""
        for _ in range(int(seconds / step)):
            self.clock.forward(seconds=step)
            self.work()

    def until(self, grant: Grant, state: GrantState, seconds: float = 300) -> Grant:
        """The grant once it is in `state`; fails when it does not get there."""
        for _ in range(int(seconds / 5)):
            found = self.grant(grant)
            if found.state is state:
                return found
            self.clock.forward(seconds=5)
            self.work()
        raise AssertionError(f"{self.grant(grant)} is not {state}")
