"""A small world for tests: the production code on a real SQLite file, a simulated cloud, a clock
that only moves when told, randomness that is counted.
"""

import hashlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tidegate.approve import Choice
from tidegate.catalogue import Catalogue, Role, Target
from tidegate.connectors.port import Answer, Credential
from tidegate.connectors.simulated import SimulatedCloud, SimulatedConnector
from tidegate.evidence.events import Event
from tidegate.evidence.journal import ClosingJournal
from tidegate.evidence.note import FileSigner
from tidegate.evidence.panic_file import PanicFile
from tidegate.evidence.seal import read_event
from tidegate.flow.approving import cast
from tidegate.flow.asking import Asked, ask
from tidegate.flow.brokering import issue
from tidegate.flow.governing import put_in_force, start_log
from tidegate.flow.house import Actor, Groups, House, Laws
from tidegate.flow.panics_kept import PanicsKept
from tidegate.flow.people import LOCAL, actor, record
from tidegate.flow.refusing import Refusals
from tidegate.grant import Grant, GrantState
from tidegate.policy.rules import load_rules
from tidegate.request import Request
from tidegate.shell.worker import Worker
from tidegate.store import Account, Store

START = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)  # a Monday morning
ORIGIN = "test.tidegate.invalid/log"
ARN = "arn:aws:iam::123456789012:role/admin"
RULES = """
@id("admin") @max("2h") @approve("1 of group:leads")
permit (principal in Group::"sre", action == Action::"request", resource in Target::"prod");

@id("two") @max("1h") @approve("2 of group:leads")
permit (principal in Group::"sre", action == Action::"request", resource in Target::"vault");

@id("free") @max("12h") @approve("none")
permit (principal in Group::"sre", action == Action::"request", resource in Target::"dev");
"""
GROUPS = Groups(
    members={
        "sre": ("ana", "eve", "late"),
        "leads": ("bo", "cy", "ana"),
        "tidegate-operators": ("op",),
        "tidegate-auditors": ("audit",),
    }
)
LOGINS = ("ana", "bo", "cy", "eve", "op", "audit", "nobody")


class Clock:
    """Time that moves when told."""

    def __init__(self, at: datetime = START) -> None:
        self.at = at

    def __call__(self) -> datetime:
        """The instant it shows."""
        return self.at

    def forward(self, **span: float) -> None:
        """Let time pass."""
        self.at += timedelta(**span)


class Counted:
    """Randomness that never repeats and always comes out the same."""

    def __init__(self) -> None:
        self.drawn = 0

    def __call__(self, count: int) -> bytes:
        """The next `count` bytes."""
        self.drawn += 1
        return hashlib.shake_128(self.drawn.to_bytes(8)).digest(count)


def catalogue(arn: str = ARN, probe: str = "iam:ListUsers", **more: object) -> Catalogue:
    """Three targets with one role each: prod and vault need votes, dev does not."""
    targets = {
        name: Target(
            id=name, connector="simulated", account="123456789012", labels=(f"env={name}",)
        )
        for name in ("prod", "vault", "dev")
    }
    roles = {
        f"{name}/admin": Role(
            id=f"{name}/admin",
            kind="iam-role",
            native={"arn": f"{arn}-{name}"},
            probe=probe,
            **more,  # type: ignore[arg-type]
        )
        for name in targets
    }
    return Catalogue(targets, roles)


def laws(rules: str = RULES, groups: Groups = GROUPS, found: Catalogue | None = None) -> Laws:
    """The laws most tests live under."""
    return Laws(
        rules=load_rules({"rules.cedar": rules}), catalogue=found or catalogue(), groups=groups
    )


