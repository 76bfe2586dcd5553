"""trace, verify, doctor: what happened, what is proven, what is not well."""

from datetime import timedelta

import click

from tidegate.base.errors import AskedWrongly
from tidegate.base.when import parse_duration, show_duration, wire
from tidegate.shell.cli.answer import Answer
from tidegate.shell.cli.command import Desk, Tool, at_terminal, tool
from tidegate.shell.cli.exits import Exit
from tidegate.shell.cli.printing import fields
from tidegate.shell.cli.remembering import look_quietly

PIPE_WIDTH = 100  # cells of a trace that goes to a file: one stage below another, as mails are wide
# The server takes a trial for as long as ten minutes after it began.
LONGEST_TRIAL = timedelta(minutes=5)
_OWN = {"--here": False, "--json": False, "--no-call": False, "--timeout": True}  # takes a value


class HereTool(Tool):
    """`verify`: with --here, everything from the command on is the command's own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read `--here [OPTIONS] GRANT [OPTIONS] [--] CMD…`; what is not ours begins CMD."""
        own = args[: args.index("--")] if "--" in args else args
        if "--here" in own:
            at, named = 0, 0
            while at < len(own) and (named == 0 or own[at].partition("=")[0] in _OWN):
                name, equals, _ = own[at].partition("=")
                named += not name.startswith("-")
                at += 2 if _OWN.get(name) and not equals else 1
            if args[at : at + 1] != ["--"]:
                args = [*args[:at], "--", *args[at:]]
        return super().parse_args(ctx, args)


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
    (
        "tidegate verify --here gr_01j… -- aws iam list-users --profile prod",
        "runs that with your own keys, and seals what you saw; do it during and after",
    ),
    kind=HereTool,
)
@click.option("--here", is_flag=True, help="Try it yourself: run CMD here with your own keys.")
@click.option("--timeout", metavar="DURATION", default="60s", help="For CMD; 60s, at most 5m.")
@click.option(
    "--no-call", is_flag=True,
    help="Keep CMD out of the evidence. Then no two trials are known to be the same.",
)  # fmt: skip
@click.argument("id", metavar="ID")
@click.argument("command", nargs=-1, metavar="[CMD]...")
def verify(
    desk: Desk, id: str, command: tuple[str, ...], here: bool, timeout: str, no_call: bool
) -> Exit:
    """Hold what the evidence claims of a grant against the cloud as it is now.

    With --here nothing is asked of the server but to seal what you saw: CMD runs on this machine,
    in your own environment. Exits 0 when it was allowed during the grant, or denied before or
    after it.
    """
    if here:
        return _try_here(desk, id, command, timeout, no_call)
    if command:
        raise AskedWrongly(
            "no_here", "expected `--here` with a command, got one without", "add --here"
        )
    answer = desk.server().post("api", "verify", id)
    claims, seen = answer.part("claims"), answer.part("seen_now")
    lines = [
        f"{answer.need('grant')}  {answer.need('says')}",
        *fields(
            [
                ("claimed", claims.text("state")),
                ("level sealed", _level(claims)),
                ("level now", answer.text("level_says")),
                ("called", seen.text("call")),
                ("told", answer.text("tried")),
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


def _level(claims: Answer) -> str:
    level, how = claims.text("level"), claims.text("how")
    return f"{level} ({how})" if level and how else level or "none yet"


def _try_here(desk: Desk, id: str, command: tuple[str, ...], timeout: str, no_call: bool) -> Exit:
    """Run it, show it, and have what was seen sealed."""
    from tidegate.shell.cli.here import run_here, told_call

    patience = parse_duration(timeout)
    if not command:
        raise AskedWrongly(
            "no_command",
            "expected a command to try, got none",
            "as in: tidegate verify --here ID -- aws iam list-users --profile prod",
        )
    if patience > LONGEST_TRIAL:
        raise AskedWrongly(
            "long_timeout",
            f"expected `--timeout` of at most {show_duration(LONGEST_TRIAL)}, got `{timeout[:20]}`",
            "try a call that ends sooner",
        )
    server = desk.server()
    grant = server.get("api", "grants", id).exact("id")
    call = "" if no_call else told_call(command)
    if call and at_terminal():
        asked = f"the evidence keeps this call: {call}\nkeep it there?"
        call = call if click.confirm(asked, default=True, err=True) else ""
    elif call:
        desk.tell(f"the evidence keeps this call: {call}")
    tried_at = desk.local.clock()
    ended = run_here(command, desk.environment, patience, quiet=desk.as_json)
    if ended.code is None:
        desk.tell(f"stopped after {show_duration(patience)}")
    body = {
        "outcome": ended.outcome,
        "exit_code": ended.code,
        "call": call,
        "tried_at": wire(tried_at),
    }
    answer = server.post("api", "grants", grant, "trials", body=body)
    desk.answer(
        {**answer.plain, "exit_code": ended.code},
        [
            f"{answer.need('grant')}  {answer.text('says')}",
            *fields([("may act until", answer.text("residual_until"))]),
        ],
    )
    if answer.flag("as_it_should"):
        return Exit.OK
    desk.tell(f"next: `tidegate verify {grant}`, and `tidegate trace {grant}`")
    return Exit.WORLD_FAILED


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
