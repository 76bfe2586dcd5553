"""trace, verify, doctor: what happened, what is proven, what is not well."""

import click

from tidegate.shell.cli.answer import Answer
from tidegate.shell.cli.command import Desk, tool
from tidegate.shell.cli.exits import Exit
from tidegate.shell.cli.remembering import look_quietly

PIPE_WIDTH = 100  # cells of a trace that goes to a file: one stage below another, as mails are wide


@tool(
    "trace",
    ("tidegate trace gr_01j…", "the five stages of one grant, and where its evidence stops"),
    ("tidegate trace rq_01j… --json | jq -r .next_step", "the next safe step of a request"),
)
@click.argument("id", metavar="ID")
def trace(desk: Desk, id: str) -> None:
    """Walk the five stages of a request or grant: who, when, which rule, which proof."""
    from tidegate.diagnose.drawing import render_text
    from tidegate.diagnose.walk import parse_trace

    server = desk.server()
    answer = server.get("api", "trace", id)
    drawn = render_text(parse_trace(answer.plain), desk.width() or PIPE_WIDTH)
    desk.answer(answer.plain, drawn.rstrip("\n").split("\n"))
    look_quietly(desk, server)


@tool(
    "verify",
    ("tidegate verify gr_01j…", "whether it is proven that this access ended"),
    ("tidegate verify gr_01j… || echo not yet", "exit codes: 4 not proven, 5 evidence broken"),
)
@click.argument("id", metavar="ID")
def verify(desk: Desk, id: str) -> Exit:
    """Check now what is proven of a grant: its evidence, and that nobody can act."""
    answer = desk.server().post("api", "verify", id)
    lines = [answer.text("says")] if answer.text("says") else []
    desk.answer(answer.plain, [*lines, *_check_lines(desk, answer.parts("checks"))])
    if answer.flag("broken"):
        return Exit.EVIDENCE_BROKEN
    return Exit.OK if answer.flag("ok") else Exit.NOT_YET


@tool(
    "doctor",
    ("tidegate doctor", "database, evidence, worker, rules, and every target's reach and clock"),
    ("tidegate doctor --json", "for monitoring: exits 1 when something is wrong"),
)
def doctor(desk: Desk) -> Exit:
    """What is not well with the installation, and what to do. For operators and auditors."""
    answer = desk.server().get("api", "doctor")
    checks = answer.parts("checks")
    desk.answer(answer.plain, _check_lines(desk, checks) or ["nothing was looked at"])
    return Exit.OK if answer.flag("ok") else Exit.WORLD_FAILED


def _check_lines(desk: Desk, checks: list[Answer]) -> list[str]:
    """Each check in a line, with what to do where it does not hold."""
    return [line for check in checks for line in _check(desk, check)]


def _check(desk: Desk, check: Answer) -> list[str]:
    mark = desk.paint("✓", "green") if check.flag("ok") else desk.paint("✗", "red")
    name = check.text("check") or check.text("name")
    lines = [f"{mark} {name}: {check.text('says')}".rstrip(": ")]
    return [*lines, *([f"  next: {check.text('help')}"] if check.text("help") else [])]
