"""`tidegate demo --break`: the cloud refuses a removal, and a person keeps admin after the end.

Found, bounded, mended, finished by itself and proven, on permission sets. The cloud is a stand-in
that enforces signatures and policies over HTTP and lets sessions outlive their assignments; what it
does not enforce is said in `tidegate_standin`. The AWS clients are the unmodified ones.
"""

import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from textwrap import shorten
from typing import Any, TypeVar

from tidegate.base.errors import WorldFailed
from tidegate.base.when import parse_instant
from tidegate.main.scenes import approve, one_killed, opening, pack_checks, request
from tidegate.main.stage import PATIENCE_SECONDS, SQLITE, Keys, Told
from tidegate.main.standin_stage import PROPAGATION, CenterStage
from tidegate.main.telling import Telling, perform

TARGET, SCHEDULED = "aws-prod", "aws-billing"
WINDOW = "15s"
LAST_SECONDS = 6  # before the end, ana signs in once more
LATE_SECONDS = 10  # the stand-in's schedules fire on time; its removals take up to two seconds
REMOVING = ("sso:DeleteAccountAssignment",)
CUTTING = (
    "sso:PutInlinePolicyToPermissionSet",
    "sso:DeleteInlinePolicyFromPermissionSet",
    "sso:ProvisionPermissionSet",
)
CALL = ("aws", "iam", "list-users", "--output", "text", "--query", "Users[].UserName")
SHOWN = "deploy-"  # how the one user of each account is called
CREATES = "sso-admin:CreateAccountAssignment"

Plain = dict[str, Any]
Found = TypeVar("Found")


def play_break(as_json: bool, keep: bool, database: str = SQLITE) -> int:
    """Run it. Returns 0 when every check held, else 1. Leaves no process behind.

    Args:
        as_json: print one object with each check at the end, and nothing else.
        keep: leave the temporary directory for a look.
        database: `postgresql`: two servers share one, and an act is added in which one is killed.
    """
    acts = (first_grant, nobody_left)
    return perform(
        partial(CenterStage, database=database),
        acts if database == SQLITE else (*acts, one_left),
        opening=opening("a stand-in for Identity Center", database),
        moral="The cloud said no: seen, told, mended, proven. Nothing was called gone too early.",
        as_json=as_json,
        keep=keep,
    )


def first_grant(stage: CenterStage, told: Telling) -> None:
    """One grant from its request to its verified evidence, with its end refused on the way."""
    grant, keys = opened(stage, told)
    refused(stage, told, grant, keys)
    mended(stage, told, grant, keys)
    again(stage, told, grant, keys)


def opened(stage: CenterStage, told: Telling) -> tuple[Plain, Keys]:
    """Opened and used as approved; the grant, and keys taken a moment before its end."""
    told.act("1. A permission set is handed out: request → approve → grant → sign in")
    told.tell("Tidegate opens as one identity and closes as another; each may do exactly what")
    told.tell("`tidegate onboard aws` prints for it. What is changed here is true at once, so")
    told.tell(f"`propagation` is {PROPAGATION}; on AWS leave it at 60s.")
    health = stage.tidegate("bo", "doctor", "--json")
    told.check("doctor_before", health.code == 0, "`tidegate doctor` finds nothing wrong")
    told.check(
        "denied_before",
        stage.sign_in("ana", TARGET) is None,
        "before: the portal gives ana nothing",
    )
    asked = request(stage, told, "ana", f"{TARGET}/admin", "INC-4721 roll back the gateway", WINDOW)
    told.tell(f"shown with it, as no schedule is kept for {TARGET}: {_exposure(asked)}")
    grant = approve(stage, told, asked)
    keys = _signed_in(stage)
    during = _call(stage, keys)
    told.check("allowed_during", _listed(during), "during: ana signs in and lists the users")
    tried = _try_here(stage, grant["id"], keys)
    told.check(
        "tried_during",
        tried.code == 0,
        "during: `tidegate verify --here` seals what ana saw on her machine: allowed",
    )
    _sleep_until(_end(grant) - LAST_SECONDS)
    keys = _signed_in(stage)
    told.check(
        "signed_in_late",
        _listed(_call(stage, keys)) and _now() < _end(grant),
        "seconds before the end ana signs in once more; AWS gave these keys for an hour",
    )
    return grant, keys


def refused(stage: CenterStage, told: Telling, grant: Plain, keys: Keys) -> None:
    """The closing path is broken, the window ends, and ana goes on."""
    told.act("2. Somebody edits the closer's policy, and the window ends")
    stage.closer_without(REMOVING + CUTTING)
    told.tell("gone from the closer's policy: to delete an assignment, to write a deny")
    trace = _until(
        lambda: stage.tidegate("ana", "trace", grant["id"], "--json").json(),
        lambda found: found.get("stops_at") == "expire" and "refuses" in str(found.get("why")),
    )
    told.check(
        "kept_admin",
        _listed(_call(stage, keys)) and _now() > _end(grant),
        f"{_now() - _end(grant):.0f} s after the end ana is still admin: the classic failure",
    )
    expire = trace["walks"][0]["stages"][-1]
    told.check(
        "trace_stops",
        trace["stops_at"] == "expire" and "refuses the removal" in trace["why"],
        f"`tidegate trace` stops at Expire: {trace['why']}",
    )
    told.check("trace_says_until", "until" in expire["headline"], "… and says until when")
    told.tell(f"next: {trace['next_step']}")
    looked = stage.tidegate("bo", "verify", grant["id"], "--json")
    told.check(
        "verify_not_closed",
        looked.code != 0 and looked.json()["verdict"] == "not_closed",
        f"`tidegate verify`: {looked.json()['says']}",
    )
    _diagnosed(stage, told, grant)
    _gate_shut(stage, told)


