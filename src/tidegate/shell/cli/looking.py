"""paths: every way somebody has access to a target now."""

import click

from tidegate.shell.cli.command import Desk, tool
from tidegate.shell.cli.exits import Exit

PIPE_WIDTH = 100  # cells of an answer that goes to a file


@tool(
    "paths",
    ("tidegate paths ana aws-prod", "why ana can still get in: each way, its evidence, its fix"),
    ("tidegate paths ASIA… aws-prod", "by an access key id, an e-mail, a grant or request id"),
    (
        "tidegate paths arn:aws:sts::…:assumed-role/…/ana aws-prod --json",
        "exits 1 when there is a way that no running grant explains, 4 when not all was looked at",
    ),
)
@click.argument("person", metavar="PERSON")
@click.argument("target", metavar="TARGET")
def paths(desk: Desk, person: str, target: str) -> Exit:
    """List every way PERSON has access to TARGET now, why, and the smallest fix."""
    from tidegate.diagnose.paths_told import render_text

    server = desk.server()
    answer = server.get("api", "paths", query={"person": person, "target": target})
    drawn = render_text(answer.plain, desk.width() or PIPE_WIDTH)
    desk.answer(answer.plain, drawn.rstrip("\n").split("\n"))
    if not answer.flag("sound"):
        return Exit.WORLD_FAILED
    return Exit.OK if answer.flag("complete") else Exit.NOT_YET
