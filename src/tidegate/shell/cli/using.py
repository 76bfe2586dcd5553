"""grants, exec, shell, credentials, profiles, done: using access, and giving it back."""

import shlex
from typing import TYPE_CHECKING

import click

from tidegate.base.errors import AskedWrongly, NotAllowed
from tidegate.base.when import parse_duration
from tidegate.shell.cli.answer import Answer
from tidegate.shell.cli.client import Server
from tidegate.shell.cli.command import Desk, Tool, stopped, tool
from tidegate.shell.cli.exits import Exit
from tidegate.shell.cli.extending import have_time
from tidegate.shell.cli.printing import (
    Saving,
    fields,
    moment,
    shortest,
    table,
    time_of_day,
)
from tidegate.shell.cli.showing import grant_lines, grant_row

if TYPE_CHECKING:
    from tidegate.broker.holding import Holding

GRANT_STATES = ("ready", "intended", "open", "closing", "removed", "gone", "failed", "signed_off")
WITH_VALUE = frozenset({"--needs", "--reason", "--ticket"})  # the options of `exec` that take one
TOKEN_BYTES = 32  # of the loopback endpoint's path and token: 256 bits are not guessed
_GRANT = click.argument("grant", metavar="GRANT")

# What a narrow terminal goes without: how much is left says more than when it ends.
_SAVINGS: tuple[Saving, ...] = (
    ("SAYS", None),
    ("ENDS", time_of_day),
    ("ENDS", None),
    ("ROLE", shortest),
    ("LEFT", None),
)


class RunTool(Tool):
    """`exec`: what follows the grant is the command, our own options stand on either side."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read `[--env] GRANT [--env] -- CMD…`. A `--` further on belongs to the command."""
        own = args[: args.index("--")] if "--" in args else []
        named, flags, rest = [], [], list(own)
        while rest:
            word = rest.pop(0)
            if not word.startswith("-"):
                named.append(word)
                continue
            flags.append(word)
            if word in WITH_VALUE and rest:
                flags.append(rest.pop(0))
        if len(named) == 1:
            args = [*flags, *named, *args[len(own) + 1 :]]
        return super().parse_args(ctx, args)


@tool(
    "grants",
    ("tidegate grants", "yours, with what is left of each"),
    ("tidegate grants gr_01j…", "everything about one; a request id does as well"),
    ("tidegate grants --all --state open", "for auditors: everything open now"),
)
@click.argument("id", default="", metavar="[GRANT]")
@click.option("--all", "every", is_flag=True, help="Everybody's that you may see.")
@click.option("--state", type=click.Choice(GRANT_STATES), default=None, help="Only these.")
@click.option("--role", metavar="ROLE", default=None, help="Only of this role.")
@click.option("--before", metavar="GRANT", default=None, help="Those made before this one.")
def grants(
    desk: Desk, id: str, every: bool, state: str | None, role: str | None, before: str | None
) -> None:
    """List grants, or show one."""
    server = desk.server()
    if id:
        found = server.get("api", "grants", id)
        desk.answer(found.plain, grant_lines(found, desk.paint))
        return
    view = "all" if every else "mine"
    asked = {"view": view, "state": state, "role": role, "before": before}
    answer = server.get("api", "grants", query=asked)
    rows = [_row(item) for item in answer.parts("grants")]
    heads = ("GRANT", "STATE", "ROLE", "ENDS", "LEFT", "SAYS")
    lines = table(heads, rows, desk.width(), _SAVINGS)
    empty = "no grants to see" if every else "you have no grants; ask with `tidegate request`"
    soon = [
        f"{item.text('id')} ends soon; more time: tidegate extend {item.text('id')} --for 30m"
        " --reason '…'"
        for item in answer.parts("grants")
        if item.flag("warned") and item.text("state") == "open" and item.number("remaining_seconds")
    ]
    desk.answer(answer.plain, lines if rows else [empty])
    if soon and not every:
        desk.tell(*soon)
    if after := answer.text("next_before"):
        desk.tell(f"there may be more: the same with --before {after}")


