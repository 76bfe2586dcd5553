"""login, logout, whoami: who this machine is to a server."""

import sys
from pathlib import Path

import click

from tidegate.base.errors import AskedWrongly, NotSignedIn
from tidegate.shell.cli.answer import Answer
from tidegate.shell.cli.client import Server, check_address
from tidegate.shell.cli.command import Desk, at_terminal, stopped, tool
from tidegate.shell.cli.printing import clean, fields, moment, span

LONGEST_PASSWORD = 1_024  # characters read; the server's own bound is lower
LONGEST_LABEL = 80  # characters, as the server takes them
_BAD_HOME = "set TIDEGATE_HOME to a folder of yours"

_PASSWORD_FILE = click.option(
    "--password-file", metavar="FILE", default="", help="Read the password from FILE; `-` is stdin."
)


def password_option(body: click.decorators.FC) -> click.decorators.FC:
    """`--password-file`: the only way to give a password besides the prompt."""
    return _PASSWORD_FILE(body)


def read_password(file: str, prompt: str, *, confirm: bool = False) -> str:
    """A password from a file, stdin or the terminal; never from an argument, which others can see.

    Only the first line counts. Raises AskedWrongly when there is none, or nobody to ask.
    """
    if not file:
        if not at_terminal():
            raise AskedWrongly(
                "no_password",
                "expected a terminal to ask for the password, got none",
                "pass it with `--password-file FILE`, or `--password-file -` for stdin",
            )
        return str(click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True))
    try:
        if file == "-":
            text = sys.stdin.readline(LONGEST_PASSWORD + 1)
        else:
            with Path(file).open(encoding="utf-8") as opened:
                text = opened.readline(LONGEST_PASSWORD + 1)
    except (OSError, UnicodeDecodeError) as fault:
        why = getattr(fault, "strerror", None) or "bytes that are not UTF-8"
        raise AskedWrongly(
            "bad_password_file",
            f"expected a password in `{file}`, got {why}",
            "check the file's name and that you may read it",
        ) from None
    password = text.removesuffix("\n").removesuffix("\r")
    if not password or len(password) > LONGEST_PASSWORD:
        raise AskedWrongly(
            "no_password",
            f"expected a password in the first line of `{file}`, got {len(password)} characters",
            "write the password in the first line",
        )
    return password


@tool(
    "login",
    ("tidegate login https://tidegate.example", "asks for login and password"),
    ("tidegate login https://tidegate.example --login ana --password-file -", "for scripts"),
    ("tidegate login", "again, to the server used last"),
)
@click.argument("server", default="", metavar="[SERVER]")
@click.option("--login", metavar="NAME", default="", help="Your login there.")
@click.option("--label", metavar="TEXT", default="", help="What lists call this token.")
@password_option
def login(desk: Desk, server: str, login: str, label: str, password_file: str) -> None:
    """Sign in to a server; the token is kept on this machine, mode 0600."""
    name = (server or desk.address()[0]).rstrip("/")
    check_address(name)
    if not login:
        if not at_terminal():
            raise AskedWrongly("no_login", "expected `--login NAME`, got none", "name your login")
        login = str(click.prompt("login", err=True))
    password = read_password(password_file, f"password of {login} at {name}")
    answer = Server(name).post(
        "api", "signin", body={"login": login, "password": password, "label": label or _label()}
    )
    keep_client(desk, name, answer.exact("token"))
    who = answer.part("principal").text("name") or answer.text("principal") or clean(login)
    until = moment(answer.text("until"))
    kept = {key: value for key, value in answer.plain.items() if key != "token"}
    said = f"signed in to {name} as {who}"
    desk.answer({"server": name, **kept}, [f"{said} until {until}" if until else said])
    if desk.environment.get("TIDEGATE_TOKEN"):
        desk.tell("note: TIDEGATE_TOKEN is set here and wins over what was just signed in")


