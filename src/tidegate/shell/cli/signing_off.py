"""sign-off: answering for an end that cannot be proven, and taking that back."""

import click

from tidegate.shell.cli.command import Desk, tool
from tidegate.shell.cli.showing import grant_lines


@tool(
    "sign-off",
    (
        'tidegate sign-off gr_01j… --reason "account closed on 3 May, see INC-4711"',
        "nobody tries that end any more, and you answer for it",
    ),
    (
        'tidegate sign-off gr_01j… --undo --reason "still there"',
        "it is tried again until it is known",
    ),
    ('tidegate sign-off gr_01j… --reason "account closed" --json', "for scripts"),
)
@click.argument("grant", metavar="GRANT")
@click.option("--reason", metavar="TEXT", required=True, help="Why, sealed with your name.")
@click.option("--undo", is_flag=True, help="Take a sign-off back.")
def sign_off(desk: Desk, grant: str, reason: str, undo: bool) -> None:
    """Answer for an end that cannot be proven.

    For operators, never for the holder. It is not called gone, and no proof is claimed; nothing
    tries it any more, and it no longer keeps others from opening.
    """
    deed = "resume" if undo else "sign-off"
    signed = desk.server().post("api", "grants", grant, deed, body={"reason": reason})
    desk.answer(signed.plain, grant_lines(signed, desk.paint))
