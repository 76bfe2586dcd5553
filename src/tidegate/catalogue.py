"""What can be asked for and held: principals, targets, roles, assignments.

Decides nothing about permission. A role's *entry* is everything that says what a person would hold
(native ids included); its digest goes into the request digest, so that a role mapped to another
account between vote and opening is another role.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from tidegate.base.canonical import Json, digest
from tidegate.base.errors import NotFound
from tidegate.base.fact import Fact
from tidegate.base.when import Instant, parse_instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What may be held on a target. `id` is `target/name`.

    `native` holds the cloud's own ids (for `iam-role`: `arn`). `allows` names token-minting calls
    that stay open to its sessions although their tokens outlive them. `probe` is the harmless call
    by which an end is tried; empty when the role can make none.
    """

    id: str
    kind: str
    native: Mapping[str, str]
    allows: tuple[str, ...] = ()
    probe: str = ""
    title: str = ""

    @property
    def target(self) -> str:
        """The id of the target it is held on."""
        return self.id.partition("/")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A cloud account, subscription, project, cluster or database, with an owner.

    `pace` is how many looks a second it bears, None for its cloud's default; it is no part of what
    is asked for or sealed.
    """

    id: str
    connector: str
    account: str
    owner: str = ""
    time_zone: str = "UTC"
    labels: tuple[str, ...] = ()
    pace: float | None = None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """One immutable version of all targets and roles, by id."""

    targets: Mapping[str, Target] = field(default_factory=dict)
    roles: Mapping[str, Role] = field(default_factory=dict)

    def role(self, role_id: str) -> Role:
        """The role called `role_id`. Raises NotFound, naming what is near."""
        if role_id in self.roles:
            return self.roles[role_id]
        near = sorted(
            name for name in self.roles if name.partition("/")[0] == role_id.partition("/")[0]
        )
        known = ", ".join(f"`{name}`" for name in near[:5]) or "none on that target"
        raise NotFound(
            "unknown_role",
            f"expected a role of the catalogue, got `{role_id[:80]}` (known there: {known})",
            "list them with `tidegate targets`",
        )

    def target(self, target_id: str) -> Target:
        """The target called `target_id`. Raises NotFound."""
        if target_id in self.targets:
            return self.targets[target_id]
        raise NotFound(
            "unknown_target",
            f"expected a target of the catalogue, got `{target_id[:80]}`",
            "list them with `tidegate targets`",
        )

    def entry(self, role_id: str) -> dict[str, Json]:
        """Everything that says what holding this role means, ready for canonical bytes."""
        role = self.role(role_id)
        target = self.target(role.target)
        return {
            "role": role.id,
            "kind": role.kind,
            "native": dict(role.native),
            "allows": sorted(role.allows),
            "probe": role.probe,
            "target": target.id,
            "connector": target.connector,
            "account": target.account,
        }

    def entry_digest(self, role_id: str) -> str:
        """The digest of `entry`: part of every request digest."""
        return digest(self.entry(role_id))

    def document(self) -> dict[str, Json]:
        """The whole catalogue as one value, for sealing."""
        return {
            "roles": [self.entry(name) for name in sorted(self.roles)],
            "targets": [
                {
                    "id": target.id,
                    "connector": target.connector,
                    "account": target.account,
                    "owner": target.owner,
                    "time_zone": target.time_zone,
                    "labels": sorted(target.labels),
                }
                for _, target in sorted(self.targets.items())
            ],
        }


class PrincipalKind(StrEnum):
    """Who asks: a person, or a machine on nobody's behalf."""

    PERSON = "person"
    MACHINE = "machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A person or machine, known by the identity provider's immutable (issuer, subject).

    `name` and `mail` are commitments to personal texts (empty: none given).
    """

    id: str
    issuer: str
    subject: str
    kind: PrincipalKind
    name: str
    mail: str
    enabled: bool
    seen_at: Instant
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """That a principal was seen in a group by a source. `id` is `membership_id`.

    `last_seen_at` is when its sealed state last changed; `left` says it is over.
    """

    id: str
    principal: str
    group: str
    source: str
    first_seen_at: Instant
    last_seen_at: Instant
    left: bool
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentKey:
    """The natural key of one native thing in a cloud."""

    connector: str
    account: str
    native_role: str
    native_principal: str

    def text(self) -> str:
        """One line naming it, for lists and journals."""
        return "|".join((self.connector, self.account, self.native_role, self.native_principal))


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One native thing in the cloud and the grants that want it there.

    It is wanted while it has a holder; `deadline_at` is the latest holder's end, kept after the
    last holder left. `stood_before` says it was seen in the cloud before any intent of ours: such
    access is never removed (I5).
    """

    id: str
    connector: str
    account: str
    native_role: str
    native_principal: str
    holders: tuple[str, ...]
    deadline_at: Instant
    stood_before: bool
    version: int

    @property
    def key(self) -> AssignmentKey:
        """Its natural key."""
        return AssignmentKey(
            connector=self.connector,
            account=self.account,
            native_role=self.native_role,
            native_principal=self.native_principal,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What stood on a role when it was first looked at: only changes after it are findings.

    `id` is the role's; `native_role` what the role was in the cloud then, in one line; `document`
    the digest of the kept list of native principals.
    """

    id: str
    target: str
    role: str
    native_role: str
    document: str
    count: int
    taken_at: Instant
    version: int


def target_chain(target: str) -> str:
    """The chain of a target's own events. Apart from every id and from `system`."""
    return f"target:{target}"


def evolve_principal(before: Principal | None, fact: Fact) -> Principal:
    """The principal after `principal.recorded`: the only event that makes or changes one."""
    data = fact.data
    return Principal(
        id=str(data["principal"]),
        issuer=str(data["issuer"]),
        subject=str(data["subject"]),
        kind=PrincipalKind(str(data["kind"])),
        name=str(data["name"] or ""),
        mail=str(data["mail"] or ""),
        enabled=bool(data["enabled"]),
        seen_at=before.seen_at if before else parse_instant(str(data["at"])),
        version=(before.version if before else 0) + 1,
    )


def evolve_membership(before: Membership | None, fact: Fact) -> Membership:
    """The membership after `membership.joined` or `membership.left`."""
    data = fact.data
    at = parse_instant(str(data["at"]))
    principal, group, source = str(data["principal"]), str(data["group"]), str(data["source"])
    return Membership(
        id=membership_id(principal, group, source),
        principal=principal,
        group=group,
        source=source,
        first_seen_at=before.first_seen_at if before else at,
        last_seen_at=at,
        left=fact.name == "membership.left",
        version=(before.version if before else 0) + 1,
    )


def evolve_baseline(before: Baseline | None, fact: Fact) -> Baseline:
    """The baseline after `baseline.taken`: the only event that makes or changes one."""
    data = fact.data
    return Baseline(
        id=str(data["role"]),
        target=str(data["target"]),
        role=str(data["role"]),
        native_role=str(data["native_role"]),
        document=str(data["document"]),
        count=int(data["count"]),
        taken_at=parse_instant(str(data["at"])),
        version=(before.version if before else 0) + 1,
    )


def membership_id(principal: str, group: str, source: str) -> str:
    """The primary key of a membership. The group comes last: it alone may hold a colon."""
    return f"{principal}:{source}:{group}"


def hold(before: Assignment | None, fact: Fact) -> Assignment:
    """The assignment after `grant.intended`: one holder more, the latest end."""
    data = fact.data
    ends_at = parse_instant(str(data["ends_at"]))
    grant = str(data["grant"])
    if before is None:
        return Assignment(
            id=str(data["assignment"]),
            connector=str(data["connector"]),
            account=str(data["account"]),
            native_role=str(data["native_role"]),
            native_principal=str(data["native_principal"]),
            holders=(grant,),
            deadline_at=ends_at,
            stood_before=bool(data["stood_before"]),
            version=1,
        )
    held = bool(before.holders)
    return replace(
        before,
        holders=tuple(sorted({*before.holders, grant})),
        deadline_at=max(before.deadline_at, ends_at) if held else ends_at,
        # Nobody held it, so what stands there now was seen anew, before this intent.
        stood_before=before.stood_before if held else bool(data["stood_before"]),
        version=before.version + 1,
    )


def prolong(before: Assignment, fact: Fact) -> Assignment:
    """The assignment after `grant.extended`: held by the same, until the latest end."""
    ends_at = parse_instant(str(fact.data["ends_at"]))
    return replace(before, deadline_at=max(before.deadline_at, ends_at), version=before.version + 1)


def let_go(before: Assignment, fact: Fact) -> Assignment:
    """The assignment after one of its grants began to close or failed: that holder is gone."""
    grant = str(fact.data["grant"])
    return replace(
        before,
        holders=without(before.holders, grant),
        version=before.version + 1,
    )


def without(holders: tuple[str, ...], grant: str) -> tuple[str, ...]:
    """Who holds it once `grant` does not."""
    return tuple(name for name in holders if name != grant)


def role_of_entry(entry: Mapping[str, Any]) -> tuple[Target, Role]:
    """The target and role of a sealed catalogue entry: what closing acts on.

    Closing uses the entry that was opened, never today's catalogue: a role remapped or dropped
    meanwhile must still be closed where it is.
    """
    target = Target(id=entry["target"], connector=entry["connector"], account=entry["account"])
    role = Role(
        id=entry["role"],
        kind=entry["kind"],
        native=dict(entry["native"]),
        allows=tuple(entry["allows"]),
        probe=entry["probe"],
    )
    return target, role
