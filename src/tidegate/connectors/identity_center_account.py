"""What was made in an account while a permission set was held there: the account's own IAM.

Identity Center's identity is none in the account, so this is read with the keys that the target
itself has for its closer, where it has some. The holder's sessions are those of the permission
set's role in the account (`AWSReservedSSO_NAME_…`), named after their user name.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from tidegate.base.errors import WorldFailed
from tidegate.base.when import Instant
from tidegate.connectors import aws_side_doors
from tidegate.connectors.aws_calls import Aws
from tidegate.connectors.aws_remedies import OF_CENTER
from tidegate.connectors.aws_trail import CHAINED, CHANGES, HeldBy, Told, Window
from tidegate.connectors.identity_center_calls import Center, text_of
from tidegate.connectors.port import Hold, SideDoor, SideDoors

ROLES = "AWSReservedSSO_"  # how Identity Center names the roles of permission sets
_CHANGED = "changes of permission sets{}: Identity Center keeps no dates of them"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """From when until when somebody could act, and the instant of the search."""

    since: Instant
    until: Instant
    now: Instant

    def window(self, held_by: HeldBy | None) -> Window:
        """The same for a search of the account."""
        return Window(since=self.since, until=self.until, keys=(), now=self.now, held_by=held_by)


def look(
    center: Center,
    aws: Aws | None,
    hold: Hold,
    span: Span,
    wait: Callable[[float], None] = time.sleep,
) -> SideDoors:
    """What was made in the account, where its own keys are known. Changes nothing.

    What fails here is told, so that it hides nothing of what was found elsewhere.
    """
    account = hold.target.account
    what = f"users, roles, keys, trust and policies in account {account}"
    unread = _CHANGED.format(", chained sessions")
    if aws is None:
        why = (
            f"{what}: Tidegate has no identity in it that may read them; give its `[target.aws]` "
            "the keys of a closer, or look with `aws iam get-account-authorization-details` there"
        )
        return SideDoors(why_not=(why, unread))
    told = Told()
    try:
        reply = aws.call("sts", lambda sts: sts.get_caller_identity(), "sts:GetCallerIdentity")
        found = str(reply.body.get("Account") or "")
        if found != account:
            why = f"{what}: the keys of its `[target.aws]` are of account {found}"
            return SideDoors(why_not=(why, unread))
        held_by = _held_by(center, hold, told)
        doors = aws_side_doors.look(aws, span.window(held_by), wait)
    except WorldFailed as no:
        told.failed(what, no)
        return SideDoors(why_not=(*told.why_not, unread), again=told.again)
    return replace(
        doors,
        searched=tuple(one for one in doors.searched if held_by or one != CHAINED),
        found=tuple(door for door in doors.found if not _of_center(door)),
        why_not=(*told.why_not, *doors.why_not, _CHANGED.format("")),
        again=doors.again or told.again,
    )


def both(one: SideDoors, other: SideDoors) -> SideDoors:
    """Two searches of one end as one."""
    return SideDoors(
        searched=tuple(dict.fromkeys((*one.searched, *other.searched))),
        found=(*one.found, *other.found),
        why_not=(*one.why_not, *other.why_not),
        again=one.again or other.again,
        again_at=other.again_at or one.again_at,
    )


def _held_by(center: Center, hold: Hold, told: Told) -> HeldBy | None:
    """Whose sessions are the holder's: the role's name up to its suffix, and the session's.

    None where that cannot be asked, a person who is gone for one: then it is told.
    """
    arn, user = hold.key.native_role, hold.key.native_principal
    try:
        kept = center.sso("describe_permission_set", PermissionSetArn=arn).part("PermissionSet")
        person = center.call(
            "identitystore", "describe_user", IdentityStoreId=center.store, UserId=user
        ).body
        return HeldBy(role=f"{ROLES}{text_of(kept, 'Name')}_", session=text_of(person, "UserName"))
    except WorldFailed as no:
        told.failed("chained sessions, for whose they were is not known", no)
        return None


def _of_center(door: SideDoor) -> bool:
    """Whether Identity Center did it: it alone makes and changes the roles of permission sets.

    It does so at every assignment and cut of ours. Assignments are searched for by themselves.
    """
    if door.sort == "role":
        return f":role{OF_CENTER}" in door.what
    call, _, named = door.what.partition("/")
    # Users and groups may be called so by anybody; of roles the name is AWS's own.
    return call in CHANGES and "Role" in call and named.startswith(ROLES)
