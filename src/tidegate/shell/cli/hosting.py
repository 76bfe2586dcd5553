"""init, serve, check, demo, account: what runs on the server's own machine, through `Local`."""

from collections.abc import Callable
from pathlib import Path

import click

from tidegate.base.errors import AskedWrongly
from tidegate.shell.cli.answer import Answer
from tidegate.shell.cli.command import Desk, Room, tool
from tidegate.shell.cli.exits import Exit
from tidegate.shell.cli.local import Account
from tidegate.shell.cli.printing import clean, table
from tidegate.shell.cli.signing import password_option, read_password

CONFIG_NAME = "tidegate.toml"


def config_option(default: str | None) -> Callable[[click.decorators.FC], click.decorators.FC]:
    """`--config FILE`: which installation of this machine."""
    return click.option(
        "--config",
        metavar="FILE",
        default=default,
        help="The installation's settings." + (f" [{default}]" if default else ""),
    )


_CONFIG = config_option(CONFIG_NAME)
_NAME = click.option("--name", metavar="TEXT", default="", help="What people call them.")
_MAIL = click.option("--mail", metavar="ADDRESS", default="", help="Their e-mail address.")
_LOGIN = click.argument("login", metavar="LOGIN")


@tool(
    "init",
    (
        "tidegate init /srv/tidegate --origin tidegate.example/log --operator ana",
        "a new installation with its first account",
    ),
    (
        "tidegate init . --origin tidegate.example/log --operator ana --password-file -",
        "here, for scripts",
    ),
    (
        "tidegate init . --origin tidegate.example/log --database postgresql://tidegate@db/tidegate",
        "on a PostgreSQL database that is there and empty; then any number of processes",
    ),
)
@click.option(
    "--database",
    metavar="URL",
    default="",
    help="A PostgreSQL database instead of a file; PGPASSWORD or ~/.pgpass for this once.",
)
@click.argument("directory", metavar="DIRECTORY")
@click.option("--origin", metavar="NAME", required=True, help="The log's name; it never changes.")
@click.option("--operator", metavar="LOGIN", default="", help="A first account, an operator.")
@_NAME
@_MAIL
@password_option
def init(
    desk: Desk, directory: str, origin: str, operator: str, name: str, mail: str,
    password_file: str, database: str,
) -> None:  # fmt: skip
    """Make an installation: settings, the log's key, groups, rules, a first account."""
    if not operator and (name or mail or password_file):
        raise AskedWrongly(
            "no_operator", "expected `--operator LOGIN` with what belongs to it", "name the login"
        )
    accounts = []
    if operator:
        password = read_password(password_file, f"password for {operator}", confirm=True)
        accounts.append(Account(login=operator, password=password, name=name, mail=mail))
    made = Answer(desk.local.init(Path(directory), origin, accounts, database))
    config = made.text("config") or str(Path(directory) / CONFIG_NAME)
    lines = [
        f"{clean(directory)} is ready: settings in {config}",
        f"the log's public key, for verifiers: {made.text('verifier')}",
        "next:",
        f"  1. name a target, its roles and rules in {config}; `tidegate check --config {config}`",
        f"  2. tidegate account add bo --config {config}",
        f"  3. tidegate serve --config {config}",
    ]
    desk.answer(made.plain, lines)


@tool(
    "serve",
    ("tidegate serve", "API and worker in one process, as ./tidegate.toml says"),
    ("tidegate serve --config /srv/tidegate/tidegate.toml", "another installation"),
    ("tidegate serve --host 127.0.0.1 --port 8470", "listening elsewhere than configured"),
    ("tidegate serve --worker none", "API only, without any cloud identity (PostgreSQL)"),
)
@_CONFIG
@click.option(
    "--worker",
    type=click.Choice(["all", "open", "close", "none"]),
    default=None,
    help="What a worker in this process does, instead of `[server] worker`.",
)
@click.option("--host", metavar="ADDRESS", default="", help="Listen there instead.")
@click.option("--port", type=click.IntRange(1, 65535), default=None, help="And at this port.")
def serve(desk: Desk, config: str, host: str, port: int | None, worker: str | None) -> int:
    """Run the server until it is told to stop. It logs on stderr."""
    code = desk.local.serve(installed(config), host, port or 0, worker or "")
    desk.answer({"served": config, "exit": code}, [])
    return code


