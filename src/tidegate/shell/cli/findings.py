"""findings list, show, assign, close: what should not be, who works on it, and its sign-off."""

import click

from tidegate.base.errors import AskedWrongly
from tidegate.base.when import parse_duration, whole_seconds
from tidegate.shell.cli.answer import Answer
from tidegate.shell.cli.command import Desk, Room, tool
from tidegate.shell.cli.printing import Saving, fields, moment, shortest, table
from tidegate.shell.cli.showing import Paint, person

STATES = ("open", "assigned", "closed")
KINDS = (
    "leftover",
    "readded",
    "standing",
    "held_still",
    "gone_early",
    "deadline",
    "role_changed",
    "deny_removed",
    "late",
    "side_door",
)
_FINDING = click.argument("id", metavar="FINDING")
_SAVINGS: tuple[Saving, ...] = (("TIMES", None), ("OWNER", shortest), ("STATE", None))


@tool(
    "list",
    ("tidegate findings list", "what is not closed, newest first"),
    ("tidegate findings list --target aws-prod --kind side_door", "only these"),
    ("tidegate findings list --closed --json", "closed ones as well, for a script"),
)
@click.option("--target", metavar="TARGET", default=None, help="Only on this target.")
@click.option("--kind", type=click.Choice(KINDS), default=None, help="Only of this kind.")
@click.option("--state", type=click.Choice(STATES), default=None, help="Only in this state.")
@click.option("--grant", metavar="GRANT", default=None, help="Only of this grant.")
@click.option("--closed", is_flag=True, help="Closed ones as well.")
@click.option("--before", metavar="FINDING", default=None, help="Those opened before this one.")
def listing(
    desk: Desk,
    target: str | None,
    kind: str | None,
    state: str | None,
    grant: str | None,
    closed: bool,
    before: str | None,
) -> None:
    """List the findings you may see."""
    if closed and state not in (None, "closed"):
        raise AskedWrongly(
            "two_states",
            f"expected `--closed` or `--state {state}`, got both",
            f"`--state {state}` alone shows only those",
        )
    asked = {
        "target": target,
        "kind": kind,
        "state": state or ("all" if closed else None),
        "grant": grant,
        "before": before,
    }
    answer = desk.server().get("api", "findings", query=asked)
    found = answer.parts("findings")
    rows = [_row(finding) for finding in found]
    heads = ("FINDING", "SEVERITY", "KIND", "STATE", "OWNER", "TIMES", "SAYS")
    narrowed = any((target, kind, state, grant, before))
    empty = "no findings you may see"
    if not (closed or state):
        empty = "no open findings you may see; `--closed` shows closed ones"
    if narrowed:
        empty = "no finding fits; leave an option out to see more"
    desk.answer(answer.plain, table(heads, rows, desk.width(), _SAVINGS) if rows else [empty])
    if after := answer.text("next_before"):
        desk.tell(f"there may be more: the same with --before {after}")
    elif rows:
        desk.tell("see one with its remedy: tidegate findings show FINDING")


@tool(
    "show",
    ("tidegate findings show fi_01j…", "what it is, what mends it, and its history"),
)
@_FINDING
def show(desk: Desk, id: str) -> None:
    """Show one finding: what it is, the command that mends it, its history."""
    answer = desk.server().get("api", "findings", id)
    finding = answer.part("finding")
    lines = _lines(finding, desk.paint)
    for step in answer.some("history"):
        who = f" by {person(step, 'by')}" if step.part("by").plain else ""
        why = f' "{step.text("reason")}"' if step.text("reason") else ""
        name = step.text("name").partition(".")[2]
        lines.append(f"  {moment(step.text('at'))}  {name}{who}: {step.text('says')}{why}")
    desk.answer(answer.plain, [*lines, f"next: {finding.text('next')}"])


