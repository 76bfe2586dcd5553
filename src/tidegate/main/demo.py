"""`tidegate demo`: the whole path on a sandbox cloud, told in plain words, each claim checked.

Three people act through the command line; the AWS clients are the unmodified ones. The cloud is an
emulator that enforces signatures, policies and expiry over HTTP; what it does not enforce is in
docs/connectors/aws.md.
"""

import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from tidegate.base.when import parse_instant
from tidegate.main.sandbox_stage import Keys, Stage
from tidegate.main.scenes import approve, one_killed, opening, pack_checks, request
from tidegate.main.stage import SQLITE
from tidegate.main.telling import Telling, perform

ROLE = "aws-demo/admin"
WINDOW = "15s"
LATE_SECONDS = 1.0  # how late the cloud may refuse
LIST_USERS = ("iam", "list-users", "--output", "text", "--query", "Users[].UserName")


def play(as_json: bool, keep: bool, database: str = SQLITE) -> int:
    """Run the demo. Returns 0 when every check held, else 1. Leaves no process behind.

    Args:
        as_json: print one object with each check at the end, and nothing else.
        keep: leave the temporary directory for a look.
        database: `postgresql`: two servers share one, and an act is added in which one is killed.
    """
    acts = (healthy_path, killed_in_the_middle, revoked_early)
    return perform(
        partial(Stage, database=database),
        acts if database == SQLITE else (*acts, killed_one_of_two),
        opening=opening("a sandbox cloud", database),
        moral="Access opened for a reason, was used, and ended: also with nobody left to end it.",
        as_json=as_json,
        keep=keep,
    )


def healthy_path(stage: Stage, told: Telling) -> None:
    """Denied before, allowed during, denied after; traced, packed and verified."""
    told.act("1. The healthy path: request → approve → grant → run → expire")
    own = _own_keys(stage)
    before = stage.aws("ana", own.environment(), *LIST_USERS)
    told.check(
        "denied_before",
        "AccessDenied" in before.err,
        "before: ana's own AWS keys list no users: AccessDenied",
    )
    _, grant = _granted(stage, told, "ana", "INC-4711 roll back the gateway")
    listed = stage.tidegate("ana", "exec", grant["id"], "--", "aws", *LIST_USERS)
    told.check(
        "allowed_during",
        listed.code == 0 and "ana" in listed.out,
        "during: `tidegate exec … -- aws iam list-users` lists the account's users",
    )
    keys = _held_keys(stage, "ana", grant["id"])
    profile = {"AWS_CONFIG_FILE": str(_profile(stage, grant["id"])), "AWS_PROFILE": "held"}
    inside = stage.aws("ana", profile, *LIST_USERS)
    told.check(
        "profile_during",
        inside.code == 0,
        "during: the plain AWS CLI works through `credential_process = tidegate-credentials …`",
    )
    told.tell(f"the window ends at {grant['ends_at']}; ana keeps calling, with keys she kept …")
    late = _lateness(stage, keys, grant["ends_at"])
    told.check(
        "cloud_denied_in_time",
        late is not None and late <= LATE_SECONDS,
        _lateness_words(late),
    )
    kept = stage.aws("ana", keys.environment(), *LIST_USERS)
    told.check(
        "denied_after",
        "AccessDenied" in kept.err,
        "after: the AWS CLI with keys kept from inside the window: AccessDenied",
    )
    through = stage.aws("ana", profile, *LIST_USERS)
    told.check(
        "profile_after",
        "AccessDenied" in through.err,
        "after: the AWS CLI through the profile (`--expiration sts`): AccessDenied by the cloud",
    )
    refused = stage.tidegate("ana", "exec", grant["id"], "--", "aws", *LIST_USERS)
    told.check("broker_refuses", refused.code != 0, f"after: Tidegate: {refused.error}")
    _closed(stage, told, "ana", grant["id"], "first")
    told.tell(f"`tidegate trace {grant['id']}` walks the five stages:")
    told.show(stage.tidegate("bo", "trace", grant["id"]).out)
    pack_checks(stage, told, grant["id"], "first", b"INC-47")


def killed_in_the_middle(stage: Stage, told: Telling) -> None:
    """SIGKILL mid-window: the cloud refuses at the deadline by itself; a restart closes."""
    told.act("2. The same, with Tidegate killed in the middle")
    _, grant = _granted(stage, told, "ana", "INC-4712 rotate the certificates")
    keys = _held_keys(stage, "ana", grant["id"])
    profile = {"AWS_CONFIG_FILE": str(_profile(stage, grant["id"])), "AWS_PROFILE": "held"}
    stage.aws("ana", profile, *LIST_USERS)
    stage.stop_server(signal.SIGKILL)
    told.check(
        "server_dead",
        not stage.answers(),
        f"{stage.every_server} got SIGKILL; nobody answers",
    )
    still = stage.aws("ana", profile, *LIST_USERS)
    told.check(
        "works_while_dead",
        still.code == 0,
        "inside the window the AWS CLI goes on working: ana is not stopped by our outage",
    )
    late = _lateness(stage, keys, grant["ends_at"])
    told.check(
        "cloud_denied_while_dead",
        late is not None and late <= LATE_SECONDS and not stage.answers(),
        f"nobody of ours is alive, and still: {_lateness_words(late)}",
    )
    through = stage.aws("ana", profile, *LIST_USERS)
    told.check(
        "profile_denied_while_dead",
        "AccessDenied" in through.err,
        "the unmodified AWS CLI is refused by the cloud as well",
    )
    stage.start_server()
    told.tell("started again …")
    _closed(stage, told, "ana", grant["id"], "killed")
    pack_checks(stage, told, grant["id"], "killed", b"INC-47")


