"""Who somebody is, as known now: groups with all their ancestors, and one key per human being."""

from collections.abc import Iterable, Mapping

from tidegate.approve import Approver
from tidegate.base.errors import NotSignedIn
from tidegate.base.fact import Change, Fact, Step
from tidegate.base.ids import PRINCIPAL
from tidegate.base.text import mail_key
from tidegate.base.when import Instant, wire
from tidegate.catalogue import (
    Principal,
    PrincipalKind,
    evolve_membership,
    evolve_principal,
    membership_id,
)
from tidegate.flow.house import Actor, Groups, House
from tidegate.store import Someone

# The issuer of accounts made here. Their subject is random and stands in the log; the login, which
# is somebody's name, does not: it is in the table of accounts, and can be erased.
LOCAL = "local"
FROM_FILE = "file"  # the source of memberships read from the groups file


def actor(house: House, principal_id: str) -> Actor:
    """The principal as it is now. Raises NotSignedIn when it is disabled."""
    found = house.store.someone(principal_id)
    if not found.principal.enabled:
        raise NotSignedIn("disabled", "this account is disabled", "ask an operator")
    return Actor(
        principal=found.principal,
        groups=_groups(house, found),
        person=_key(found.principal, found.mail),
    )


def groups_of(house: House, principal: Principal) -> frozenset[str]:
    """Every group it is in, ancestors included; none when disabled."""
    return _groups(house, house.store.someone(principal.id))


def _groups(house: House, found: Someone) -> frozenset[str]:
    if not found.principal.enabled:
        return frozenset()
    direct = frozenset(group for group, left in found.groups if not left)
    return house.laws.groups.closure(direct)


def person_key(house: House, principal: Principal) -> str:
    """One key for all accounts of one human being: the mail address, else the account itself.

    NB. an account without a mail address, or whose address was erased, is a person of its own.
    """
    return _key(principal, house.store.text(principal.mail) if principal.mail else None)


def person_named(house: House, principal_id: str) -> str:
    """`person_key` of the principal of that id. Raises NotFound."""
    found = house.store.someone(principal_id)
    return _key(found.principal, found.mail)


def _key(principal: Principal, mail: str | None) -> str:
    return f"mail:{mail_key(mail)}" if mail else f"principal:{principal.id}"


def approvers(house: House, principal_ids: Iterable[str]) -> Mapping[str, Approver]:
    """Those principals as voters, as known now."""
    found = {}
    for principal_id in sorted(set(principal_ids)):
        told = house.store.someone(principal_id)
        found[principal_id] = Approver(
            principal=principal_id,
            person=_key(told.principal, told.mail),
            groups=_groups(house, told),
        )
    return found


def record(
    house: House, issuer: str, subject: str, now: Instant, *, name: str = "", mail: str = "",
    enabled: bool = True, by: str = "system",
) -> Principal:  # fmt: skip
    """The principal of (issuer, subject), made or brought up to date, sealed when it changed."""
    before = house.store.principal_by(issuer, subject)
    texts = {"name": name, "mail": mail}
    if before and before.enabled == enabled and _same_texts(house, before, texts):
        return before
    sealed = {key: house.personal(text) for key, text in texts.items() if text}
    fact = Fact(
        name="principal.recorded",
        subject=before.id if before else (made := house.new_id(PRINCIPAL, now)),
        actor=by,
        data={
            "principal": before.id if before else made,
            "issuer": issuer,
            "subject": subject,
            "kind": PrincipalKind.PERSON.value,
            "name": sealed["name"].commitment if name else None,
            "mail": sealed["mail"].commitment if mail else None,
            "enabled": enabled,
            "at": wire(now),
        },
    )
    after = evolve_principal(before, fact)
    change = Change(before.version if before else 0, after)
    house.store.commit(Step((change,), (fact,), tuple(sealed.values())))
    return after


def join_groups(house: House, groups: Groups, now: Instant) -> int:
    """Bring memberships in line with the groups file; returns how many changed.

    Logins without an account are passed over: `tidegate check` warns about them.
    """
    wanted = {
        (account.principal, group)
        for group, logins in groups.members.items()
        for login in logins
        if (account := house.store.account(login))
    }
    known = {
        (m.principal, m.group): m
        for m in house.store.memberships(with_left=True)
        if m.source == FROM_FILE
    }
    held = {key for key, m in known.items() if not m.left}
    changed = 0
    # First who left: somebody moved from one group to another is never in both.
    for name, keys in (("membership.left", held - wanted), ("membership.joined", wanted - held)):
        for principal_id, group in sorted(keys):
            fact = Fact(
                name=name,
                subject=principal_id,
                actor="system",
                data={
                    "principal": principal_id,
                    "group": group,
                    "source": FROM_FILE,
                    "at": wire(now),
                },
            )
            before = known.get((principal_id, group))
            after = evolve_membership(before, fact)
            assert after.id == membership_id(principal_id, group, FROM_FILE)
            house.store.commit(Step((Change(before.version if before else 0, after),), (fact,)))
            changed += 1
    return changed


def shown_name(house: House, principal_id: str) -> str:
    """What people call a principal: the name, the login, or the id when all is erased."""
    if principal_id == "system":
        return "tidegate"
    principal = house.store.principal(principal_id)
    name = house.store.text(principal.name) if principal.name else None
    return name or house.store.login_of(principal_id) or principal_id


def _same_texts(house: House, principal: Principal, texts: Mapping[str, str]) -> bool:
    held = {"name": principal.name, "mail": principal.mail}
    return all(
        (house.store.text(held[key]) if held[key] else "") == text for key, text in texts.items()
    )