@tool(
    "assign",
    ("tidegate findings assign fi_01j… bo", "bo works on it from now on"),
    ("tidegate findings assign fi_01j… group:cloud-team", "hand it to a group"),
)
@_FINDING
@click.argument("to", metavar="WHO")
def assign(desk: Desk, id: str, to: str) -> None:
    """Hand a finding to a person (login) or a group (`group:NAME`)."""
    answer = desk.server().post("api", "findings", id, "assign", body={"to": to})
    desk.answer(answer.plain, [f"{answer.need('id')}: {answer.text('assigned_name')} works on it"])


@tool(
    "close",
    ('tidegate findings close fi_01j… --reason "key deleted"', "mended; seen again, it opens"),
    (
        'tidegate findings close fi_01j… --reason "break-glass, CHG-12" --accept-for 30d',
        "signed off for thirty days though it stands; then it opens again",
    ),
)
@_FINDING
@click.option("--reason", metavar="TEXT", required=True, help="Kept with the sign-off.")
@click.option(
    "--accept-for", "length", metavar="DURATION", default="", help="Accept it that long: `30d`."
)
def close(desk: Desk, id: str, reason: str, length: str) -> None:
    """Sign a finding off: as mended, or accepted for a while. For owners and operators."""
    body: dict[str, object] = {"reason": reason}
    if length:
        body["accept_seconds"] = whole_seconds(parse_duration(length))
    answer = desk.server().post("api", "findings", id, "close", body=body)
    until = moment(answer.text("accepted_until"))
    said = f"accepted until {until}" if until else "closed; it opens again when it is seen again"
    desk.answer(answer.plain, [f"{answer.need('id')}: {said}"])


@tool(
    "baseline",
    ('tidegate findings baseline aws-prod --reason "CHG-7: reviewed"', "only changes from now on"),
)
@click.argument("target", metavar="TARGET")
@click.option("--reason", metavar="TEXT", required=True, help="Kept with the baseline.")
def baseline(desk: Desk, target: str, reason: str) -> None:
    """Call all access that stands on a target now known; only changes are findings after it."""
    body = {"reason": reason}
    answer = desk.server().post("api", "targets", target, "baseline", body=body)
    lines = [f"{one.text('role')}: {one.text('count')} known" for one in answer.some("roles")]
    desk.answer(answer.plain, lines or [f"{target} has no roles to look at"])


def make_room() -> Room:
    """`tidegate findings`."""
    room = Room(
        "findings",
        "What should not be: see it, hand it on, sign it off.",
        ("tidegate findings list", "what is not closed"),
        ("tidegate findings show fi_01j…", "one, with the command that mends it"),
    )
    for command in (listing, show, assign, close, baseline):
        room.add_command(command)
    return room


def _row(finding: Answer) -> tuple[str, ...]:
    return (
        finding.need("id"),
        finding.text("severity"),
        finding.text("kind"),
        finding.text("state"),
        finding.text("assigned_name") or finding.text("owner") or "-",
        finding.text("times"),
        finding.text("says"),
    )


def _lines(finding: Answer, paint: Paint) -> list[str]:
    head = f"{finding.need('id')}  {paint(finding.text('state'))}  {finding.text('says')}"
    closed = f"{finding.text('closed_how')} {moment(finding.text('closed_at'))}".strip()
    who = person(finding, "principal") if finding.part("principal").plain else ""
    signed = person(finding, "closed_by") if finding.part("closed_by").plain else ""
    return [
        head,
        *fields(
            [
                ("kind", f"{finding.text('kind')} ({finding.text('severity')})"),
                ("what", f"{finding.text('sort')} {finding.text('what')}".strip()),
                ("target", finding.text("target")),
                ("role", finding.text("role")),
                ("who", who),
                ("grant", finding.text("grant")),
                ("done by", finding.text("by")),
                ("owner", finding.text("owner")),
                ("works on it", finding.text("assigned_name")),
                ("first seen", moment(finding.text("first_seen_at"))),
                ("last seen", moment(finding.text("last_seen_at"))),
                ("times", finding.text("times")),
                ("closed", closed),
                ("signed by", signed),
                ("reason", finding.text("reason")),
                ("accepted until", moment(finding.text("accepted_until"))),
                ("remedy", finding.text("remedy")),
            ]
        ),
    ]
