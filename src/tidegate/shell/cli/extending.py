"""extend, and `exec --needs`: more time for an access that is open."""

import time
from datetime import timedelta

import click

from tidegate.base.errors import AskedWrongly, NotAllowed, WorldFailed
from tidegate.base.when import parse_duration, show_duration, whole_seconds
from tidegate.shell.cli.answer import Answer
from tidegate.shell.cli.client import Server
from tidegate.shell.cli.command import Desk, tool
from tidegate.shell.cli.exits import Exit
from tidegate.shell.cli.showing import preview_lines, request_lines
from tidegate.shell.cli.waiting import ENDED, MOST_FAILURES, POLL_SECONDS

MINUTE = timedelta(minutes=1)


@tool(
    "extend",
    (
        'tidegate extend gr_01j… --for 30m --reason "the copy is slow"',
        "asks for a later end of that grant",
    ),
    (
        'tidegate extend gr_01j… --for 30m --reason "the copy is slow" --wait',
        "stays until the end has moved, or certainly will not",
    ),
    (
        'tidegate extend gr_01j… --for 8h --reason "try" --preview',
        "what the rules would say; nothing is filed",
    ),
)
@click.argument("grant", metavar="GRANT")
@click.option("--for", "length", metavar="DURATION", default="", help="How much longer: `30m`.")
@click.option("--reason", metavar="TEXT", default="", help="Why, for approvers and evidence.")
@click.option("--ticket", metavar="KEY", default="", help="A ticket; else the one it has.")
@click.option("--wait", is_flag=True, help="Stay until the end has moved or certainly will not.")
@click.option("--timeout", metavar="DURATION", default="", help="With --wait: at most this long.")
@click.option("--preview", is_flag=True, help="Only tell what the rules would say.")
def extend(
    desk: Desk, grant: str, length: str, reason: str, ticket: str, wait: bool, timeout: str,
    preview: bool,
) -> Exit:  # fmt: skip
    """Ask for a later end of your open grant: a request of its own, with its own votes.

    The rules judge the whole window, from its start to the new end. Running processes go on: keys
    follow by themselves.
    """
    if timeout and not wait:
        raise AskedWrongly("timeout_alone", "expected `--wait` with `--timeout`", "add `--wait`")
    if not length:
        raise AskedWrongly("no_duration", "expected `--for DURATION`", "say how much longer: 30m")
    if not reason:
        raise AskedWrongly(
            "no_reason", "expected `--reason TEXT`", "say why: approvers and evidence need it"
        )
    server = desk.server()
    body = _body(server.get("api", "grants", grant).exact("id"), parse_duration(length), reason)
    if ticket:
        body["ticket"] = ticket
    if preview:
        told = server.post("api", "requests", "preview", body=body)
        desk.answer(told.plain, preview_lines(told, desk.paint))
        return Exit.OK if told.flag("allowed") else Exit.NOT_ALLOWED
    filed = server.post("api", "requests", body=body)
    left = Exit.OK
    if wait and filed.text("state") not in ENDED:
        filed, left = _wait(desk, server, filed, parse_duration(timeout) if timeout else None)
    desk.answer(filed.plain, request_lines(filed, desk.paint))
    if filed.text("state") == "refused":
        desk.complain(_refused(filed))
    return left or (Exit.NOT_ALLOWED if filed.text("state") in ENDED else Exit.OK)


def have_time(
    desk: Desk, grant: str, needs: timedelta, longer: bool, reason: str, ticket: str
) -> None:
    """Refuse to start with less than `needs` left of the window; with `longer`, get it first.

    Raises:
        NotAllowed: too little is left, or the extension was not given.
        AskedWrongly: an extension without a reason.
    """
    server = desk.server()
    found = server.get("api", "grants", grant)
    name, left = found.exact("id"), timedelta(seconds=found.number("remaining_seconds") or 0)
    if left >= needs:
        return
    missing = -(-(needs - left) // MINUTE) * MINUTE
    asking = f"tidegate extend {name} --for {show_duration(missing)} --reason '…'"
    if not longer:
        raise NotAllowed(
            "too_little_left",
            f"expected {show_duration(needs)} left of `{name}`, got {show_duration(left)}",
            f"nothing was started; ask for more: `{asking}`, or add `--extend --reason '…'`",
        )
    if not reason:
        raise AskedWrongly(
            "no_reason", "expected `--reason TEXT` with `--extend`", "say why: approvers need it"
        )
    body = _body(name, missing, reason)
    if ticket:
        body["ticket"] = ticket
    filed = server.post("api", "requests", body=body)
    exit_code = Exit.OK
    if filed.text("state") not in ENDED:
        desk.tell(f"{show_duration(missing)} more are asked for by {filed.text('id')}; waiting")
        filed, exit_code = _wait(desk, server, filed, None)
    if exit_code or not filed.text("applied_at"):
        raise _refused(filed)


def _body(grant: str, longer: timedelta, reason: str) -> dict[str, object]:
    return {"extends": grant, "duration_seconds": whole_seconds(longer), "reason": reason}


def _refused(filed: Answer) -> NotAllowed:
    """Why an extension was not given, as an error."""
    state = filed.text("state")
    said = filed.text("why") or filed.text("says") or f"the extension is {state}"
    return NotAllowed(
        filed.text("code") or state,
        said,
        f"the grant keeps its end; see `tidegate requests {filed.text('id')}`",
    )


def _wait(
    desk: Desk, server: Server, filed: Answer, patience: timedelta | None
) -> tuple[Answer, Exit]:
    """Until the end has moved or certainly will not. Leaving leaves the request filed."""
    until = None if patience is None else time.monotonic() + patience.total_seconds()
    name, said, failures = filed.exact("id"), "", 0
    try:
        while True:
            if filed.text("says") != said:
                said = filed.text("says")
                desk.tell(said)
            if filed.text("state") in ENDED or filed.text("applied_at"):
                return filed, Exit.OK
            if until is not None and time.monotonic() >= until:
                desk.tell(f"{name} stays filed; look with `tidegate requests {name}`")
                return filed, Exit.NOT_YET
            desk.local.pause(POLL_SECONDS)
            try:
                filed, failures = server.get("api", "requests", name), 0
            except WorldFailed:
                failures += 1
                if failures >= MOST_FAILURES:
                    raise
    except KeyboardInterrupt:
        desk.tell(f"{name} stays filed; take it back with `tidegate withdraw {name}`")
        return filed, Exit.INTERRUPTED