@tool(
    "worker",
    ("tidegate worker", "opens and closes, beside a server on the same PostgreSQL"),
    ("tidegate worker --open", "only opens, and reads only the opener's cloud keys"),
    ("tidegate worker --close", "only closes, and reads only the closer's cloud keys"),
    ("tidegate worker --config /srv/tidegate/tidegate.toml", "another installation"),
)
@_CONFIG
@click.option("--open", "opens", is_flag=True, help="Only open, with the opener's identity.")
@click.option("--close", "closes", is_flag=True, help="Only close, with the closer's identity.")
def worker(desk: Desk, config: str, opens: bool, closes: bool) -> int:
    """Run a worker without an API until it is told to stop. It logs on stderr.

    Any number may run on one PostgreSQL database, on any machines. An installation on SQLite is one
    process: `tidegate serve`, or this one alone, and then without an API. Use PostgreSQL for more.

    Beside a `worker --open`, on its machine and its closing journal, run a `worker --close`: what
    was opened in the seconds before the database goes is known there alone.
    """
    duties = "all" if opens == closes else "open" if opens else "close"
    code = desk.local.work(installed(config), duties)
    desk.answer({"worked": config, "duties": duties, "exit": code}, [])
    return code


@tool(
    "check",
    ("tidegate check", "everything wrong or odd in ./tidegate.toml, its rules and groups"),
    ("tidegate check --config /srv/tidegate/tidegate.toml --json", "for scripts; exits 2"),
)
@_CONFIG
def check(desk: Desk, config: str) -> Exit:
    """Check settings, rules and groups: file, line, expected, got, what to do."""
    found = [Answer(one) for one in desk.local.check(installed(config))]
    wrong = [one for one in found if one.text("level") != "warning"]
    lines = [line for one in found for line in _finding_lines(desk, one)]
    odd = len(found) - len(wrong)
    summary = f"{len(wrong)} wrong, {odd} odd" if found else f"{clean(config)}: nothing is wrong"
    plain = {"ok": not wrong, "findings": [one.plain for one in found]}
    desk.answer(plain, [*lines, summary])
    return Exit.ASKED_WRONGLY if wrong else Exit.OK


@tool(
    "demo",
    ("tidegate demo", "the whole path on a sandbox cloud, about a minute"),
    ("tidegate demo --break", "the cloud refuses a removal: found, bounded, mended, proven"),
    ("tidegate demo --database postgresql", "two servers on one PostgreSQL; one is killed too"),
    ("tidegate demo --json", "one object with each check"),
    ("tidegate demo --keep", "leaves its directory for a look"),
)
@click.option("--break", "broken", is_flag=True, help="Let the cloud refuse a removal.")
@click.option(
    "--database",
    type=click.Choice(["sqlite", "postgresql"]),
    default="sqlite",
    show_default=True,
    help="postgresql: one of its own, with two servers on it.",
)
@click.option("--keep", is_flag=True, help="Keep the temporary directory.")
def demo(desk: Desk, broken: bool, keep: bool, database: str) -> int:
    """Watch access open, be used and end, also with the server killed in the middle."""
    return desk.local.demo(desk.as_json, keep, broken, database)


