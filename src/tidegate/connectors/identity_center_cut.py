"""The shared deny in the cloud: read, merge, write, provision, read; one writer a document.

Its home is the inline policy of the permission set, which takes effect in an account when the
permission set is provisioned there, or a service control policy that Tidegate owns, which takes
effect by itself. Which sessions it refuses is in `identity_center_deny.py`.
"""

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from tidegate.base.errors import AskedWrongly, Refused, Unknown
from tidegate.base.when import Instant, from_ms, to_ms
from tidegate.connectors.aws_calls import CloudNo
from tidegate.connectors.identity_center_calls import Center, Pace, missing, text_of
from tidegate.connectors.identity_center_deny import (
    LONGEST_INLINE,
    LONGEST_SCP,
    Denies,
    Document,
    Whose,
    fit,
    idle,
    parse,
    prune,
    render,
)
from tidegate.connectors.identity_center_settings import CenterSettings, Deny
from tidegate.connectors.one_writer import Between, OneWriter
from tidegate.connectors.port import PRUNE_MARGIN, Cut, worth_restoring

# A person whose assignment cannot be removed is refused this far ahead, and again when less than
# HOLD_RENEWED is left: three tries of the worker at its slowest pace.
HOLD = timedelta(hours=1)
HOLD_RENEWED = timedelta(minutes=10)
_STEP = timedelta(
    minutes=10
)  # what is held back shares its instant, so that many share a statement
_SECOND = timedelta(seconds=1)

Regranted = Callable[[], frozenset[str]]
Change = Callable[[Denies, Whose, Instant], Denies]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which document, and whose account: a permission set in one account."""

    arn: str
    account: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DenyRead:
    """The document as read back at `cloud_at`; `role` is the name its entries carry for it."""

    document: Document
    role: str
    cloud_at: Instant

    def whose(self, place: Place, user: str) -> Whose:
        """The entry of `user` in it."""
        return Whose(account=place.account, user=user, role=self.role)


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """What one write came to: refused up to `before`, and whether the account has it."""

    before: Instant
    wrote: bool
    spread: bool
    everybody: bool
    cloud_at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """Which grants' entries were missing and are there again."""

    restored: tuple[str, ...]
    spread: bool


@dataclass(slots=True, kw_only=True, eq=False)
class _Wanted:
    """A change that some thread waits to make, and what came of it once it is made."""

    account: str
    user: str
    change: Change
    done: Denied | None = None