def _diagnosed(stage: CenterStage, told: Telling, grant: Plain) -> None:
    found = stage.tidegate("bo", "paths", "ana", TARGET, "--json").json()
    ways = [way for way in found["paths"] if way["grant"] == grant["id"]]
    told.check(
        "paths_named",
        [way["cause"] for way in ways] == ["unclosed"],
        f"`tidegate paths ana {TARGET}` lists every way she has this access now:",
    )
    told.show(stage.tidegate("bo", "paths", "ana", TARGET).out)
    health = stage.tidegate("bo", "doctor", "--json")
    faults = [one for one in health.json()["findings"] if one["ok"] is False]
    missing = [action for action in REMOVING + CUTTING if _names(faults, action)]
    told.check(
        "doctor_names_rights",
        health.code != 0 and missing == list(REMOVING + CUTTING),
        f"`tidegate doctor` names what the closer lacks: {', '.join(missing)}",
    )
    gate = next((one for one in faults if one["name"] == f"target {TARGET} gate"), None)
    told.check(
        "doctor_shows_gate",
        gate is not None and grant["id"] in gate["says"],
        f"and that nothing opens there: {gate['says'] if gate else 'it does not'}",
    )


def _gate_shut(stage: CenterStage, told: Telling) -> None:
    before = stage.cloud.calls(CREATES)
    words = ("--for", "10m", "--reason", "INC-4722 the same for me", "--ticket", "INC-4722")
    asked = stage.tidegate("cy", "request", f"{TARGET}/admin", *words)
    told.check(
        "gate_shut",
        asked.code == 3 and "should have ended" in asked.error and "tidegate trace" in asked.error,
        f"cy asks for the same, and is refused: {shorten(asked.error, 330, placeholder=' …')}",
    )
    told.check(
        "nothing_opened",
        stage.cloud.calls(CREATES) == before,
        "and the cloud was not asked to open anything",
    )


def mended(stage: CenterStage, told: Telling, grant: Plain, keys: Keys) -> None:
    """The rights come back one by one, and nobody runs a command: each rung as it is reached."""
    told.act("3. The permission is put back; the revoker finishes by itself")
    # A removal is looked at for some seconds before AWS is done: here long enough to be seen.
    stage.cloud.ask("POST", "options", {"describes": 3, "settle_seconds": 8})
    stage.closer_without(CUTTING)
    told.tell("to delete an assignment is allowed again, to write a deny not yet; we wait …")
    _until(stage.cloud.removing, bool)
    state = stage.wait_for("ana", grant["id"], "closing", "removed")
    told.check(
        "rung_accepted",
        state["state"] == "closing",
        f"accepted: the cloud said yes to the removal; Tidegate still says {state['state']}",
    )
    state = stage.wait_for("ana", grant["id"], "removed", "gone")
    told.check("rung_removed", state["state"] == "removed", f"not gone: {state['says']}")
    told.check(
        "no_new_session", stage.sign_in("ana", TARGET) is None, "the portal gives ana nothing more"
    )
    told.check(
        "session_lives",
        _listed(_call(stage, keys)),
        "and that word is right: the keys ana took before still list the users",
    )
    stage.closer_without(())
    told.tell("to write a deny is allowed again; we wait …")
    state = stage.wait_for("ana", grant["id"], "gone")
    told.check("rung_gone", state["state"] == "gone", f"{state['says']}")
    cut = _call(stage, keys)
    told.check(
        "session_cut",
        "AccessDenied" in cut.err,
        "ana's live session is cut: the same keys, AccessDenied",
    )
    tried = _try_here(stage, grant["id"], keys)
    looked = stage.tidegate("bo", "verify", grant["id"], "--json").json()
    told.check(
        "rung_denied",
        tried.code == 0 and looked["level"] == "denied" and looked["by_holder"] is True,
        f"{looked['level_says']}: `tidegate verify --here` sealed it; {looked['tried']}",
    )
    health = stage.tidegate("bo", "doctor", "--json")
    told.check("doctor_after", health.code == 0, "`tidegate doctor` finds nothing wrong")


