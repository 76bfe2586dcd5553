"""evidence key [show|public|rotate]: the log's keys, as a server shows them and on its own machine.

`key` alone asks a server; the others work on the installation's files, with whatever rights the
person at the machine has there.
"""

from pathlib import Path

import click

from tidegate.shell.cli.answer import Answer
from tidegate.shell.cli.command import Desk, Room, tool
from tidegate.shell.cli.files import write_file
from tidegate.shell.cli.hosting import CONFIG_NAME, config_option, installed
from tidegate.shell.cli.printing import clean, moment, table

_OUTPUT = click.option("-o", "--output", metavar="FILE", default="", help="Write them to FILE.")
_CONFIG = config_option(CONFIG_NAME)


@tool("key")
@_OUTPUT
def asked(desk: Desk, output: str) -> None:
    """The log's public keys: shown by the server, or changed on its own machine."""
    if click.get_current_context().invoked_subcommand is not None:
        return
    text = desk.server().read_text("api", "evidence", "keys")
    if output:
        write_file(Path(output), text.encode())
    keys = [line for line in text.splitlines() if line.strip()]
    note = "a key shown by the server proves nothing about that server: compare it first"
    desk.answer({"keys": keys, "note": note}, [clean(line) for line in keys])
    desk.tell(f"note: {note}")


@tool(
    "show",
    ("tidegate evidence key show", "which key signs, and which signed what before it"),
    ("tidegate evidence key show --config /srv/tidegate/tidegate.toml --json", "for scripts"),
)
@_CONFIG
def show(desk: Desk, config: str) -> None:
    """Show every key of the log and the sizes it signs, on the server's machine."""
    told = Answer(desk.local.key_show(installed(config)))
    rows = [
        (
            one.text("id"),
            f"{one.number('first')}-{'' if one.number('until') is None else one.number('until')}",
            moment(one.text("ended_at")) or "it signs now",
        )
        for one in told.some("keys")
    ]
    lines = table(("KEY", "SIZES", "PUT ASIDE AT"), rows, desk.width())
    if told.flag("left_over"):
        lines.append(
            "a change of key was cut short before it was sealed: nothing was changed by it"
        )
    desk.answer(told.plain, [f"log {clean(told.text('origin'))}", *lines])


@tool(
    "public",
    ("tidegate evidence key public", "the key file for verifiers, with the sizes of each key"),
    ("tidegate evidence key public -o log.vkey", "to hand out, by a way that is not the server"),
)
@_OUTPUT
@_CONFIG
def public(desk: Desk, output: str, config: str) -> None:
    """Print the public key file, from the server's machine: `verify --key` takes it."""
    text = Answer(desk.local.key_show(installed(config))).exact("public")
    if output:
        write_file(Path(output), text.encode())
    keys = [line for line in text.splitlines() if line.strip()]
    desk.answer({"keys": keys}, [clean(line) for line in keys])


@tool(
    "rotate",
    (
        "tidegate evidence key rotate",
        "a new key for the log here; stop the server first",
    ),
    ("tidegate evidence key rotate --config /srv/tidegate/tidegate.toml --json", "elsewhere"),
)
@_CONFIG
def rotate(desk: Desk, config: str) -> None:
    """Give the log a new key, sealed by the old and the new one, while the server is stopped.

    What was signed before verifies as ever. There is no way back to the old key; to undo it, rotate
    again. Cut short at any moment, either the old or the new key is the log's: run it again, or
    start the server.
    """
    told = Answer(desk.local.key_rotate(installed(config)))
    event = told.number("event") or 0
    lines = [
        f"the log has a new key from event {event} on, sealed by both",
        f"  put aside  {clean(told.text('before'))}  (signs up to size {event})",
        f"  signs now  {clean(told.text('after'))}",
        "next:",
        "  1. start the server; those who saw the log before follow by themselves",
        f"  2. back up the new key, and hand out {clean(told.text('public'))} to verifiers",
        f"  3. take {clean(told.text('kept'))} off this machine: only a backup of the database from"
        " before needs it; destroy it if the key was stolen",
    ]
    desk.answer(told.plain, lines)


def make_room() -> Room:
    """`tidegate evidence key …`."""
    room = Room(
        "key",
        asked.help or "",
        ("tidegate evidence key", "the log's public keys, as the server shows them"),
        (
            "tidegate evidence key -o log.vkey",
            "into a file, to compare with another",
        ),
        ("tidegate evidence key rotate", "a new key, on the server's machine"),
        invoke_without_command=True,
        callback=asked.callback,
        params=asked.params,
    )
    room.no_args_is_help = False  # alone, it asks the server
    for command in (show, public, rotate):
        room.add_command(command)
    return room