@dataclass
class World:
    """One installation. `restart` is a crash: a new process on the same files and cloud."""

    directory: Path
    clock: Clock = field(default_factory=Clock)
    cloud: SimulatedCloud = field(default_factory=SimulatedCloud)
    randomness: Counted = field(default_factory=Counted)
    laws: Laws = field(default_factory=laws)
    signer: FileSigner = field(default_factory=lambda: FileSigner(ORIGIN, b"k" * 32))
    url: str = ""  # of its database; a file in the directory unless it is said

    def __post_init__(self) -> None:
        """Up, with everybody's account made."""
        self.url = self.url or f"sqlite:///{self.directory / 'tidegate.db'}"
        self._up(create=True)
        start_log(self.house, ORIGIN, self.signer.verifier().text())
        for login in LOGINS:
            mail = f"{login}@x.invalid"
            made = record(self.house, LOCAL, login, self.clock(), name=login, mail=mail)
            account = Account(login=login, principal=made.id, password_hash="none fits")
            self.house.store.put_account(account)
        put_in_force(self.house, self.laws)

    def _up(self, create: bool = False) -> None:
        store = Store.open(
            self.url,
            origin=ORIGIN,
            signer=self.signer,
            clock=self.clock,
            create=create,
            patience=timedelta(milliseconds=200),
        )
        store._database.now_ms = lambda: None  # type: ignore[method-assign]  # time is ours
        self.connector = SimulatedConnector(self.cloud, self.clock)
        self.house = House(
            store=store,
            journal=ClosingJournal(self.directory / "closing.journal"),
            connectors={"simulated": self.connector},
            laws=self.laws,
            clock=self.clock,
            randomness=self.randomness,
        )
        self.house.wanted = PanicsKept(PanicFile(self.directory / "closing.journal.panics"))
        self.refusals = Refusals()
        self.worker = Worker(self.house, self.refusals)

    def restart(self) -> None:
        """A crash and a new process: nothing in memory is left, the cloud goes on."""
        self.down()
        self.up()

    def up(self) -> None:
        """A new process on the files that are there."""
        self._up()
        put_in_force(self.house, self.laws)

    def down(self) -> None:
        """The process is gone."""
        self.worker.stop()
        self.house.store.close()

    def who(self, login: str) -> Actor:
        """Somebody, as known now."""
        found = self.house.store.account(login)
        assert found is not None
        return actor(self.house, found.principal)

    def ask(self, login: str = "ana", role: str = "prod/admin", **more: object) -> Request:
        """A request with sensible terms; for a role that is held too, unless told otherwise."""
        asked = Asked(roles=(role,), duration=timedelta(minutes=30), reason="roll back", again=True)
        return ask(self.house, self.who(login), replace(asked, **more))  # type: ignore[arg-type]

    def vote(self, request: Request, login: str = "bo", choice: Choice = Choice.APPROVE) -> Request:
        """A vote on the request as it is now."""
        shown = self.house.store.request(request.id).digest
        return cast(self.house, self.who(login), request.id, choice, shown)

    def granted(self, login: str = "ana", **more: object) -> Grant:
        """An open grant on prod/admin."""
        request = self.vote(self.ask(login, **more))
        self.work()
        (grant,) = self.house.store.grants(request=request.id)
        assert grant.state is GrantState.OPEN, grant
        return grant

    def keys(self, grant: Grant, login: str = "ana") -> Credential:
        """A credential of the grant, as its holder gets one."""
        return issue(self.house, self.who(login), grant.id)[2]

    def work(self, ticks: int = 20) -> None:
        """Let the worker look until nothing is due."""
        for _ in range(ticks):
            if not self.worker.tick():
                return

    def use(self, keys: Credential) -> Answer:
        """What the cloud says to these keys now."""
        return self.cloud.use(keys, self.clock())

    def grant(self, grant: Grant) -> Grant:
        """The grant as it is now."""
        return self.house.store.grant(grant.id)

    def events(self, request: str) -> list[Event]:
        """The events of a request's chain."""
        return [read_event(leaf) for _, leaf in self.house.store.events(request)]

    def names(self, request: str) -> list[str]:
        """Their names."""
        return [event.name for event in self.events(request)]

    def last(self, grant: Grant, name: str) -> Event:
        """The last event of that name in the chain of the grant's request."""
        return [event for event in self.events(grant.request) if event.name == name][-1]


def misshape(world: World, id: str, column: str = "state", table: str = "grants") -> None:
    """Damage that column of a row, a grant's: no version of ours wrote what it holds now."""
    damage = 10**18 if column.endswith("_ms") else "x"  # an instant after the last one there is
    with world.house.store._database.writing() as db:
        db.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", (damage, id))