@tool(
    "exec",
    ("tidegate exec gr_01j… -- aws s3 ls", "one command with the keys of that grant"),
    ("tidegate exec rq_01j… -- terraform apply", "a request id does, when one grant fits"),
    ("tidegate exec --env gr_01j… -- ./old-tool", "static keys, for tools that know no other way"),
    ("tidegate exec --needs 20m gr_01j… -- ./migrate", "refuses to start with less than that left"),
    (
        'tidegate exec --needs 20m --extend --reason "migration" gr_01j… -- ./migrate',
        "asks for the missing time first, and waits until it is there",
    ),
    kind=RunTool,
    context_settings={"allow_interspersed_args": False},
)
@_GRANT
@click.argument("command", nargs=-1, metavar="-- CMD...", type=click.UNPROCESSED)
@click.option("--env", is_flag=True, help="Static keys in the environment; see below.")
@click.option(
    "--needs", metavar="DURATION", default="", help="Start only with this much time left."
)
@click.option("--extend", "longer", is_flag=True, help="With --needs: ask for what is missing.")
@click.option("--reason", metavar="TEXT", default="", help="With --extend: why, for approvers.")
@click.option("--ticket", metavar="KEY", default="", help="With --extend: a ticket like INC-4711.")
def run(
    desk: Desk, grant: str, command: tuple[str, ...], env: bool, needs: str, longer: bool,
    reason: str, ticket: str,
) -> int:  # fmt: skip
    """Run a command with the keys of a grant; its exit code becomes ours.

    Keys come from an endpoint on this machine that only the command knows, so they are renewed
    while the grant lives and nobody sees them. With --env they stand in the command's environment:
    no renewal, and everything it starts can read them.
    """
    if not command:
        raise AskedWrongly(
            "no_command", "expected a command, got none", "as in: tidegate exec ID -- aws s3 ls"
        )
    if longer and not needs:
        raise AskedWrongly(
            "extend_alone", "expected `--needs` with `--extend`", "add `--needs 20m`"
        )
    if needs:
        grant = _usable(desk, grant)  # nothing is asked for in vain
        have_time(desk, grant, parse_duration(needs), longer, reason, ticket)
    return _with_keys(desk, grant, command, env)


@tool(
    "shell",
    ("tidegate shell gr_01j…", "your shell, with the keys of that grant, until you leave it"),
    ("tidegate shell rq_01j…", "a request id does, when exactly one grant fits"),
)
@_GRANT
@click.option("--env", is_flag=True, help="Static keys in the environment; see `exec --help`.")
def shell(desk: Desk, grant: str, env: bool) -> int:
    """Open your shell with the keys of a grant."""
    mine = desk.environment.get("SHELL") or "/bin/sh"
    desk.tell(f"keys of {grant} in {mine}; leave it with `exit`, and end access: `tidegate done`")
    return _with_keys(desk, grant, (mine,), env)


@tool(
    "credentials",
    ("tidegate credentials gr_01j…", "until when, and how to use them; no secret is shown"),
    ('eval "$(tidegate credentials gr_01j… --env-export)"', "into this shell, without renewal"),
    ("tidegate credentials gr_01j… --json", "as AWS clients read them from a process"),
)
@_GRANT
@click.option("--env-export", is_flag=True, help="Print `export` lines for a shell.")
def credentials(desk: Desk, grant: str, env_export: bool) -> None:
    """Print the keys of a grant, for tools that `exec` cannot start."""
    import json

    from tidegate_credentials import answer
    from tidegate_credentials.cache import Stop, is_id

    name = grant
    try:
        if grant.startswith("rq_") or (is_id(grant) and not _cached(desk, grant)):
            name = _usable(desk, grant)
        keys = Answer(json.loads(answer([name], desk.environment, _seconds(desk))))
    except Stop as stop:
        if stop.code == Exit.ASKED_WRONGLY:
            raise stopped(stop, AskedWrongly, "bad_grant", "see `tidegate grants`") from None
        raise stopped(stop, NotAllowed, "no_keys", f"see `tidegate trace {grant}`") from None
    until = moment(keys.text("Expiration"))
    if env_export:
        desk.tell(f"warning: static keys until {until}: no renewal, and children can read them")
        desk.answer(keys.plain, _exports(keys))
        return
    desk.answer(
        keys.plain,
        fields(
            [
                ("grant", name),
                ("key", keys.text("AccessKeyId")),
                ("until", until),
                ("use", f"tidegate exec {name} -- CMD, or a profile: `tidegate profiles --write`"),
            ]
        ),
    )


@tool(
    "profiles",
    ("tidegate profiles", "what would be written: one AWS profile a role"),
    ("tidegate profiles --write", "writes them to ~/.aws/config, in a block of their own"),
    ("aws --profile tidegate-aws-prod-admin s3 ls", "works while a grant of that role is open"),
)
@click.option("--write", is_flag=True, help="Write them to the AWS configuration.")
@click.option("--region", metavar="REGION", default="", help="The region of every profile.")
@click.option(
    "--expiration", type=click.Choice(("grant", "sts")), default="grant",
    help="Who stops clients at the end: the client itself (grant), or the cloud (sts).",
)  # fmt: skip
def profiles(desk: Desk, write: bool, region: str, expiration: str) -> None:
    """AWS profiles whose keys come from your open grants."""
    from tidegate.broker.profiles import Profile, merge, write_profiles

    roles = [
        role.exact("id")
        for target in desk.server().get("api", "targets").parts("targets")
        for role in target.some("roles")
        if role.text("kind") == "iam-role"
    ]
    made = [Profile(role=role, region=region, expiration=expiration) for role in sorted(roles)]
    path = desk.environment.get("AWS_CONFIG_FILE") or "~/.aws/config"
    if write:
        keys = desk.environment.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials"
        write_profiles(path, made, keys)
    plain = {
        "path": path,
        "written": write,
        "profiles": [{"name": one.name, "role": one.role} for one in made],
    }
    if not made:
        desk.answer(plain, ["no role gives AWS keys; see `tidegate targets`"])
    elif write:
        names = [f"  {one.name}" for one in made]
        desk.answer(plain, [f"{len(made)} profiles are in {path}:", *names])
    else:
        desk.answer(plain, [merge("", made).rstrip(), f"# to write this to {path}: add --write"])


