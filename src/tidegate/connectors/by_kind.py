"""One cloud, several kinds of roles: each verb goes to the connector of the role's kind.

Decides nothing. What is asked of a whole target goes to every kind its roles have, and the answers
are put together.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import partial

from tidegate.base.errors import AskedWrongly, Refused, WorldFailed
from tidegate.base.when import Instant
from tidegate.catalogue import AssignmentKey, Role, Target
from tidegate.connectors.divided import Prepares
from tidegate.connectors.partly_told import Certain, PartlyTold, Told, certain_of
from tidegate.connectors.patience import one_verb
from tidegate.connectors.port import (
    Administrator,
    Connector,
    Credential,
    Cut,
    Exposure,
    Found,
    Health,
    Hold,
    MustStay,
    Person,
    Powers,
    Probed,
    Receipt,
    Scope,
    Seen,
    SideDoors,
    administrators,
    nothing_more,
    paced_as,
)
from tidegate.connectors.role_kinds import IAM_ROLE, PERMISSION_SET

# How each kind names administrators: users, roles and groups of IAM by their ARNs (IAM User Guide,
# IAM identifiers), holders of permission sets as `identity_center_standing.py` has it.
_NAMES = {
    IAM_ROLE: re.compile(r"arn:[a-z-]+:iam::[0-9]*:(?:user|role|group)/.+"),
    PERMISSION_SET: re.compile(r"[^|]*\|[^|]*\|arn:[a-z-]+:sso:[^|]*\|[^|]*\|(?:user|group)"),
}


class ByKind:
    """The port's verbs for a cloud with several role kinds.

    Args:
        kinds: by role kind.
        used: target id to the kinds its roles have; a target without an entry is asked by all.
    """

    def __init__(
        self, kinds: Mapping[str, Connector], used: Mapping[str, frozenset[str]] | None = None
    ) -> None:
        self._kinds = dict(kinds)
        self._used = dict(used or {})

    def powers(self, kind: str) -> Powers:
        """What `kind` promises. Raises AskedWrongly `unknown_kind`."""
        return self._of(kind).powers(kind)

    def exposure(self, target: Target, role: Role) -> Exposure:
        """By the role's kind."""
        return self._of(role.kind).exposure(target, role)

    def residual(self, target: Target, role: Role, cut: bool) -> timedelta:
        """By the role's kind."""
        return self._of(role.kind).residual(target, role, cut)

    def lingers(self, target: Target, role: Role) -> timedelta:
        """By the role's kind."""
        return self._of(role.kind).lingers(target, role)

    def key(self, target: Target, role: Role, grant: str, person: Person) -> AssignmentKey:
        """By the role's kind."""
        with one_verb():
            return self._verb(role.kind).key(target, role, grant, person)

    def check(self, target: Target, role: Role, others: tuple[Role, ...]) -> tuple[str, ...]:
        """By the role's kind, beside the others of that kind."""
        try:
            connector = self._of(role.kind)
        except AskedWrongly as error:
            return (f"{role.id}: {error.message}: {error.help}",)
        alike = tuple(other for other in others if other.kind == role.kind)
        return connector.check(target, role, alike)

    def health(self, target: Target, now: Instant) -> Health:
        """Reached when all are; every finding; the certificate that ends first."""
        looks = [connector.health(target, now) for connector in self._on(target)]
        findings = [finding for look in looks for finding in look.findings]
        ends = [look.certificate_until for look in looks if look.certificate_until is not None]
        clocks = [look.cloud_at for look in looks if look.cloud_at is not None]
        return Health(
            reached=all(look.reached for look in looks),
            cloud_at=clocks[0] if clocks else None,
            round_trip=max((look.round_trip for look in looks), default=timedelta(0)),
            identity=", ".join(dict.fromkeys(look.identity for look in looks if look.identity)),
            findings=tuple(dict.fromkeys(findings)),
            certificate_until=min(ends, default=None),
        )

    def discover(self, target: Target) -> Iterator[Found]:
        """What every kind finds."""
        for connector in self._on(target):
            yield from connector.discover(target)

    def observe(self, scope: Scope, now: Instant) -> Iterator[Seen]:
        """By the role's kind; without a role, what every kind sees."""
        if scope.hold is not None:
            with one_verb():
                seen = list(self._verb(scope.hold.role.kind).observe(scope, now))
            yield from seen
            return
        role = scope.role
        if role is not None:
            yield from self._verb(role.kind).observe(scope, now)
            return
        for connector in self._on(scope.target):
            yield from connector.observe(scope, now)

    def drift(self, target: Target, role: Role, now: Instant) -> tuple[str, ...]:
        """By the role's kind."""
        return self._verb(role.kind).drift(target, role, now)

    def side_doors(
        self, hold: Hold, keys: tuple[str, ...], since: Instant, until: Instant, now: Instant
    ) -> SideDoors:
        """By the role's kind."""
        return self._verb(hold.role.kind).side_doors(hold, keys, since, until, now)

    def paced_as(self, target: Target) -> str:
        """As the first kind that tells administrators."""
        return next((kind for one in self._on(target) if (kind := paced_as(one, target))), "")

    def administrators(self, target: Target, now: Instant) -> tuple[Administrator, ...]:
        """Whom every kind tells; each is asked, whatever became of another.

        Raises:
            PartlyTold: one kind could not tell (the first of them says why), others could.
            WorldFailed: the only kind there is could not, or none could.
        """
        found: dict[Administrator, None] = {}
        certain: list[Certain] = []
        faults: list[tuple[str, WorldFailed]] = []
        for name, kind in self._named_on(target):
            try:
                told = administrators(kind, target, now)
            except PartlyTold as fault:
                found |= dict.fromkeys(fault.told)
                certain.append(fault.certain)
                faults.append((name, fault))
            except WorldFailed as fault:
                certain.append(partial(_is_not_of, name))
                faults.append((name, fault))
            else:
                found |= dict.fromkeys(told)
                certain.append(certain_of(told))

        def of_each(what: str) -> bool:
            return all(one(what) for one in certain)

        if not faults:
            return Told.of(found, of_each)
        name, first = faults[0]
        if len(faults) == len(certain) and not any(
            isinstance(one, PartlyTold) for _, one in faults
        ):
            raise first
        message = f"of kind `{name}`: {first.message}"
        raise PartlyTold((first.code, message, first.help), found, of_each) from first

    def grant(self, hold: Hold, now: Instant) -> Receipt:
        """By the role's kind."""
        with one_verb():
            return self._verb(hold.role.kind).grant(hold, now)

    def prepare(self, hold: Hold, now: Instant) -> None:
        """By the role's kind, where there is anything a closer must do first."""
        connector = self._verb(hold.role.kind)
        if isinstance(connector, Prepares):
            connector.prepare(hold, now)

    def issue(self, hold: Hold, session: str, now: Instant) -> Credential:
        """By the role's kind."""
        with one_verb():
            return self._verb(hold.role.kind).issue(hold, session, now)

    def arm(self, hold: Hold, until: Instant, now: Instant) -> Receipt | None:
        """By the role's kind."""
        with one_verb():
            return self._verb(hold.role.kind).arm(hold, until, now)

    def disarm(self, hold: Hold, now: Instant) -> Receipt | None:
        """By the role's kind."""
        with one_verb():
            return self._verb(hold.role.kind).disarm(hold, now)

    def revoke(self, hold: Hold, now: Instant) -> Receipt:
        """By the role's kind."""
        with one_verb():
            return self._verb(hold.role.kind).revoke(hold, now)

    def cut(self, hold: Hold, now: Instant) -> Receipt:
        """By the role's kind."""
        with one_verb():
            return self._verb(hold.role.kind).cut(hold, now)

    def probe(self, hold: Hold, now: Instant) -> Probed:
        """By the role's kind."""
        with one_verb():
            return self._verb(hold.role.kind).probe(hold, now)

    def mend(
        self,
        target: Target,
        role: Role,
        cuts: Mapping[str, Cut],
        now: Instant,
        must_stay: MustStay = nothing_more,
    ) -> tuple[str, ...]:
        """By the role's kind."""
        return self._verb(role.kind).mend(target, role, cuts, now, must_stay)

    def _on(self, target: Target) -> list[Connector]:
        return [connector for _, connector in self._named_on(target)]

    def _named_on(self, target: Target) -> list[tuple[str, Connector]]:
        kinds = self._used.get(target.id) or frozenset(self._kinds)
        return [(kind, self._kinds[kind]) for kind in sorted(kinds) if kind in self._kinds]

    def _of(self, kind: str) -> Connector:
        if kind in self._kinds:
            return self._kinds[kind]
        known = " or ".join(f"`{name}`" for name in sorted(self._kinds))
        raise AskedWrongly(
            "unknown_kind",
            f"expected role kind {known}, got `{kind[:40]}`",
            "correct `kind` in the catalogue",
        )

    def _verb(self, kind: str) -> Connector:
        """For verbs, which raise only what a cloud may say: certainly nothing happened."""
        try:
            return self._of(kind)
        except AskedWrongly as error:
            raise Refused(error.code, error.message, error.help) from error


def _is_not_of(kind: str, what: str) -> bool:
    """Whether an administrator of this name is certainly told by another kind than this one."""
    others = (name for other, name in _NAMES.items() if other != kind)
    return kind in _NAMES and any(name.fullmatch(what) for name in others)
