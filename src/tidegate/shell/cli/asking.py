"""targets, request, requests, withdraw: asking, and seeing what was asked."""

from typing import Any

import click

from tidegate.base.errors import AskedWrongly, NotAllowed
from tidegate.base.when import parse_duration, parse_instant, whole_seconds, wire
from tidegate.shell.cli.answer import Answer
from tidegate.shell.cli.client import Server
from tidegate.shell.cli.command import Desk, tool
from tidegate.shell.cli.exits import Exit
from tidegate.shell.cli.printing import Saving, shortest, table
from tidegate.shell.cli.showing import (
    preview_lines,
    request_lines,
    request_row,
    target_rows,
)
from tidegate.shell.cli.waiting import wait_for_access

REQUEST_STATES = ("pending", "approved", "denied", "refused", "withdrawn", "lapsed")
MOST_LISTED = 200  # the server's own bound
NOT_GIVEN = frozenset({"denied", "refused", "withdrawn", "lapsed"})

# What a narrow terminal goes without. In one's own list WHO is always oneself.
_MINE: tuple[Saving, ...] = (("REASON", None), ("WHO", None), ("ROLES", shortest), ("FOR", None))
_OTHERS: tuple[Saving, ...] = (
    ("REASON", None),
    ("ROLES", shortest),
    ("FOR", None),
    ("WHO", shortest),
)
# What to do after a refusal whose own words do not say it.
_AFTER = {
    "too_long": "ask for no longer than that",
    "forbidden": "ask who looks after this target",
    "rule_error": "tell who writes the rules: `tidegate check` says what is wrong with them",
}


@tool(
    "targets",
    ("tidegate targets", "what can be asked for, and whether it can be closed again"),
    ("tidegate targets --json | jq -r '.targets[].roles[].id'", "only the names"),
)
def targets(desk: Desk) -> None:
    """What can be asked for: every target with its roles."""
    answer = desk.server().get("api", "targets")
    rows = target_rows(answer.parts("targets"))
    lines = table(("ROLE", "KIND", "EXPOSURE", "WHAT"), rows, desk.width())
    desk.answer(answer.plain, lines if rows else ["no role can be asked for yet"])


@tool(
    "request",
    (
        'tidegate request aws-prod/admin --for 45m --reason "roll back the gateway" '
        "--ticket INC-4711",
        "asks, and returns at once",
    ),
    (
        'tidegate request aws-prod/admin --for 45m --reason "roll back" --wait --timeout 30m',
        "stays until access is open, or exits 4 after half an hour",
    ),
    (
        'tidegate request aws-prod/admin --for 8h --reason "try" --preview',
        "what the rules would say; nothing is filed",
    ),
    ("tidegate request --edit rq_01j… --for 30m", "changes a pending request; votes start anew"),
)
@click.argument("roles", nargs=-1, metavar="ROLE...")
@click.option("--for", "length", metavar="DURATION", default="", help="How long: `45m`, `1h30m`.")
@click.option("--reason", metavar="TEXT", default="", help="Why, for approvers and evidence.")
@click.option("--ticket", metavar="KEY", default="", help="A ticket like INC-4711.")
@click.option("--start", metavar="INSTANT", default="", help="Open then: `2026-11-22T07:03:36Z`.")
@click.option("--emergency", is_flag=True, help="Ask under the rules for emergencies.")
@click.option("--again", is_flag=True, help="On purpose, though the role is held already.")
@click.option("--wait", is_flag=True, help="Stay until access is open or certainly is not.")
@click.option("--timeout", metavar="DURATION", default="", help="With --wait: at most this long.")
@click.option("--preview", is_flag=True, help="Only tell what the rules would say.")
@click.option("--edit", metavar="RQ", default="", help="Change this pending request.")
def request(desk: Desk, edit: str, wait: bool, timeout: str, preview: bool, **asked: Any) -> Exit:
    """Ask for access to one or more roles, for a reason and a while."""
    patience = parse_duration(timeout) if timeout else None
    if timeout and not wait:
        raise AskedWrongly("timeout_alone", "expected `--wait` with `--timeout`", "add `--wait`")
    server = desk.server()
    body = _edited(server, edit, asked) if edit else _body(asked)
    if preview:
        return _previewed(desk, server.post("api", "requests", "preview", body=body))
    if edit:
        filed = server.put("api", "requests", edit, body=body)
    else:
        filed = server.post("api", "requests", body=body)
    if wait and filed.text("state") not in NOT_GIVEN:
        return wait_for_access(desk, server, filed, patience)
    desk.answer(filed.plain, request_lines(filed, desk.paint))
    if filed.text("state") == "refused":
        desk.complain(_refusal(filed))
    return Exit.NOT_ALLOWED if filed.text("state") in NOT_GIVEN else Exit.OK