@tool("done", ("tidegate done gr_01j…", "ends your own access before its time"))
@_GRANT
@click.option("--comment", metavar="TEXT", default="", help="Kept in the evidence.")
def done(desk: Desk, grant: str, comment: str) -> None:
    """End your own access early, as soon as you are finished."""
    end_grant(desk, grant, comment)


def end_grant(desk: Desk, grant: str, comment: str) -> None:
    """End one grant early, and drop what is cached of it here."""
    server = desk.server()
    body = {"comment": comment} if comment else {}
    ended = server.post("api", "grants", grant, "end", body=body)
    _forget(desk, server, ended)
    desk.answer(ended.plain, grant_lines(ended, desk.paint))


def _forget(desk: Desk, server: Server, ended: Answer) -> None:
    """Drop cached keys of a grant that ended, here where they may be: they are dead by now."""
    from tidegate_credentials.cache import Stop, open_cache
    from tidegate_credentials.keeping import forget

    try:
        folder = open_cache(str(desk.home))
        for name in (ended.text("id"), ended.text("role")):
            if name:
                forget(folder, server.name, name)
    except (Stop, OSError) as fault:
        # The access has ended; that a dead key is still in a file is worth a word, not a failure.
        desk.tell(f"note: cached keys were not removed: {fault}")


def _with_keys(desk: Desk, grant: str, command: tuple[str, ...], env: bool) -> int:
    from base64 import urlsafe_b64encode

    from tidegate.broker.child import Mode, run_with
    from tidegate.broker.container import Endpoint

    mode: Mode = Mode.ENV if env else Mode.ENDPOINT
    if env:
        desk.tell("warning: static keys: no renewal, and everything started here can read them")

    def token() -> str:
        return urlsafe_b64encode(desk.local.randomness(TOKEN_BYTES)).decode().rstrip("=")

    with Endpoint(_holding(desk, _opened(desk, grant)), token, desk.tell) as endpoint:
        return run_with(endpoint, command, desk.environment, mode=mode)


def _holding(desk: Desk, found: Answer) -> "Holding":
    """The keys of a grant, minted and renewed through the server, which also says when to warn."""
    from tidegate.base.when import Instant
    from tidegate.broker.holding import Holding
    from tidegate.broker.material import Material, read_end, read_material, read_warning

    server, grant = desk.server(), found.exact("id")

    def fetch() -> Material:
        return read_material(server.post("api", "grants", grant, "credentials").plain)

    def look() -> Instant:
        view = server.get("api", "grants", grant).plain
        holding.warn_before = read_warning(view)
        return read_end(grant, view)

    holding = Holding(
        grant=grant,
        fetch=fetch,
        look=look,
        clock=desk.local.clock,
        warn_before=read_warning(found.plain),
    )
    return holding


def _row(grant: Answer) -> tuple[str, ...]:
    """The cells of a grant in a list. Nothing is left of one that is not open."""
    *cells, left, says = grant_row(grant)
    return (*cells, left if grant.text("state") == "open" else "-", says)


def _usable(desk: Desk, grant: str) -> str:
    """The grant's own id (a request id stands for its one grant), if it can give AWS keys.

    Raises as `_opened`.
    """
    return _opened(desk, grant).exact("id")


def _opened(desk: Desk, grant: str) -> Answer:
    """The grant as the server has it, if it can give AWS keys.

    Raises:
        NotAllowed: its connector gives none; told before a session is minted for nothing.
    """
    from tidegate.broker.material import check_connector

    server = desk.server()
    found = server.get("api", "grants", grant)
    asked = server.get("api", "requests", found.exact("request"))
    for item in asked.some("items"):
        if item.text("role") == found.text("role"):
            check_connector(found.text("id"), item.text("role"), item.text("connector"))
    return found


def _cached(desk: Desk, grant: str) -> bool:
    """Whether keys of `grant` are at hand here: then the server need not be reached."""
    from tidegate_credentials.cache import open_cache, read_entry

    return read_entry(open_cache(str(desk.home)), desk.address()[0], grant) is not None


def _seconds(desk: Desk) -> float:
    return desk.local.clock().timestamp()


def _exports(keys: Answer) -> list[str]:
    names = {
        "AWS_ACCESS_KEY_ID": "AccessKeyId",
        "AWS_SECRET_ACCESS_KEY": "SecretAccessKey",
        "AWS_SESSION_TOKEN": "SessionToken",
    }
    return [f"export {name}={shlex.quote(keys.exact(field))}" for name, field in names.items()]
