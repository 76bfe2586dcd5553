"""What every command shares: `--json`, examples in `--help`, and errors as two lines.

`Desk` is what a command works with; `tool` declares one; `Room` groups them; `Program` is the whole
and the only place where an error becomes an exit code.
"""

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from click.exceptions import NoArgsIsHelpError

from tidegate import __version__
from tidegate.base.errors import AskedWrongly, NotSignedIn, TidegateError
from tidegate.shell.cli.client import Server
from tidegate.shell.cli.exits import Exit, exit_of
from tidegate.shell.cli.local import Local
from tidegate.shell.cli.printing import COLOURS, clean

LONGEST_SENTENCE = 200  # characters of a command's first sentence: all of ours are shown whole
Example = tuple[str, str]  # what to type, and what it does


class Desk:
    """What a command works with: the machine, the server, and where to say things.

    `as_json` is set by `--json`. `home` holds this client's own files.
    """

    def __init__(self, local: Local, environment: Mapping[str, str]) -> None:
        self.local = local
        self.environment = environment
        self.as_json = False

    @property
    def home(self) -> Path:
        """`TIDEGATE_HOME`, or `~/.config/tidegate`."""
        from tidegate_credentials.cache import home_of

        return Path(home_of(self.environment))

    def address(self) -> tuple[str, str]:
        """The server and token in force. Raises AskedWrongly when no server is known."""
        from tidegate_credentials.cache import Stop, read_client

        try:
            client = read_client(str(self.home), self.environment)
        except Stop as stop:
            raise stopped(stop, AskedWrongly, "no_server", "run: tidegate login ADDRESS") from None
        return client.server, client.token

    def server(self) -> Server:
        """The server, as whoever is signed in. Raises NotSignedIn without asking when nobody is."""
        name, token = self.address()
        if not token:
            raise NotSignedIn(
                "not_signed_in",
                f"nobody is signed in to `{clean(name)}` here",
                f"run `tidegate login {clean(name)}`",
            )
        return Server(name, token)

    def answer(self, plain: Mapping[str, Any], lines: Iterable[str]) -> None:
        """The outcome on stdout: `plain` as one JSON object with `--json`, else `lines`."""
        if self.as_json:
            click.echo(as_json(plain))
        else:
            for line in lines:
                click.echo(line)

    def tell(self, *lines: str, painted: bool = False) -> None:
        """Progress and warnings for a person, on stderr; silent with `--json`.

        Made safe to print here, but for lines that are `painted`: those the caller made safe. That
        nobody reads them any more (a pipe that was closed) stops nothing that is under way.
        """
        if not self.as_json:
            with suppress(OSError):
                for line in lines:
                    click.echo(line if painted else clean(line), err=True)

    def complain(self, fault: TidegateError) -> None:
        """An error on stderr: two lines, or the problem as JSON with `--json`."""
        if self.as_json:
            from http import HTTPStatus

            told = {
                "type": "about:blank",
                "title": HTTPStatus(fault.status).phrase,
                "status": fault.status,
                "detail": fault.message,
                "code": fault.code,
                "family": fault.family,
                "help": fault.help,
            }
            click.echo(as_json(told), err=True)
            return
        click.echo(f"{self.paint('error', 'red', err=True)}: {clean(fault.message)}", err=True)
        if fault.help:
            click.echo(f"next: {clean(fault.help)}", err=True)

    def paint(self, text: str, colour: str | None = None, *, err: bool = False) -> str:
        """`text` in its colour where colours are seen and wanted (NO_COLOR, TERM=dumb)."""
        stream = sys.stderr if err else sys.stdout
        wanted = not self.environment.get("NO_COLOR") and self.environment.get("TERM") != "dumb"
        colour = colour or COLOURS.get(text)
        return click.style(text, fg=colour) if colour and wanted and stream.isatty() else text

    def width(self) -> int | None:
        """How wide lines may be: COLUMNS, else the terminal's width. None: nothing is ever cut."""
        wanted = self.environment.get("COLUMNS", "")
        if wanted.isascii() and wanted.isdigit() and int(wanted[:6]) > 0:
            return int(wanted[:6])
        if not sys.stdout.isatty():
            return None
        with suppress(OSError, ValueError):
            return os.get_terminal_size(sys.stdout.fileno()).columns
        return None


def stopped(stop: Exception, kind: type[TidegateError], code: str, otherwise: str) -> TidegateError:
    """The error of a `tidegate_credentials.Stop`: its one line is `what; what to do`."""
    line, _, to_do = str(stop).partition("; ")
    return kind(code, line, to_do or otherwise)


def as_json(plain: Mapping[str, Any]) -> str:
    """`plain` on one line, in ASCII: no control character and no look-alike survives unescaped."""
    import json

    return json.dumps(plain)


def at_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


