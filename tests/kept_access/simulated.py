"""The production flow on the simulated cloud, with `prod/admin` of either of its role kinds."""

from dataclasses import dataclass, field, replace
from datetime import timedelta

from tests.support import ARN, GROUPS, RULES, World, catalogue, laws
from tidegate.catalogue import AssignmentKey, Catalogue
from tidegate.connectors.port import Answer, Credential, Hold, Receipt
from tidegate.connectors.simulated import ASSIGNMENT
from tidegate.flow.expiring import close_now
from tidegate.flow.house import Groups, Laws
from tidegate.flow.revoking import end_early
from tidegate.grant import Grant, GrantState

SECOND_NAME = "prod/same"  # another entry of the catalogue for the same native role
MANY = 40  # roles of their own on `dev`: as many assignments as grants


def catalogue_of(kind: str) -> Catalogue:
    """`prod/admin` and `prod/same` hand out one native role of that kind, `dev/admin` another."""
    found = catalogue()
    probe = "" if kind == ASSIGNMENT else "iam:ListUsers"
    roles = {name: replace(role, kind=kind, probe=probe) for name, role in found.roles.items()}
    for number in range(MANY):
        native = {"arn": f"{ARN}-many-{number}"}
        roles[f"dev/many-{number}"] = replace(
            roles["dev/admin"], id=f"dev/many-{number}", native=native
        )
    roles[SECOND_NAME] = replace(roles["prod/admin"], id=SECOND_NAME, title="The same")
    return replace(found, roles=roles)


def laws_of(kind: str, rules: str = RULES, groups: Groups = GROUPS) -> Laws:
    """The laws most tests live under, on that catalogue."""
    return laws(rules, groups, catalogue_of(kind))


@dataclass
class KindWorld(World):
    """An installation whose roles are of one kind. `take` is what a holder does in the window."""

    kind: str = field(kw_only=True)

    def key(self, grant: Grant) -> AssignmentKey:
        """The natural key of the grant's assignment."""
        found = self.house.store.assignment(grant.assignment)
        assert found is not None
        return found.key

    def take(self, grant: Grant, login: str = "ana") -> Credential:
        """A session as its holder gets one: issued by us, or taken at the cloud's own portal."""
        if self.kind == ASSIGNMENT:
            return self.cloud.sign_in(self.key(grant), self.clock())
        return self.keys(grant, login)

    def acts(self, taken: Credential) -> bool:
        """Whether the cloud lets a session act now, by its own state alone."""
        return self.use(taken) is Answer.ALLOWED

    def ended(self, grant: Grant, login: str = "bo") -> Grant:
        """Its early end, and the first look at it."""
        return close_now(self.house, end_early(self.house, self.who(login), grant.id))

    def settle(self, minutes: float = 3, step: float = 5) -> None:
        """Let time pass and the worker have its tries."""
        for _ in range(int(minutes * 60 / step)):
            self.clock.forward(seconds=step)
            self.work()

    def until(self, grant: Grant, state: GrantState, minutes: float = 90, step: float = 5) -> Grant:
        """The grant once it is in `state`; fails when it does not get there."""
        for _ in range(int(minutes * 60 / step)):
            found = self.grant(grant)
            if found.state is state:
                return found
            self.clock.forward(seconds=step)
            self.work()
        raise AssertionError(f"{self.grant(grant)} is not {state}")

    def nothing_left(self, *taken: Credential) -> None:
        """Nobody can act or sign in any more, and the evidence is whole."""
        assert not any(self.acts(one) for one in taken)
        assert self.cloud.alive(self.clock()) == ()
        assert self.cloud.standing(self.clock()) == ()


class Liar:
    """A cloud that answers 200 to what ends access, and does nothing."""

    def __init__(self, world: KindWorld) -> None:
        self._connector = world.connector
        self._real = {verb: getattr(world.connector, verb) for verb in ("revoke", "cut", "mend")}
        self.told = 0
        for verb in ("revoke", "cut"):
            setattr(world.connector, verb, self._yes)
        setattr(world.connector, "mend", lambda *_: ())  # noqa: B010 - a method, for mypy

    def _yes(self, hold: Hold, now: object) -> Receipt:
        self.told += 1
        return Receipt(cloud_at=self._connector._at(now), detail={"answer": "200"})  # type: ignore[arg-type]

    def mends(self) -> None:
        """It does again what it says."""
        for verb, real in self._real.items():
            setattr(self._connector, verb, real)


MINUTE = timedelta(minutes=1)