def killed_one_of_two(stage: Stage, told: Telling) -> None:
    """SIGKILL mid-window for one of two servers: the other serves, and closes by itself."""
    told.act("4. Two servers on one database, and one of them killed in the middle")
    _, grant = _granted(stage, told, "ana", "INC-4714 empty the queue")
    keys = _held_keys(stage, "ana", grant["id"])
    one_killed(stage, told)
    listed = stage.tidegate("ana", "exec", grant["id"], "--", "aws", *LIST_USERS)
    told.check(
        "other_serves",
        listed.code == 0,
        "ana's next `tidegate exec` goes to the other server, and works: one token, one log",
    )
    late = _lateness(stage, keys, grant["ends_at"])
    told.check(
        "cloud_denied_with_one", late is not None and late <= LATE_SECONDS, _lateness_words(late)
    )
    _closed(stage, told, "ana", grant["id"], "by_the_other")
    pack_checks(stage, told, grant["id"], "by_the_other", b"INC-47")
    stage.start_server()
    told.tell("the first server is started again …")
    health = stage.tidegate("ana", "trace", grant["id"])
    told.check("first_is_back", health.code == 0, "and tells the same of that grant")


def revoked_early(stage: Stage, told: Telling) -> None:
    """One of two sessions on the same role is revoked; it ends at once, the other goes on."""
    told.act("3. Revoked early: one session ends at once, another on the same role goes on")
    _, anas = _granted(stage, told, "ana", "INC-4713 look at the queue", "10m")
    _, cys = _granted(stage, told, "cy", "INC-4713 look at the queue as well", "10m")
    held = {
        name: _held_keys(stage, name, grant["id"]) for name, grant in (("ana", anas), ("cy", cys))
    }
    calls = [stage.aws(name, keys.environment(), *LIST_USERS) for name, keys in held.items()]
    both = all(call.code == 0 for call in calls)
    told.check("both_allowed", both, "ana and cy both act as administrators")
    ended = stage.tidegate("bo", "revoke", anas["id"], "--comment", "wrong account", "--json")
    refused = stage.aws("ana", held["ana"].environment(), *LIST_USERS)
    told.check(
        "revoked_at_once",
        ended.code == 0 and "AccessDenied" in refused.err,
        "bo revokes ana's grant: her very next call is refused by the cloud",
    )
    goes_on = stage.aws("cy", held["cy"].environment(), *LIST_USERS)
    told.check("other_goes_on", goes_on.code == 0, "cy's session on the same role goes on")
    _closed(stage, told, "ana", anas["id"], "revoked")
    done = stage.tidegate("cy", "done", cys["id"], "--json")
    told.check("done", done.code == 0, "cy is finished and says so: `tidegate done`")
    _closed(stage, told, "cy", cys["id"], "done")
    health = stage.tidegate("bo", "doctor", "--json")
    told.check("doctor", health.code == 0, "`tidegate doctor` finds nothing wrong")


def _granted(
    stage: Stage, told: Telling, person: str, reason: str, window: str = ""
) -> tuple[dict[str, Any], dict[str, Any]]:
    asked = request(stage, told, person, ROLE, reason, window or WINDOW)
    if person == "ana" and not any(c["check"] == "self_approval" for c in told.checks):
        own = stage.tidegate(person, "approve", asked["id"], "--yes")
        told.check("self_approval", own.code == 3, f"ana tries to approve it herself: {own.error}")
    return asked, approve(stage, told, asked)


def _closed(stage: Stage, told: Telling, person: str, grant: str, name: str) -> None:
    found = stage.wait_for(person, grant, "gone")
    told.check(
        f"gone_{name}",
        found.get("state") == "gone" and found.get("proof") == "denied",
        f"closed by itself: {found.get('says', found)}",
    )


def _own_keys(stage: Stage) -> Keys:
    iam = stage.sandbox.client("iam")
    iam.create_user(UserName="ana")
    made = iam.create_access_key(UserName="ana")["AccessKey"]
    return Keys(made["AccessKeyId"], made["SecretAccessKey"])


def _held_keys(stage: Stage, person: str, grant: str) -> Keys:
    found = stage.tidegate(person, "credentials", grant, "--json").json()
    return Keys(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])


def _profile(stage: Stage, grant: str) -> Path:
    path = stage.directory / f"{grant}.aws-config"
    path.write_text(
        f"[profile held]\nregion = us-east-1\n"
        f"credential_process = tidegate-credentials {grant} --expiration sts\n"
    )
    return path


def _lateness(stage: Stage, keys: Keys, ends_at: str) -> float | None:
    """Seconds from the end to the start of the last call that was still allowed; None if it never
    ended. A call that started before the end counts as in time.
    """
    iam = stage.sandbox.client(
        "iam", keys.access_key_id, keys.secret_access_key, keys.session_token
    )
    end = parse_instant(ends_at).timestamp()
    last = end
    while (began := _now()) < end + 5 * LATE_SECONDS:
        if not _allowed(iam.list_users):
            return max(0.0, last - end)
        last = began
        time.sleep(0.02)
    return None


def _allowed(call: Callable[[], object]) -> bool:
    from botocore.exceptions import ClientError

    try:
        call()
    except ClientError as error:
        if error.response["Error"]["Code"] == "AccessDenied":
            return False
        raise
    return True


def _lateness_words(late: float | None) -> str:
    if late is None:
        return "the cloud went on allowing calls after the end"
    if late == 0:
        return "the cloud refused every call that started at or after the end"
    return f"the last call the cloud allowed started {late * 1000:.0f} ms after the end"


def _now() -> float:
    return datetime.now(UTC).timestamp()