def again(stage: CenterStage, told: Telling, grant: Plain, old: Keys) -> None:
    """A new grant works while the old keys stay dead; the evidence of the first is verified."""
    told.act("4. The same access again, and the evidence of the first grant")
    stage.cloud.ask("POST", "options", {"describes": 1, "settle_seconds": 2})
    asked = request(stage, told, "ana", f"{TARGET}/admin", "INC-4723 look at the queue", "10m")
    new = approve(stage, told, asked)
    told.check(
        "works_again", _listed(_call(stage, _signed_in(stage))), "ana signs in anew, and may act"
    )
    dead = _call(stage, old)
    told.check("old_keys_dead", "AccessDenied" in dead.err, "the keys of the first grant stay dead")
    stage.tidegate("ana", "done", new["id"])
    state = stage.wait_for("ana", new["id"], "gone")
    told.check("done_gone", state["state"] == "gone", f"ana is done: {state['says']}")
    pack_checks(stage, told, grant["id"], "broken", b"INC-4721")


def nobody_left(stage: CenterStage, told: Telling) -> None:
    """SIGKILL with an assignment open: the cloud removes it by a schedule made beforehand."""
    told.act("5. With a schedule in the cloud, and every Tidegate process killed")
    asked = request(stage, told, "ana", f"{SCHEDULED}/admin", "INC-4724 correct a bill", WINDOW)
    told.tell(f"shown with it, as a schedule is kept for {SCHEDULED}: {_exposure(asked)}")
    grant = approve(stage, told, asked)
    keys = _signed_in(stage, SCHEDULED)
    stage.stop_server(signal.SIGKILL)
    told.check(
        "works_while_dead",
        _listed(_call(stage, keys)) and not stage.answers(),
        f"{stage.every_server} got SIGKILL; ana goes on, inside her window",
    )
    told.tell(f"the window ends at {grant['ends_at']}; nobody of ours is alive …")
    _until(lambda: stage.cloud.assigned("ana", SCHEDULED), lambda there: not there)
    late = _now() - _end(grant)
    by_schedule = stage.cloud.calls("schedule:DeleteAccountAssignment")
    told.check(
        "removed_by_schedule",
        0 <= late <= LATE_SECONDS and by_schedule >= 1 and not stage.answers(),
        f"{late:.0f} s after the end the cloud's own schedule has removed the assignment",
    )
    told.check(
        "no_session_while_dead",
        stage.sign_in("ana", SCHEDULED) is None,
        "the portal gives ana nothing more; what she took before may act for its hour: as shown",
    )
    stage.start_server()
    told.tell("started again …")
    state = stage.wait_for("ana", grant["id"], "gone")
    cut = _call(stage, keys)
    told.check(
        "restart_cuts",
        state["state"] == "gone" and "AccessDenied" in cut.err,
        f"that session is cut too, and only then: {state['says']}",
    )


def one_left(stage: CenterStage, told: Telling) -> None:
    """SIGKILL for one of two servers with an assignment open: the other removes it and cuts."""
    told.act("6. Two servers on one database, and one of them killed with an assignment open")
    asked = request(stage, told, "ana", f"{TARGET}/admin", "INC-4725 empty the queue", WINDOW)
    grant = approve(stage, told, asked)
    keys = _signed_in(stage)
    one_killed(stage, told)
    told.check("works_with_one", _listed(_call(stage, keys)), "ana goes on, inside her window")
    state = stage.wait_for("ana", grant["id"], "gone")
    cut = _call(stage, keys)
    told.check(
        "other_closes",
        state["state"] == "gone"
        and "AccessDenied" in cut.err
        and stage.sign_in("ana", TARGET) is None,
        f"the other removes the assignment and cuts her session: {state['says']}",
    )
    pack_checks(stage, told, grant["id"], "by_the_other", b"INC-4725")


def _exposure(asked: Plain) -> str:
    return str(asked["items"][0]["exposure"])


def _signed_in(stage: CenterStage, target: str = TARGET) -> Keys:
    """ana's keys from the portal. Raises WorldFailed when it gives none."""
    keys = stage.sign_in("ana", target)
    if keys is None:
        raise WorldFailed("demo_portal", "expected keys from the portal, got a refusal", "")
    return keys


def _call(stage: CenterStage, keys: Keys) -> Told:
    return stage.aws("ana", keys.environment(), *CALL[1:])


def _listed(told: Told) -> bool:
    return told.code == 0 and SHOWN in told.out


def _try_here(stage: CenterStage, grant: str, keys: Keys) -> Told:
    """ana's own trial on her machine, always by the same words: only then one explains another."""
    return stage.tidegate("ana", "verify", "--here", grant, "--", *CALL, **keys.environment())


def _names(faults: list[Plain], action: str) -> bool:
    return any(f"`{action}`" in one["says"] for one in faults)


def _until(ask: Callable[[], Found], enough: Callable[[Found], bool]) -> Found:
    """What `ask` answers once it is enough; its last answer when patience ends."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        found = ask()
        if enough(found) or time.monotonic() > until:
            return found
        time.sleep(0.1)


def _end(grant: Plain) -> float:
    return parse_instant(grant["ends_at"]).timestamp()


def _now() -> float:
    return datetime.now(UTC).timestamp()


def _sleep_until(at: float) -> None:
    time.sleep(max(0.0, at - _now()))