@tool(
    "requests",
    ("tidegate requests", "yours"),
    ("tidegate requests --waiting", "those that wait for your vote"),
    ("tidegate requests rq_01j…", "everything about one"),
    ("tidegate requests --all --state denied --limit 5", "for auditors"),
)
@click.argument("id", default="", metavar="[RQ]")
@click.option("--waiting", is_flag=True, help="Those that wait for your vote.")
@click.option("--all", "every", is_flag=True, help="Everybody's that you may see.")
@click.option("--state", type=click.Choice(REQUEST_STATES), default=None, help="Only these.")
@click.option(
    "--limit", type=click.IntRange(1, MOST_LISTED), default=None, help="At most this many."
)
@click.option("--before", metavar="RQ", default=None, help="Those filed before this one.")
def requests(
    desk: Desk, id: str, waiting: bool, every: bool, state: str | None, limit: int | None,
    before: str | None,
) -> None:  # fmt: skip
    """List requests: yours, those that wait for you, or all; or show one."""
    server = desk.server()
    if id:
        found = server.get("api", "requests", id)
        desk.answer(found.plain, request_lines(found, desk.paint))
        return
    if waiting and every:
        raise AskedWrongly("two_views", "expected `--waiting` or `--all`, got both", "choose one")
    view = "waiting" if waiting else "all" if every else "mine"
    asked = {"view": view, "state": state, "limit": limit, "before": before}
    answer = server.get("api", "requests", query=asked)
    rows = [request_row(item) for item in answer.parts("requests")]
    empty = {
        "mine": "you have no requests; ask with `tidegate request`",
        "waiting": "no requests wait for you",
        "all": "no requests to see",
    }
    heads = ("REQUEST", "STATE", "WHO", "ROLES", "FOR", "REASON")
    lines = table(heads, rows, desk.width(), _MINE if view == "mine" else _OTHERS)
    desk.answer(answer.plain, lines if rows else [empty[view]])
    if after := answer.text("next_before"):
        desk.tell(f"there may be more: the same with --before {after}")


@tool("withdraw", ("tidegate withdraw rq_01j…", "takes back a request that is still pending"))
@click.argument("id", metavar="RQ")
def withdraw(desk: Desk, id: str) -> None:
    """Take back your own pending request."""
    answer = desk.server().post("api", "requests", id, "withdraw")
    desk.answer(answer.plain, request_lines(answer, desk.paint))


def _body(asked: dict[str, Any]) -> dict[str, Any]:
    """The body of a new request. Raises AskedWrongly for what is missing."""
    if not asked["roles"]:
        raise AskedWrongly(
            "no_role", "expected at least one role like `aws-prod/admin`", "see `tidegate targets`"
        )
    if not asked["length"]:
        raise AskedWrongly(
            "no_duration", "expected `--for DURATION`", "say how long you need it: `--for 45m`"
        )
    if not asked["reason"]:
        raise AskedWrongly(
            "no_reason", "expected `--reason TEXT`", "say why: approvers and evidence need it"
        )
    body: dict[str, Any] = {
        "roles": list(asked["roles"]),
        "duration_seconds": whole_seconds(parse_duration(asked["length"])),
        "reason": asked["reason"],
        "emergency": asked["emergency"],
    }
    if asked["again"]:
        body["again"] = True
    if asked["ticket"]:
        body["ticket"] = asked["ticket"]
    if asked["start"]:
        body["start"] = wire(parse_instant(asked["start"]))
    return body


def _edited(server: Server, id: str, asked: dict[str, Any]) -> dict[str, Any]:
    """The body of a changed request: what is not said stays as it is."""
    before = server.get("api", "requests", id)
    body: dict[str, Any] = {
        "roles": list(asked["roles"]) or [item.exact("role") for item in before.parts("items")],
        "duration_seconds": before.number("duration_seconds"),
        "reason": asked["reason"] or before.exact("reason"),
        "emergency": asked["emergency"] or before.flag("emergency"),
    }
    if asked["length"]:
        body["duration_seconds"] = whole_seconds(parse_duration(asked["length"]))
    if ticket := asked["ticket"] or before.plain.get("ticket"):
        body["ticket"] = ticket
    if asked["start"]:
        body["start"] = wire(parse_instant(asked["start"]))
    elif start := before.plain.get("start"):
        body["start"] = start
    if extends := before.plain.get("extends"):
        body |= {"extends": extends, "roles": [], "emergency": False}
    elif asked["again"]:
        body["again"] = True
    return body


def _refusal(filed: Answer) -> NotAllowed:
    """The refusal by the rules of a request that was filed, as an error."""
    code = filed.text("code") or "refused"
    what, to_do = filed.text("why") or filed.text("says"), ""
    if code in ("no_rule", "already_held"):
        what, _, to_do = what.partition("; ")
    to_do = to_do or _AFTER.get(code, f"see `tidegate trace {filed.text('id')}`")
    return NotAllowed(code, what, to_do)


def _previewed(desk: Desk, answer: Answer) -> Exit:
    desk.answer(answer.plain, preview_lines(answer, desk.paint))
    return Exit.OK if answer.flag("allowed") else Exit.NOT_ALLOWED
