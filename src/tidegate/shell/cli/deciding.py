"""approve, deny: a vote on exactly what was shown."""

import click

from tidegate.base.errors import AskedWrongly, Stale
from tidegate.shell.cli.command import Desk, at_terminal, tool
from tidegate.shell.cli.exits import Exit
from tidegate.shell.cli.showing import request_lines

_ID = click.argument("id", metavar="RQ")
_YES = click.option("--yes", is_flag=True, help="Do not ask; vote on what is shown.")
_DIGEST = click.option(
    "--digest", metavar="DIGEST", default="", help="Vote only if this is still the digest."
)
_COMMENT = click.option("--comment", metavar="TEXT", default="", help="Kept with the vote.")


@tool(
    "approve",
    ("tidegate approve rq_01j…", "shows the request, asks, and approves what was shown"),
    ("tidegate approve rq_01j… --yes --digest sha256:9f2c…", "for scripts: only this very request"),
)
@_ID
@_YES
@_DIGEST
@_COMMENT
def approve(desk: Desk, id: str, yes: bool, digest: str, comment: str) -> Exit:
    """Approve a request, exactly as it is shown to you."""
    return _vote(desk, id, "approve", yes=yes, digest=digest, comment=comment)


@tool(
    "deny",
    ('tidegate deny rq_01j… --comment "use the read-only role"', "one deny ends a request"),
    ("tidegate deny rq_01j… --yes", "without the question"),
)
@_ID
@_YES
@_DIGEST
@_COMMENT
def deny(desk: Desk, id: str, yes: bool, digest: str, comment: str) -> Exit:
    """Deny a request; one deny ends it."""
    return _vote(desk, id, "deny", yes=yes, digest=digest, comment=comment)


def _vote(desk: Desk, id: str, choice: str, *, yes: bool, digest: str, comment: str) -> Exit:
    """Show the request, then send back the digest that was shown with the choice.

    Raises:
        AskedWrongly: nobody is here to look at it and `--yes` was not given.
        Stale: the digest is not the pinned one; nothing was sent.
    """
    if not yes and not at_terminal():
        raise AskedWrongly(
            "needs_yes",
            "expected somebody at a terminal to look at the request, got none",
            f"look with `tidegate requests {id} --json`, then pass `--yes --digest DIGEST`",
        )
    server = desk.server()
    shown = server.get("api", "requests", id)
    seen = shown.exact("digest")
    if digest and digest != seen:
        raise Stale(
            "digest_changed",
            f"expected digest `{digest[:80]}`, the request now has `{seen[:80]}`",
            f"it was edited; look again: `tidegate requests {id}`",
        )
    lines = request_lines(shown, lambda text: desk.paint(text, err=True))
    desk.tell(*lines, painted=True)
    if not yes and not click.confirm(f"{choice} exactly this?", default=False, err=True):
        desk.answer({"voted": False, "request": shown.plain}, ["nothing was decided"])
        return Exit.NOT_YET
    body = {"choice": choice, "digest": seen} | ({"comment": comment} if comment else {})
    voted = server.post("api", "requests", shown.exact("id"), "votes", body=body)
    desk.answer(voted.plain, [voted.text("says") or f"{choice}: {voted.text('state')}"])
    return Exit.OK