@tool("logout", ("tidegate logout", "ends the token at the server and forgets it here"))
def logout(desk: Desk) -> None:
    """End this machine's token and wipe the keys it cached."""
    name, token = desk.address()
    ended = False
    if token:
        try:
            Server(name, token).post("api", "signout")
            ended = True
        except NotSignedIn:
            pass  # it had ended before: what is kept here goes all the same
    if _is_kept(desk, name):
        keep_client(desk, name, "")
    wiped = wipe_cache(desk)
    said = "signed out of" if ended else "nobody was signed in to"
    desk.answer(
        {"server": name, "ended": ended, "wiped": wiped},
        [f"{said} {clean(name)}; {wiped} cached files of keys wiped"],
    )


@tool(
    "whoami",
    ("tidegate whoami", "who the server takes you for, and your groups"),
    ("tidegate whoami --json", "the same for scripts; exit code 3 when not signed in"),
)
def whoami(desk: Desk) -> None:
    """Who you are to the server, and in which groups."""
    server = desk.server()
    desk.answer((me := server.get("api", "me")).plain, _me_lines(server.name, me))


def _me_lines(server: str, me: Answer) -> list[str]:
    may = [word for word in ("operator", "auditor") if me.flag(word)]
    return fields(
        [
            ("server", server),
            ("name", me.text("name")),
            ("login", me.text("login")),
            ("principal", me.text("id")),
            ("groups", ", ".join(me.texts("groups")) or "none"),
            ("here", " and ".join(may)),
            ("until", moment(me.text("token_until"))),
            *(("holds", _held(one)) for one in me.some("holds")),
        ]
    )


def _held(hold: Answer) -> str:
    """One access: until when, what it was extended by, and how to get more time when it is near."""
    grant, left = hold.text("grant"), span(hold.number("remaining_seconds") or 0)
    more = hold.number("extended_seconds") or 0
    said = (
        f"{hold.text('role')} by {grant} until {moment(hold.text('window_ends_at'))}, {left} left"
    )
    if more:
        said += f", extended by {span(more)}"
    if hold.flag("warned"):
        return f"{said}; ends soon, more time: tidegate extend {grant} --for 30m --reason '…'"
    return f"{said}; warned at {moment(hold.text('warn_at'))}"


def keep_client(desk: Desk, server: str, token: str) -> None:
    """Write `client.json`: 0600, in a folder of 0700, whole or not at all."""
    from tidegate_credentials.cache import Stop, open_cache
    from tidegate_credentials.keeping import write

    try:
        open_cache(str(desk.home))
        write(str(desk.home / "client.json"), {"server": server, "token": token})
    except Stop as stop:
        raise stopped(stop, AskedWrongly, "bad_home", _BAD_HOME) from None


def _is_kept(desk: Desk, server: str) -> bool:
    """Whether what `client.json` holds is of `server`: TIDEGATE_SERVER may name another."""
    from tidegate_credentials.cache import Stop, read_client

    try:
        return read_client(str(desk.home), {}).server == server
    except Stop:
        return True  # nothing of worth in it; it is written anew


def wipe_cache(desk: Desk) -> int:
    """Remove every cached set of keys; how many there were."""
    from tidegate_credentials.cache import Stop, open_cache

    try:
        folder = Path(open_cache(str(desk.home)))
        kept = [path for path in folder.iterdir() if not path.name.startswith("lock-")]
        for path in kept:
            path.unlink(missing_ok=True)
    except Stop as stop:
        raise stopped(stop, AskedWrongly, "bad_home", _BAD_HOME) from None
    except OSError as fault:
        raise AskedWrongly(
            "cache_not_wiped",
            f"the cached keys cannot be removed: {fault.strerror}",
            f"remove `{desk.home / 'cache'}` by hand",
        ) from fault
    return len(kept)


def _label() -> str:
    """What this machine calls itself, in the characters a label may have."""
    import platform

    host = "".join(ch for ch in platform.node() if ch.isascii() and ch.isprintable())
    return f"cli on {host or 'a machine'}"[:LONGEST_LABEL]
