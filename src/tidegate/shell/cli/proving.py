"""trace, verify, doctor: what happened, what is proven, what is not well."""

import click

from tidegate.shell.cli.command import Desk, tool
from tidegate.shell.cli.exits import Exit
from tidegate.shell.cli.printing import fields
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
    desk.answer(answer.plain, _lines(drawn))
    look_quietly(desk, server)


@tool(
    "verify",
    ("tidegate verify gr_01j…", "looks into the cloud now: is it closed, or open as granted"),
    ("tidegate verify gr_01j… || echo no", "1 not as sealed, 4 not proven yet, 5 evidence broken"),
)
@click.argument("id", metavar="ID")
def verify(desk: Desk, id: str) -> Exit:
    """Hold what the evidence claims of a grant against the cloud as it is now."""
    answer = desk.server().post("api", "verify", id)
    claims, seen = answer.part("claims"), answer.part("seen_now")
    lines = [
        f"{answer.need('grant')}  {answer.need('says')}",
        *fields(
            [
                ("claimed", claims.text("state")),
                ("proof sealed", claims.text("proof")),
                ("proof now", answer.text("level")),
                ("known by", answer.text("how").replace("_", " ")),
                ("tried", seen.text("call")),
                ("evidence gap", claims.text("gap")),
            ]
        ),
    ]
    if help := answer.text("help"):
        lines.append(f"next: {help}")
    desk.answer(answer.plain, lines)
    if claims.text("gap"):
        return Exit.EVIDENCE_BROKEN
    if answer.flag("ok"):
        return Exit.OK
    # Not closed although the evidence says so is no matter of waiting.
    wrong = answer.text("verdict") == "not_closed" and not answer.flag("agrees")
    return Exit.WORLD_FAILED if wrong else Exit.NOT_YET


@tool(
    "doctor",
    ("tidegate doctor", "database, evidence, worker, rules, and every target's reach and clock"),
    ("tidegate doctor --json", "for monitoring: exits 1 when something is wrong"),
)
def doctor(desk: Desk) -> Exit:
    """What is not well with the installation, and what to do. For operators and auditors."""
    from tidegate.diagnose.check import parse_diagnosis, render_text

    answer = desk.server().get("api", "doctor")
    diagnosis = parse_diagnosis(answer.plain)
    desk.answer(answer.plain, _lines(render_text(diagnosis, desk.width() or PIPE_WIDTH)))
    return Exit.OK if diagnosis.ok else Exit.WORLD_FAILED


def _lines(drawn: str) -> list[str]:
    return drawn.rstrip("\n").split("\n")
