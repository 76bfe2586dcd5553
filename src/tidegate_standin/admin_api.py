"""The admin API under `/_standin/`: how tests and the demo set the scene and look behind it.

Unsigned and unlimited: the server binds the loopback interface only. JSON both ways:

- GET `health`, `ids`, `state`, `calls`, `faults`, `dead-letters`
- POST `seed` (merge), `options`, `assignments` (`add`, `remove`: what another system does),
  `clock` (`ahead` or `by`, in seconds), `faults`, `reset`
- DELETE `faults` (all, or one by `id`), `calls`
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tidegate_standin.clock import iso
from tidegate_standin.cloud import NEVER, Cloud, Json, new_cloud
from tidegate_standin.dispatch import Desk
from tidegate_standin.errors import BadAdminRequest
from tidegate_standin.seeding import ids, seed, set_options

PREFIX = "/_standin/"


def _health(desk: Desk, asked: Json) -> Json:
    clock = desk.cloud.clock
    return {"ok": True, "now": iso(clock.now()), "ahead": clock.ahead}


def _clock(desk: Desk, asked: Json) -> Json:
    clock = desk.cloud.clock
    try:
        clock.move_to(
            float(asked["ahead"]) if "ahead" in asked else clock.ahead + float(asked["by"])
        )
    except (KeyError, ValueError) as error:
        raise BadAdminRequest(f"expected `ahead` or `by` in seconds, forward: {error}") from error
    desk.pass_time()
    return _health(desk, asked)


def _reset(desk: Desk, asked: Json) -> Json:
    before = desk.cloud
    clock = before.clock
    clock.restart()
    desk.faults.clear()
    first = [a for a in asked.get("accounts", before.accounts) if a != before.management]
    desk.cloud = new_cloud(clock, first, before.management)
    return _health(desk, asked)


def _add_fault(desk: Desk, asked: Json) -> Json:
    return {"id": desk.faults.add(asked, desk.cloud.clock.now())}


def _clear_faults(desk: Desk, asked: Json) -> Json:
    desk.faults.clear(asked.get("id"))
    return {"faults": desk.faults.listed()}


def _options(desk: Desk, asked: Json) -> Json:
    set_options(desk.cloud, asked)
    desk.pass_time()
    return {"ok": True}


def _calls(desk: Desk, asked: Json) -> Json:
    return {"calls": dict(desk.cloud.calls), "refused": dict(desk.cloud.refused)}


def _clear_calls(desk: Desk, asked: Json) -> Json:
    desk.cloud.calls.clear()
    desk.cloud.refused.clear()
    return {"calls": {}, "refused": {}}


def _instant(at: float) -> str | None:
    return None if at == NEVER else iso(at)


def _under_way(cloud: Cloud) -> Json:
    return {
        "requests": [
            {
                "id": j.job_id,
                "kind": j.kind,
                "status": j.status,
                "reason": j.reason,
                "key": list(j.key),
            }
            for j in cloud.jobs.values()
        ],
        "sessions": [
            {
                "access_key_id": s.access_key_id,
                "arn": s.arn,
                "user_id": s.user_id,
                "issued_at": iso(s.issued_at),
                "expires_at": iso(s.expires_at),
                "came_from": s.came_from,
            }
            for s in cloud.sessions.values()
        ],
        "schedules": [
            {
                "arn": s.arn,
                "group": s.group,
                "name": s.name,
                "expression": s.request["ScheduleExpression"],
                "next_at": _instant(s.next_at),
                "fired": [iso(at) for at in s.fired],
                "input": s.request["Target"].get("Input", ""),
            }
            for s in cloud.schedules.values()
        ],
    }


def state(cloud: Cloud, faults: list[Json]) -> Json:
    """Everything a test may want to see, by AWS's ids."""
    names = {
        **{u.user_id: u.user_name for u in cloud.users.values()},
        **{g.group_id: g.name for g in cloud.groups.values()},
    }
    return {
        **ids(cloud),
        "now": iso(cloud.clock.now()),
        "ahead": cloud.clock.ahead,
        "assignments": [
            {
                "permission_set_arn": set_arn,
                "permission_set": cloud.sets[set_arn].name if set_arn in cloud.sets else "",
                "account": account,
                "principal_type": kind,
                "principal_id": principal_id,
                "principal": names.get(principal_id, ""),
                "since": iso(since),
            }
            for (set_arn, account, kind, principal_id), since in sorted(cloud.assignments.items())
        ],
        "inline_policies": {s.name: s.inline for s in cloud.sets.values()},
        "provisioned": [
            {
                "permission_set_arn": set_arn,
                "account": account,
                "version": copy.version,
                "latest": set_arn in cloud.sets and copy.version == cloud.sets[set_arn].version,
                "inline_policy": copy.inline,
            }
            for (set_arn, account), copy in sorted(cloud.provisioned.items())
        ],
        **_under_way(cloud),
        "policies": [
            {"id": p.policy_id, "name": p.name, "targets": list(p.targets), "content": p.content}
            for p in cloud.policies.values()
        ],
        "dead_letters": list(cloud.dead_letters),
        "faults": faults,
    }


def _assignments(desk: Desk, asked: Json) -> Json:
    """Add or take away assignments at once, as another system would: `add`, `remove`."""
    cloud = desk.cloud
    seed(cloud, {"assignments": asked.get("add", [])})
    for one in asked.get("remove", []):
        before = set(cloud.assignments)
        trial = new_keys(cloud, one)
        for key in trial & before:
            cloud.unassign(key, cloud.clock.now())
    return {"assignments": state(cloud, [])["assignments"]}


def new_keys(cloud: Cloud, one: Json) -> set[Any]:
    """The keys of standing assignments that an entry names by set, account, and user or group."""
    names = {
        **{u.user_name: u.user_id for u in cloud.users.values()},
        **{g.name: g.group_id for g in cloud.groups.values()},
    }
    sets = {s.name: s.arn for s in cloud.sets.values()}
    set_arn = sets.get(one["permission_set"], one["permission_set"])
    who = one.get("user") or one.get("group", "")
    return {
        k
        for k in cloud.assignments
        if k[0] == set_arn and k[1] == one["account"] and k[3] == names.get(who, who)
    }


_ROUTES: dict[tuple[str, str], Callable[[Desk, Json], Json]] = {
    ("GET", "health"): _health,
    ("GET", "ids"): lambda desk, asked: ids(desk.cloud),
    ("GET", "state"): lambda desk, asked: state(desk.cloud, desk.faults.listed()),
    ("GET", "calls"): _calls,
    ("DELETE", "calls"): _clear_calls,
    ("GET", "dead-letters"): lambda desk, asked: {"dead_letters": list(desk.cloud.dead_letters)},
    ("GET", "faults"): lambda desk, asked: {"faults": desk.faults.listed()},
    ("POST", "faults"): _add_fault,
    ("DELETE", "faults"): _clear_faults,
    ("POST", "seed"): lambda desk, asked: seed(desk.cloud, asked),
    ("POST", "assignments"): _assignments,
    ("POST", "options"): _options,
    ("POST", "clock"): _clock,
    ("POST", "reset"): _reset,
}


def administer(desk: Desk, method: str, path: str, asked: Json) -> Json:
    """Answer one call of the admin API. Raises BadAdminRequest."""
    route = _ROUTES.get((method, path.removeprefix(PREFIX)))
    if route is None:
        known = sorted(f"{m} {PREFIX}{p}" for m, p in _ROUTES)
        raise BadAdminRequest(f"expected one of {', '.join(known)}, got {method} {path}")
    desk.pass_time()
    return route(desk, asked)