class Tool(click.Command):
    """A command with examples."""

    examples: Sequence[Example] = ()

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Examples, as they are: wrapping would break what people paste."""
        write_examples(formatter, self.examples)


def write_examples(formatter: click.HelpFormatter, examples: Sequence[Example]) -> None:
    """The section `Examples` of a help page."""
    formatter.write_paragraph()
    formatter.write("Examples:\n")
    for typed, does in examples:
        formatter.write(f"  {typed}\n      {does}\n")


def tool(
    name: str, *examples: Example, kind: type[Tool] = Tool, **settings: Any
) -> Callable[[Callable[..., Exit | int | None]], Tool]:
    """Declare a command: called with the Desk first, then its parameters.

    It returns None for success or an exit code, and raises TidegateError. `settings` go to click.
    """

    def declare(body: Callable[..., Exit | int | None]) -> Tool:
        made = click.command(name, cls=kind, **settings)(click.pass_obj(body))
        made.params.append(_json_option())
        made.examples = examples
        return made

    return declare


def _json_option() -> click.Option:
    def remember(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        if value and isinstance(ctx.obj, Desk):
            ctx.obj.as_json = True

    return click.Option(
        ["--json"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=remember,
        help="One JSON object on stdout; a problem as JSON on stderr.",
    )


class Room(click.Group):
    """A group of commands with examples; named alone, it prints its help."""

    def __init__(self, name: str, help: str, *examples: Example, **settings: Any) -> None:
        super().__init__(name, help=help, no_args_is_help=True, **settings)
        self.examples = examples

    def parts(self) -> Mapping[str, Sequence[click.Command]]:
        """The commands under their headings, in the order in which people meet them."""
        return {"Commands": list(self.commands.values())}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Every command with its whole first sentence."""
        for title, commands in self.parts().items():
            with formatter.section(title):
                formatter.write_dl([(one.name or "", _sentence(one)) for one in commands])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Examples, as they are."""
        write_examples(formatter, self.examples)


def _sentence(command: click.Command) -> str:
    return command.get_short_help_str(LONGEST_SENTENCE)


class Program(Room):
    """The whole command line. `parts` are its commands under the headings of its help."""

    def __init__(
        self, local: Local, parts: Mapping[str, Sequence[click.Command]], *examples: Example
    ) -> None:
        super().__init__(
            "tidegate",
            "Cloud access for a person, for a reason, for a while, that provably ends.",
            *examples,
            context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        )
        self._local = local
        self._parts = parts
        for commands in parts.values():
            for command in commands:
                self.add_command(command)
        click.version_option(__version__, prog_name="tidegate")(self)

    def parts(self) -> Mapping[str, Sequence[click.Command]]:
        """The commands under their headings."""
        return self._parts

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run, then leave the process with the exit code. Never a traceback."""
        given = args[0] if args else extra.pop("args", None)
        words = list(sys.argv[1:] if given is None else given)
        extra.update(prog_name="tidegate", standalone_mode=False)
        desk = Desk(self._local, os.environ)
        with suppress(AttributeError, OSError):
            # A terminal of another encoding shows an escape rather than stopping us half-way.
            sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        sys.exit(self._run(desk, words, extra))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; whoever reads our output may leave at any time."""
        try:
            outcome = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            _give_up_stdout()
            return Exit.PIPE_CLOSED
        return outcome

    def _run(self, desk: Desk, words: list[str], extra: dict[str, Any]) -> int:
        try:
            outcome = super().main(words, obj=desk, **extra)
            return int(outcome) if isinstance(outcome, int) else Exit.OK
        except TidegateError as fault:
            desk.complain(fault)
            return exit_of(fault)
        except NoArgsIsHelpError as asked:
            click.echo(asked.ctx.get_help() if asked.ctx else asked.message)
            return Exit.OK
        except click.ClickException as fault:
            desk.as_json = desk.as_json or _asks_json(words)
            desk.complain(_usage(fault))
            return Exit.ASKED_WRONGLY
        except (click.Abort, KeyboardInterrupt):
            click.echo("interrupted", err=True)
            return Exit.INTERRUPTED
        except Exception as fault:  # noqa: BLE001 - the rim: a bug is told, never dumped
            return _bug(desk, fault)


def _asks_json(words: Sequence[str]) -> bool:
    """Whether `--json` was written, for errors met before options were read."""
    own = words[: words.index("--")] if "--" in words else words
    return "--json" in own


def _usage(fault: click.ClickException) -> AskedWrongly:
    """A usage error of click in our form."""
    said = fault.format_message().strip().rstrip(".")
    ctx = getattr(fault, "ctx", None)
    path = ctx.command_path if ctx else "tidegate"
    return AskedWrongly(
        "usage", said[:1].lower() + said[1:], f"see `{path} --help`, with examples at its end"
    )


def _bug(desk: Desk, fault: Exception) -> int:
    """Say where it happened and not what it held: another library's message may hold keys."""
    trace = fault.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    where = ""
    if trace:
        where = f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
    told = TidegateError(
        "bug",
        f"tidegate itself is at fault: {type(fault).__name__}{where}",
        "nothing more was done; report this line with the command you typed",
    )
    desk.complain(told)
    return Exit.BUG


def _give_up_stdout() -> None:
    """Point stdout at nothing, so that the flush at exit does not complain."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