@tool(
    "add",
    ("tidegate account add bo --name Bo --mail bo@tidegate.example", "asks for a password"),
    ("tidegate account add bo --password-file -", "for scripts"),
)
@_LOGIN
@_NAME
@_MAIL
@password_option
@_CONFIG
def add(desk: Desk, login: str, name: str, mail: str, password_file: str, config: str) -> None:
    """Make a local account. Its groups are in the groups file."""
    at = installed(config)
    password = read_password(password_file, f"password for {login}", confirm=True)
    account = Account(login=login, password=password, name=name, mail=mail)
    made = desk.local.account_add(at, account)
    desk.answer(
        made, [f"account {clean(login)} is there; put it in groups: groups.toml beside {config}"]
    )


@tool(
    "list",
    ("tidegate account list", "every local account with its groups"),
    ("tidegate account list --json", "for scripts"),
)
@_CONFIG
def accounts(desk: Desk, config: str) -> None:
    """List local accounts."""
    found = [Answer(one) for one in desk.local.account_list(installed(config))]
    rows = [
        (
            one.text("login"),
            "yes" if one.flag("enabled") else "no",
            one.text("name"),
            ", ".join(one.texts("groups")) or "-",
        )
        for one in found
    ]
    lines = table(("LOGIN", "ENABLED", "NAME", "GROUPS"), rows, desk.width())
    desk.answer(
        {"accounts": [one.plain for one in found]},
        lines if rows else ["no accounts yet; add one: `tidegate account add LOGIN`"],
    )


@tool("disable", ("tidegate account disable bo", "bo signs in no more; its tokens end"))
@_LOGIN
@_CONFIG
def disable(desk: Desk, login: str, config: str) -> None:
    """Stop an account from signing in. Grants it holds are revoked apart from this."""
    plain = desk.local.account_enable(installed(config), login, False)
    desk.answer(
        plain,
        [
            f"account {clean(login)} is disabled and signed out everywhere",
            f"next: end what it holds: `tidegate grants --all --state open` shows {clean(login)}",
        ],
    )


@tool("enable", ("tidegate account enable bo", "bo may sign in again"))
@_LOGIN
@_CONFIG
def enable(desk: Desk, login: str, config: str) -> None:
    """Let a disabled account sign in again."""
    plain = desk.local.account_enable(installed(config), login, True)
    desk.answer(plain, [f"account {clean(login)} may sign in"])


@tool(
    "passwd",
    ("tidegate account passwd bo", "asks for the new password; bo's tokens end"),
    ("tidegate account passwd bo --password-file -", "for scripts"),
)
@_LOGIN
@password_option
@_CONFIG
def passwd(desk: Desk, login: str, password_file: str, config: str) -> None:
    """Set the password of a local account; its tokens end."""
    at = installed(config)
    password = read_password(password_file, f"new password for {login}", confirm=True)
    plain = desk.local.account_password(at, login, password)
    desk.answer(plain, [f"account {clean(login)} has a new password and is signed out everywhere"])


def make_room() -> Room:
    """`tidegate account …`."""
    room = Room(
        "account",
        "Local accounts of an installation, on its own machine.",
        ("tidegate account add bo", "a new one"),
        ("tidegate account list", "who there is"),
    )
    for command in (add, accounts, disable, enable, passwd):
        room.add_command(command)
    return room


def installed(config: str) -> Path:
    """The settings file. Raises AskedWrongly when there is none: the commonest mistake here."""
    path = Path(config)
    if not path.is_file():
        raise AskedWrongly(
            "no_config",
            f"expected an installation's settings at `{config}`, got no such file",
            "go to its directory, pass `--config FILE`, or make one: `tidegate init`",
        )
    return path


def _finding_lines(desk: Desk, found: Answer) -> list[str]:
    level = found.text("level") or "error"
    shown = desk.paint(level, "yellow" if level == "warning" else "red")
    line = found.number("line")
    where = found.text("file") + (f":{line}" if line else "")
    wanted, got = found.text("expected"), found.text("got")
    said = f"expected {wanted}, got {got}" if wanted else got
    head = f"{where}: {shown}: {said}" if where else f"{shown}: {said}"
    return [head, *([f"  next: {found.text('help')}"] if found.text("help") else [])]