class DenyDocuments:
    """The only writer of Tidegate's denies in this process."""

    def __init__(
        self,
        settings: CenterSettings,
        pace: Pace,
        lock_dir: Path | None = None,
        longest: int | None = None,
        between: Between | None = None,
    ) -> None:
        self._scp = settings.scp if settings.deny is Deny.SCP else ""
        self._propagation = settings.propagation
        self._pace = pace
        self._longest = longest or (LONGEST_SCP if self._scp else LONGEST_INLINE)
        self._writer = OneWriter(lock_dir, "no_deny_lock", between=between)
        self._guard = threading.Lock()
        self._names: dict[str, str] = {}
        self._waiting: dict[str, list[_Wanted]] = {}

    def read(self, center: Center, place: Place) -> DenyRead:
        """The document as it is.

        Raises:
            Refused: `bad_policy` when it cannot be read, so that it is never overwritten; what AWS
                refuses. Unreachable, Unknown: as calls do.
        """
        if self._scp:
            role = self._name(center, place.arn)
            reply = center.call("organizations", "describe_policy", PolicyId=self._scp)
            text = text_of(reply.part("Policy"), "Content")
        else:
            role = ""
            reply = center.sso("get_inline_policy_for_permission_set", PermissionSetArn=place.arn)
            text = str(reply.body.get("InlinePolicy") or "")
        return DenyRead(document=_readable(text), role=role, cloud_at=reply.cloud_at)

    def cut(
        self, center: Center, place: Place, user: str, gone_at: Instant, regranted: Regranted
    ) -> Denied:
        """Refuse what `user` took before their removal was everywhere: `gone_at` and propagation.

        Args:
            center: the closer.
            place: which permission set, where.
            user: whose sessions.
            gone_at: when their assignment was read gone, by the cloud's clock.
            regranted: asked when there is no room: users who hold the permission set there now.
        """
        before = ceiled(gone_at + self._propagation, _SECOND)
        return self._change(center, place, user, lambda d, w, at: d.cut(w, before), regranted)

    def hold_back(self, center: Center, place: Place, user: str, regranted: Regranted) -> Denied:
        """Refuse `user` far ahead while their assignment cannot be removed. Renewed when due."""

        def change(denies: Denies, whose: Whose, at: Instant) -> Denies:
            until = denies.holding.get(whose)
            if until is not None and until - at >= HOLD_RENEWED:
                return denies
            return denies.hold(whose, ceiled(at + HOLD, _STEP))

        return self._change(center, place, user, change, regranted)

    def mend(
        self,
        center: Center,
        place: Place,
        cuts: Mapping[str, Cut],
        lasting: timedelta,
        regranted: Regranted,
    ) -> Mended:
        """Put back entries that are missing, prune what can no longer matter, and provision.

        `cuts` are those that must stand with the instant each must reach; `lasting` is how long
        sessions of the permission set live.

        Raises:
            Refused: `no_deny_lock`; what AWS refuses.
        """
        with self._alone(place, must=True):
            read = self.read(center, place)
            denies = read.document.denies
            lost: list[str] = []
            needed: set[Whose] = set()
            for grant, cut in sorted(cuts.items()):
                whose = read.whose(place, cut.native_principal)
                if not worth_restoring(cut.until, read.cloud_at):
                    continue
                needed.add(whose)
                until = denies.cut_until(whose)
                if cut.before is not None and (until is None or until < cut.before):
                    lost.append(grant)
                    held = denies.holding.get(whose)
                    denies = denies.cut(whose, ceiled(cut.before, _SECOND))
                    denies = denies if held is None else denies.hold(whose, held)
            denies = prune(
                denies,
                cloud_at=read.cloud_at,
                lasting=lasting + PRUNE_MARGIN,
                role=read.role,
                needed=needed,
            )
            if denies != read.document.denies:
                self._write(center, place, replace(read.document, denies=denies), regranted)
                # Elsewhere it only lost what is too old to matter, or was cut by who closed there.
                return Mended(restored=tuple(lost), spread=self._provision(center, place))
            if needed and not self.spread(center, place):
                return Mended(restored=(), spread=self._provision(center, place))
            return Mended(restored=(), spread=True)

    def spread(self, center: Center, place: Place) -> bool:
        """Whether the account has the document as it is, or nothing of the permission set at all.

        Without the permission set its role is gone from the account, and the sessions with it.
        """
        if self._scp or self._provisioned(center, place, "LATEST_PERMISSION_SET_PROVISIONED"):
            return True
        return not self._provisioned(center, place)

    def _change(
        self, center: Center, place: Place, user: str, change: Change, regranted: Regranted
    ) -> Denied:
        mine = _Wanted(account=place.account, user=user, change=change)
        with self._guard:
            self._waiting.setdefault(self._document(place), []).append(mine)
        with self._alone(place, must=False):
            if mine.done is None:
                self._change_all_waiting(center, place, mine, regranted)
        if mine.done is None:
            raise Unknown(
                "not_read_back",
                "expected the deny to be read back, got a document without it",
                "it is written again",
            )
        return mine.done

    def _change_all_waiting(
        self, center: Center, place: Place, mine: "_Wanted", regranted: Regranted
    ) -> None:
        """One write for every thread that waits to change this document in this account.

        Those find it done when it is their turn; when this one fails, each tries for itself.
        """
        name = self._document(place)
        with self._guard:
            waiting = self._waiting.pop(name, [])
            others = [one for one in waiting if one.account != place.account]
            if others:
                self._waiting[name] = others
        together = [one for one in waiting if one.account == place.account and one is not mine]
        together.append(mine)
        read = self.read(center, place)
        denies = read.document.denies
        for one in together:
            denies = one.change(denies, read.whose(place, one.user), read.cloud_at)
        wrote = denies != read.document.denies
        if wrote:
            self._write(center, place, replace(read.document, denies=denies), regranted)
        spread = not wrote and self.spread(center, place)
        spread = spread or self._provision(center, place)
        after = self.read(center, place) if wrote else read
        for one in together:
            until = after.document.denies.refused_until(read.whose(place, one.user))
            if until is not None:
                one.done = Denied(
                    before=until,
                    wrote=wrote,
                    spread=spread,
                    everybody=after.document.denies.everybody == until,
                    cloud_at=after.cloud_at,
                )

    def _write(self, center: Center, place: Place, wanted: Document, regranted: Regranted) -> None:
        role = self._name(center, place.arn) if self._scp else ""
        if len(text := self._text(wanted)) > self._longest:
            users = regranted()
            spared = [Whose(account=place.account, user=user, role=role) for user in users]
            try:
                text = self._text(fit(wanted, self._longest, spared))
            except AskedWrongly as error:
                raise Refused(error.code, error.message, error.help) from error
        if self._scp:
            center.call("organizations", "update_policy", PolicyId=self._scp, Content=text)
        elif text:
            center.sso(
                "put_inline_policy_to_permission_set",
                PermissionSetArn=place.arn,
                InlinePolicy=text,
            )
        else:
            try:
                center.sso("delete_inline_policy_from_permission_set", PermissionSetArn=place.arn)
            except CloudNo as no:
                if not missing(no):
                    raise

    def _text(self, document: Document) -> str:
        return idle(document) if self._scp else render(document)

    def _provision(self, center: Center, place: Place) -> bool:
        """Whether the account has the document now. Followed to its end, within bounds."""
        if self._scp:
            return True
        if not self._provisioned(center, place):
            return True  # see `spread`; to provision would make the role anew
        try:
            reply = center.sso(
                "provision_permission_set",
                PermissionSetArn=place.arn,
                TargetType="AWS_ACCOUNT",
                TargetId=place.account,
            )
        except CloudNo as no:
            if missing(no):  # it left meanwhile
                return self.spread(center, place)
            raise
        member = "PermissionSetProvisioningStatus"
        status = reply.part(member)
        request = text_of(status, "RequestId")
        for look in range(self._pace.most):
            if status.get("Status") != "IN_PROGRESS":
                break
            self._pace.pause(look)
            status = center.sso(
                "describe_permission_set_provisioning_status",
                ProvisionPermissionSetRequestId=request,
            ).part(member)
        if status.get("Status") == "SUCCEEDED":
            return True
        if status.get("Status") == "IN_PROGRESS":
            raise Unknown(
                "in_progress",
                f"expected AWS to provision within {self._pace.most} looks, got `IN_PROGRESS`",
                "it goes on in AWS and is looked at again",
            )
        return self.spread(center, place)

    def _provisioned(self, center: Center, place: Place, which: str = "") -> bool:
        only = {"ProvisioningStatus": which} if which else {}
        listed = center.sso_pages(
            "list_permission_sets_provisioned_to_account",
            "PermissionSets",
            AccountId=place.account,
            **only,
        )
        return place.arn in listed.found

    def _document(self, place: Place) -> str:
        return self._scp or place.arn

    def _name(self, center: Center, arn: str) -> str:
        """The permission set's name, which never changes: an SCP names its roles by it."""
        if arn not in self._names:
            reply = center.sso("describe_permission_set", PermissionSetArn=arn)
            self._names[arn] = text_of(reply.part("PermissionSet"), "Name")
        return self._names[arn]

    def _alone(self, place: Place, *, must: bool) -> AbstractContextManager[None]:
        name = self._document(place)
        return self._writer.alone(name, f"the deny in `{name}`", must=must)


def ceiled(at: Instant, step: timedelta) -> Instant:
    """The first whole `step` at or after `at`: AWS dates sessions in whole seconds."""
    ms = step // timedelta(milliseconds=1)
    return from_ms(-(-to_ms(at) // ms) * ms)


def _readable(text: str) -> Document:
    try:
        return parse(text)
    except AskedWrongly as error:
        raise Refused(error.code, error.message, error.help) from error
