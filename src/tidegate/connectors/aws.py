"""AWS: role kind `iam-role`, an IAM role held by short STS sessions under a policy that ends them.

Granting makes nothing in the account. Each credential is one AssumeRole call whose session policy
denies everything from the grant's end, so the end needs nobody of ours alive. An early end is a
deny on the role that names the grant (`aws_cut.py`), evaluated by AWS on every call.

What the three documents say is in `aws_policy.py`; how calls fail is in `aws_calls.py`. This file
is the port's verbs and decides nothing else.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from tidegate.base.duty import ALL, Duty
from tidegate.base.errors import AskedWrongly, Refused, WorldFailed
from tidegate.base.ids import id_made_at
from tidegate.base.when import Instant, from_ms, to_ms, whole_seconds, wire
from tidegate.catalogue import AssignmentKey, Role, Target
from tidegate.connectors import aws_health, aws_probe, aws_standing
from tidegate.connectors.aws_calls import Aws, AwsSettings, CloudNo, Keys, Reply
from tidegate.connectors.aws_check import check_role, no_settings, protected_by, role_arn
from tidegate.connectors.aws_cut import CutLists, CutRead
from tidegate.connectors.aws_health import SKEW
from tidegate.connectors.aws_minting import longest_life
from tidegate.connectors.aws_policy import (
    GRANT_TAG,
    REQUEST_TAG,
    RoleArn,
    control_policy,
    covers,
    parse_role_arn,
    session_policy,
    whole_second,
)
from tidegate.connectors.aws_rights import IDENTITIES, Identity
from tidegate.connectors.aws_side_doors import look as look_for_side_doors
from tidegate.connectors.aws_trail import Window
from tidegate.connectors.aws_trust import trusted_by
from tidegate.connectors.one_writer import Between
from tidegate.connectors.port import (
    Administrator,
    Answer,
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
    Proof,
    Receipt,
    Scope,
    Seen,
    SideDoors,
    Trouble,
    ends_by_itself,
    nothing_more,
)
from tidegate.connectors.role_kinds import IAM_ROLE

__all__ = ["AwsConnector", "AwsSettings"]

Made = TypeVar("Made")

SHORTEST_SESSION = timedelta(seconds=900)  # AWS STS API, AssumeRole, DurationSeconds
# The most a hub that itself runs on an assumed role may ask for (role chaining), and how long
# systems that take GetCallerIdentity for a login may go on believing a session.
LONGEST_SESSION = timedelta(seconds=3600)
# IAM is eventually consistent and promises no bound; a published measurement saw 3 to 4 s. A minute
# is fifteen times that.
PROPAGATION = timedelta(seconds=60)
CONTROL_LIFE = timedelta(seconds=60)
MOST_FOUND = 1_000  # roles one discovery lists: IAM's default quota of roles an account

POWERS = Powers(
    native_deadline=True,
    deadline_precision=timedelta(seconds=1),
    floor=timedelta(0),
    proof=Proof.DENIED,
    issues=True,
    cuts_apart=False,
    propagation=PROPAGATION,
    # A deny that is read back is there; only a missing one may be a lagging replica's answer.
    stale_window=timedelta(0),
    shared_document=True,
    earliest_close=timedelta(0),
)


class AwsConnector:
    """The port's verbs for AWS accounts.

    Args:
        settings: by target id.
        lock_dir: a directory shared by the processes of this machine that may close; they then
            write one at a time and know what the others cut lately.
        monotonic: a monotonic clock in seconds, to measure the round trip of a health check.
        between: keeps the writers of one document apart between machines.
        duties: what this process has identities for: the health of the others is not looked at.
    """

    def __init__(
        self,
        settings: Mapping[str, AwsSettings],
        *,
        lock_dir: Path | None = None,
        monotonic: Callable[[], float] | None = None,
        duties: frozenset[Duty] = ALL,
        between: Between | None = None,
    ) -> None:
        self._settings = dict(settings)
        self._does = tuple(IDENTITIES[duty] for duty in Duty if duty in duties)
        self._monotonic = monotonic
        self._cuts = CutLists(lock_dir, between=between)
        self._guard = threading.Lock()
        self._reached: dict[tuple[str, Keys | None], Aws] = {}

    def powers(self, kind: str) -> Powers:
        """What `iam-role` promises. The propagation bound is ours: AWS states none."""
        if kind != IAM_ROLE:
            raise AskedWrongly(
                "unknown_kind",
                f"expected role kind `{IAM_ROLE}` on AWS, got `{kind[:40]}`",
                "correct `kind` in the catalogue",
            )
        return POWERS

    def exposure(self, target: Target, role: Role) -> Exposure:
        """The longer of propagation and the life of what an allowed call hands out.

        Unattended only the latter: the end is inside every credential.
        """
        derived = self.residual(target, role, cut=True)
        return Exposure(attended=max(PROPAGATION, derived), unattended=max(SKEW, derived))

    def residual(self, target: Target, role: Role, cut: bool) -> timedelta:
        """The longest life among the calls `role` allows, cut or not; zero when it allows none.

        NB. a chained session (`sts:AssumeRole`) lives an hour and may chain again before it ends:
        AWS sets no end to that, so an hour is per link, not for the chain.
        """
        return longest_life(role.allows)

    def lingers(self, target: Target, role: Role) -> timedelta:
        """Zero: no credential of a grant acts after its end, cut or not."""
        return timedelta(0)

    def key(self, target: Target, role: Role, grant: str, person: Person) -> AssignmentKey:
        """Each grant's own: the role and the grant id. Asks nothing of AWS."""
        return AssignmentKey(
            connector=target.connector,
            account=target.account,
            native_role=role.native.get("arn", role.id),
            native_principal=grant,
        )

    def check(self, target: Target, role: Role, others: tuple[Role, ...]) -> tuple[str, ...]:
        """What would fail later about this entry, in words. Sends nothing."""
        told: list[str] = []
        try:
            self.powers(role.kind)
        except AskedWrongly as error:
            told.append(f"{role.id}: {error.message}: {error.help}")
        return (*told, *check_role(self._settings.get(target.id), target, role, others))

    def health(self, target: Target, now: Instant) -> Health:
        """Reach, clock, identity, certificate, and whether AWS would let Tidegate close."""
        settings = self._settings.get(target.id)
        if settings is None:
            told = Trouble(
                code="no_settings", message=no_settings(target), help="add it to tidegate.toml"
            )
            return aws_health.not_looked((told,))
        try:
            roles = tuple(parse_role_arn(arn) for arn in settings.handed)
        except AskedWrongly as error:
            return aws_health.not_looked((aws_health.trouble(error),))
        return aws_health.look(
            self._aws(target, Identity.OPENER),
            self._aws(target, Identity.CLOSER),
            aws_health.Looked(settings=settings, roles=roles, account=target.account),
            now,
            self._monotonic,
            self._does,
        )

    def discover(self, target: Target) -> Iterator[Found]:
        """The account's roles, at most MOST_FOUND. Whether their trust lets us in is not told."""
        aws, marker, count = self._aws(target), "", 0
        while count < MOST_FOUND:
            page = aws.call("iam", _list_roles(marker), "iam:ListRoles").body
            for role in page.get("Roles", ()):
                count += 1
                arn = str(role["Arn"])
                yield Found(kind=IAM_ROLE, native={"arn": arn}, title=str(role["RoleName"]))
            marker = str(page.get("Marker", ""))
            if not page.get("IsTruncated") or not marker:
                return

    def observe(self, scope: Scope, now: Instant) -> Iterator[Seen]:
        """With a hold: its one Seen. Else one Seen a grant the cut on each role names."""
        if scope.hold is not None:
            yield self._observe_hold(scope.hold)
            return
        aws, target = self._aws(scope.target), scope.target
        if scope.role is not None:
            arns = [self._arn(target, scope.role)]
        else:
            handed = self._settings[target.id].handed
            arns = _refusing(lambda: [parse_role_arn(arn) for arn in handed])
        for arn in arns:
            read = self._cuts.read(aws, arn)
            for grant in sorted(read.cuts.grants):
                key = AssignmentKey(
                    connector=target.connector,
                    account=target.account,
                    native_role=arn.text,
                    native_principal=grant,
                )
                yield Seen(key=key, usable=False, cut=True, cloud_at=read.cloud_at)

    def drift(self, target: Target, role: Role, now: Instant) -> tuple[str, ...]:
        """That the role is gone, or whom its trust lets in beside Tidegate and its own account."""
        arn, settings = self._arn(target, role), self._settings[target.id]
        try:
            reply = self._read_role(self._aws(target), arn)
        except Refused as no:
            if no.code == "not_there":
                return ("the role is gone",)
            raise
        known = {*settings.own, f"arn:aws:iam::{target.account}:root", target.account}
        trusted = trusted_by(reply.part("Role").get("AssumeRolePolicyDocument"))
        return tuple(f"its trust lets {who} in" for who in sorted(trusted - known))

    def side_doors(
        self, hold: Hold, keys: tuple[str, ...], since: Instant, until: Instant, now: Instant
    ) -> SideDoors:
        """By IAM's own dates, and by CloudTrail where it may be read."""
        chains = "sts:AssumeRole" in hold.role.allows  # else each session's own policy forbids it
        window = Window(since=since, until=until, keys=keys, now=now, chains=chains)
        return look_for_side_doors(self._aws(hold.target), window)

    def paced_as(self, target: Target) -> str:
        """`iam-role`, on every target with settings."""
        return IAM_ROLE if target.id in self._settings else ""

    def administrators(self, target: Target, now: Instant) -> tuple[Administrator, ...]:
        """Users, roles and groups that may do everything, by policies of the account.

        Without the roles that are handed out there, on whichever target of this account, without
        `own`, and without whom AWS takes our identities for.
        """
        aws, ours = self._aws(target), set[aws_standing.Named]()
        ours.update(aws_standing.caller(aws, target.account))
        if Identity.OPENER in self._does and (opener := self._aws(target, Identity.OPENER)) != aws:
            with suppress(WorldFailed):  # health tells; to look takes the closer alone
                ours.update(aws_standing.caller(opener, target.account))
        for one in self._settings.values():
            ours.update(aws_standing.roles_in((*one.own, *one.handed), target.account))
        return aws_standing.look(aws, frozenset(ours))

    def grant(self, hold: Hold, now: Instant) -> Receipt:
        """Read the role; nothing is made. The receipt names the role's own id.

        Raises:
            Refused: `not_there`, `access_denied`, or `role_mismatch` when the ARN in the catalogue
                is not the ARN of the role of that name.
        """
        arn = self._arn(hold.target, hold.role)
        reply = self._read_role(self._aws(hold.target, Identity.OPENER), arn)
        role = reply.part("Role")
        # NB. only the name and account are compared: an emulator may leave the path out of ARNs.
        seen = parse_role_arn(str(role["Arn"]))
        if (seen.account, seen.name) != (arn.account, arn.name):
            raise Refused(
                "role_mismatch",
                f"expected role `{arn.text}`, got `{seen.text}`",
                "correct the ARN in the catalogue",
            )
        return Receipt(cloud_at=reply.cloud_at, detail=_identity(reply))

    def issue(self, hold: Hold, session: str, now: Instant) -> Credential:
        """One AssumeRole under the session policy of this hold.

        AWS's shortest session is 900 s; the policy, not the session, ends shorter ones.

        Raises:
            Refused: `past_end`; what AWS refuses.
        """
        if now >= hold.ends_at:
            raise Refused(
                "past_end",
                f"expected a grant that lasts, got one that ended at {wire(hold.ends_at)}",
                "request the role again",
            )
        return self._assume(hold, session, now)

    def arm(self, hold: Hold, until: Instant, now: Instant) -> Receipt | None:
        """Nothing: every credential carries the end."""
        return None

    def disarm(self, hold: Hold, now: Instant) -> Receipt | None:
        """Nothing: see `arm`."""
        return None

    def revoke(self, hold: Hold, now: Instant) -> Receipt:
        """Early by AWS's clock: name the grant in the role's deny. Else nothing is left to write.

        `now` past the end only saves the deny when AWS's Date says so too (`ends_by_itself`).
        """
        arn, aws = self._arn(hold.target, hold.role), self._aws(hold.target)
        if now >= hold.ends_at:
            reply = aws.call("sts", lambda sts: sts.get_caller_identity(), "sts:GetCallerIdentity")
            if ends_by_itself(hold.ends_at, now, reply.cloud_at):
                return Receipt(cloud_at=reply.cloud_at, detail={"deny": "deadline"})
        written = self._cuts.add(aws, arn, hold.grant)
        detail = {
            "deny": written.how,
            "read_back": "yes" if written.seen else "not_yet",
            "wrote": "yes" if written.wrote else "no",
        }
        if written.how == "issue_time":
            # It also ended the live sessions of other grants of the role; they are issued anew.
            detail["list_full"] = "issue_time"
        return Receipt(cloud_at=written.cloud_at, detail=detail)

    def cut(self, hold: Hold, now: Instant) -> Receipt:
        """The same deny as `revoke`: AWS asks it on every call, so it stops live sessions too."""
        return self.revoke(hold, now)

    def probe(self, hold: Hold, now: Instant) -> Probed:
        """Try the role's probe call under this grant's tags and end, and beside it a control.

        Nothing is tried of a grant that only the deny by issue time covers: a credential made for
        the try is younger than that deny, so what it may do tells nothing about those before it.
        """
        aws, call = self._aws(hold.target, Identity.OPENER), hold.role.probe
        if not call:
            return _untold("", now, "the role has no probe call")
        seen = self._observe_hold(hold)
        # Past the end by AWS's clock every credential, this one too, carries its own no.
        if seen.detail.get("cut_by") == "issue_time" and seen.cloud_at <= hold.ends_at:
            return _untold(call, seen.cloud_at, "a session made now is younger than the deny")
        try:
            mine = self._assume(hold, f"probe-{hold.grant}", now)
            # From AWS's clock: with ours behind, the control would be dead at birth.
            control = self._control(hold, call, mine.issued_at)
        except CloudNo as no:
            return _untold(call, no.cloud_at or now, f"AssumeRole was refused with {no.aws_code}")
        tried = aws_probe.attempt(aws, mine, call)
        beside = aws_probe.attempt(aws, control, call)
        return Probed(
            answer=tried.answer,
            control=beside.answer,
            call=call,
            cloud_at=tried.cloud_at or now,
            detail={
                "code": tried.code,
                "control_code": beside.code,
                "key_id": mine.key_id,
                "control_key_id": control.key_id,
            },
        )

    def mend(
        self,
        target: Target,
        role: Role,
        cuts: Mapping[str, Cut],
        now: Instant,
        must_stay: MustStay = nothing_more,
    ) -> tuple[str, ...]:
        """Put back cuts somebody removed and prune those that can no longer matter.

        NB. what was written in the two minutes before, by this process or by one that shares
        `lock_dir`, is never pruned for being absent from `cuts`; nor is what `must_stay` keeps.

        Raises:
            Refused: `no_role_lock` when `lock_dir` cannot be used; what AWS refuses.
        """
        until = {grant: cut.until for grant, cut in cuts.items()}
        arn = self._arn(target, role)
        return self._cuts.mend(self._aws(target), arn, until, now, must_stay)

    def _observe_hold(self, hold: Hold) -> Seen:
        arn, aws = self._arn(hold.target, hold.role), self._aws(hold.target)
        read: CutRead = self._cuts.read(aws, arn)
        by = covers(read.cuts, hold.grant, id_made_at(hold.grant))
        detail = {"cut_by": by} if by else {}
        there = read.there
        if not there:  # no such policy, or no such role: AWS answers both alike
            try:
                detail |= _identity(self._read_role(aws, arn))
                there = True
            except CloudNo as no:
                if no.aws_code != "NoSuchEntity":
                    raise
                detail["role"] = "gone"
        ended = read.cloud_at > hold.ends_at + SKEW
        return Seen(
            key=hold.key,
            usable=there and not by and not ended,
            cut=bool(by),
            cloud_at=read.cloud_at,
            deadline_at=hold.ends_at,
            detail=detail,
        )

    def _assume(self, hold: Hold, session: str, now: Instant) -> Credential:
        self._aws(
            hold.target, Identity.OPENER
        )  # first: a target without settings is refused in words
        settings = self._settings[hold.target.id]
        policy = _refusing(
            lambda: session_policy(
                ends_at=hold.ends_at,
                allows=hold.role.allows,
                protected=protected_by(settings, hold.role),
            )
        )
        lasts = min(max(SHORTEST_SESSION, hold.ends_at - now), LONGEST_SESSION)
        tags = {GRANT_TAG: hold.grant, REQUEST_TAG: hold.request}
        return self._sts(hold, session, lasts, policy, tags, hold.ends_at)

    def _control(self, hold: Hold, call: str, cloud_at: Instant) -> Credential:
        name = f"control-{hold.grant}"
        until = cloud_at + CONTROL_LIFE
        policy = control_policy(call=call, until=until)
        tags = {GRANT_TAG: name, REQUEST_TAG: hold.request}
        return self._sts(hold, name, SHORTEST_SESSION, policy, tags, until)

    def _sts(
        self,
        hold: Hold,
        session: str,
        lasts: timedelta,
        policy: str,
        tags: Mapping[str, str],
        bound_until: Instant,
    ) -> Credential:
        arn = self._arn(hold.target, hold.role)
        reply = self._aws(hold.target, Identity.OPENER).call(
            "sts",
            lambda sts: sts.assume_role(
                RoleArn=arn.text,
                RoleSessionName=session,
                SourceIdentity=tags[GRANT_TAG],
                DurationSeconds=whole_seconds(lasts),
                Policy=policy,
                Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
                TransitiveTagKeys=[GRANT_TAG],
            ),
            "sts:AssumeRole",
        )
        keys = reply.part("Credentials")
        return Credential(
            kind="aws",
            material={
                "access_key_id": str(keys["AccessKeyId"]),
                "secret_access_key": str(keys["SecretAccessKey"]),
                "session_token": str(keys["SessionToken"]),
            },
            key_id=str(keys["AccessKeyId"]),
            issued_at=reply.cloud_at,
            expires_at=from_ms(to_ms(keys["Expiration"])),
            bound_until=whole_second(bound_until),  # as the policy says it, not later
        )

    def _read_role(self, aws: Aws, arn: RoleArn) -> Reply:
        return aws.call("iam", lambda iam: iam.get_role(RoleName=arn.name), "iam:GetRole")

    def _arn(self, target: Target, role: Role) -> RoleArn:
        return _refusing(lambda: role_arn(target, role))

    def _aws(self, target: Target, identity: Identity = Identity.CLOSER) -> Aws:
        """Clients of `identity` there; with the same keys both identities share them."""
        with self._guard:
            settings = self._settings.get(target.id)
            if settings is None:
                raise Refused("no_settings", no_settings(target), "add it to tidegate.toml")
            key = (target.id, settings.keys(identity))
            if key not in self._reached:
                self._reached[key] = Aws(settings, identity)
            return self._reached[key]


def _refusing(ask: Callable[[], Made]) -> Made:
    """`ask()`, with a wrong catalogue told as what it is to a caller of verbs: nothing happened."""
    try:
        return ask()
    except AskedWrongly as error:
        raise Refused(error.code, error.message, error.help) from error


def _list_roles(marker: str) -> Callable[[Any], Mapping[str, Any]]:
    more = {"Marker": marker} if marker else {}
    return lambda iam: iam.list_roles(**more)


def _identity(reply: Reply) -> dict[str, str]:
    """What tells this role from a later one of the same name."""
    role = reply.part("Role")
    made = from_ms(to_ms(role["CreateDate"]))
    return {"role_id": str(role["RoleId"]), "arn": str(role["Arn"]), "role_made_at": wire(made)}


def _untold(call: str, at: Instant, why: str) -> Probed:
    return Probed(
        answer=Answer.UNTOLD, control=Answer.UNTOLD, call=call, cloud_at=at, detail={"why": why}
    )
