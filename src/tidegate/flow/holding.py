"""Grants as connectors see them: whose, where, by which natural key, until when."""

from collections.abc import Iterable

from tidegate.base.errors import AskedWrongly, EvidenceBroken
from tidegate.base.when import parse_instant
from tidegate.catalogue import Assignment, AssignmentKey, Role, Target
from tidegate.connectors.port import Hold, Person
from tidegate.evidence.journal import JournalLine
from tidegate.flow.house import House
from tidegate.flow.reading import role_asked
from tidegate.grant import Grant


def hold_of(house: House, grant: Grant, assignment: Assignment | None = None) -> Hold:
    """The grant as connectors see it, from the catalogue entry that was voted on.

    Its natural key is the one sealed with the intent; only a grant without one asks the cloud.
    `assignment` is the grant's, from whoever has read it already.
    """
    if grant.ends_at is None:
        raise RuntimeError(f"hold of {grant.id} without an end")
    target, role = role_asked(house, grant.role_digest)
    if assignment is None and grant.assignment:
        assignment = house.store.assignment(grant.assignment)
    return Hold(
        grant=grant.id,
        request=grant.request,
        principal=grant.principal,
        target=target,
        role=role,
        key=assignment.key if assignment else key_of(house, grant),
        ends_at=grant.ends_at,
        stood_before=bool(assignment and assignment.stood_before),
        cut_before=grant.cut_before,
    )


def closing_hold(house: House, grant: Grant, assignment: Assignment | None = None) -> Hold:
    """`hold_of` for closing: where the entry that was voted on is lost, the journal's word for it.

    Raises:
        EvidenceBroken: neither the database nor the journal says what to close.
    """
    try:
        return hold_of(house, grant, assignment)
    except EvidenceBroken:
        lines = lines_by_grant(house.journal.read()).get(grant.id, [])
        for line in reversed(lines):
            if line.kind == "intended":
                return hold_of_line(line)
        raise


def lines_by_grant(lines: Iterable[JournalLine]) -> dict[str, list[JournalLine]]:
    """Journal lines by grant, each grant's in order."""
    found: dict[str, list[JournalLine]] = {}
    for line in lines:
        found.setdefault(line.grant, []).append(line)
    return found


def key_of(house: House, grant: Grant) -> AssignmentKey:
    """The natural key of what the cloud holds, or would hold, for the grant.

    Raises:
        Refused: `no_such_person`. WorldFailed: the cloud was asked who that is and did not answer.
    """
    assignment = house.store.assignment(grant.assignment) if grant.assignment else None
    if assignment is not None:
        return assignment.key
    target, role = role_asked(house, grant.role_digest)
    connector = house.connector(target.connector)
    return connector.key(target, role, grant.id, person_of(house, grant.principal))


def person_of(house: House, principal_id: str) -> Person:
    """A principal as a cloud may know them, by the texts known now."""
    principal = house.store.principal(principal_id)
    mail = house.store.text(principal.mail) if principal.mail else None
    login = house.store.login_of(principal_id)
    return Person(principal=principal_id, login=login, mail=mail or "")


def hold_of_line(line: JournalLine) -> Hold:
    """The hold an `intended` line describes.

    Raises:
        EvidenceBroken: a field is missing or misshapen: another version's line, or damage.
    """
    data = line.data
    try:
        return Hold(
            grant=line.grant,
            request=str(data["request"]),
            principal=str(data["principal"]),
            target=Target(
                id=str(data["target"]),
                connector=str(data["connector"]),
                account=str(data["account"]),
            ),
            role=Role(
                id=str(data["role"]),
                kind=str(data["kind"]),
                native=dict(data["native"]),
                allows=tuple(data["allows"]),
                probe=str(data["probe"]),
            ),
            key=AssignmentKey(
                connector=str(data["connector"]),
                account=str(data["account"]),
                native_role=str(data["native_role"]),
                native_principal=str(data["native_principal"]),
            ),
            ends_at=parse_instant(str(data["ends_at"])),
            stood_before=data.get("stood_before") is True,
        )
    except (KeyError, TypeError, ValueError, AskedWrongly) as fault:
        raise EvidenceBroken(
            "journal_line",
            f"the journal's line of `{line.grant}`",
            "what to close and until when",
            f"`{type(fault).__name__}`",
        ) from fault
