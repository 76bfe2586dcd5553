"""revoke, unfreeze, recover: ending somebody's access, everybody's, and without a server."""

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import click

from tidegate.base.errors import AskedWrongly, WorldFailed
from tidegate.base.when import parse_duration
from tidegate.shell.cli.answer import Answer, strange
from tidegate.shell.cli.client import Server
from tidegate.shell.cli.command import Desk, at_terminal, tool
from tidegate.shell.cli.exits import Exit
from tidegate.shell.cli.hosting import config_option, installed
from tidegate.shell.cli.printing import fields, moment
from tidegate.shell.cli.using import end_grant

LOOK_SECONDS = 1.0  # a panic is watched closely
MOST_FAILURES = 60  # looks in a row that got no answer: a minute, a restart is sat out
PATIENCE = "10m"  # a removal that takes longer is looked at by somebody
COUNTS = ("gone", "removed", "closing", "unverified")
SOURCES = ("journal", "witness", "database")


@tool(
    "revoke",
    ('tidegate revoke gr_01j… --reason "wrong account"', "ends one access at once"),
    ("tidegate revoke --principal ana", "everything ana holds, and her requests that still wait"),
    (
        'tidegate revoke --target aws-prod --freeze 1h --reason "INC-4711"',
        "and nothing opens there",
    ),
    ("tidegate revoke --all --yes --json", "for scripts: exits 0 only if all is gone or removed"),
    ("tidegate revoke --status pn_01j…", "goes on watching one"),
    (
        "tidegate revoke --all --local --config tidegate.toml",
        "on the server, when it does not answer",
    ),
)
@click.argument("grant", metavar="[GRANT]", default="")
@click.option("--principal", metavar="WHO", default="", help="Everything a person holds (`me`).")
@click.option("--target", metavar="TARGET", default="", help="Everything on a target.")
@click.option("--role", metavar="ROLE", default="", help="Everything of a role.")
@click.option("--all", "everything", is_flag=True, help="Everything there is.")
@click.option("--reason", "--comment", "reason", metavar="TEXT", default="", help="Why, sealed.")
@click.option("--freeze", metavar="SPAN", default="", help="And nothing opens there so long.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--no-wait", is_flag=True, help="Print its id and leave.")
@click.option("--status", metavar="PN", default="", help="Watch a panic called before.")
@click.option(
    "--timeout", metavar="SPAN", default=PATIENCE, help=f"How long to watch [{PATIENCE}]."
)
@click.option("--local", "here", is_flag=True, help="On the server's machine, without its API.")
@config_option(None)
def revoke(desk: Desk, **given: Any) -> Exit:
    """End somebody's access at once, or everything in a scope.

    A panic ends every grant in its scope, the riskiest first, and what waits for an approval there
    is refused. It says no more than four counts: gone, removed, still closing, unverified. It
    exits 0 only when everything is gone or removed, else 4.
    """
    patience = parse_duration(given["timeout"])
    if given["status"]:
        _alone(given, "status")
        server = desk.server()
        return _watch(desk, server, server.get("api", "panics", given["status"]), patience)
    kind, name = _scope(given)
    if kind == "grant":
        if not given["reason"]:
            raise AskedWrongly("no_reason", "expected `--reason TEXT`, got none", "say why")
        end_grant(desk, name, given["reason"])
        return Exit.OK
    at = installed(given["config"] or "tidegate.toml") if given["here"] else None
    freeze = parse_duration(given["freeze"]) if given["freeze"] else None
    _confirm(desk, f"{kind} {name}".strip(), given["yes"])
    if at is not None:
        told = Answer(
            desk.local.panic(at, kind, name, given["reason"], freeze, patience, desk.tell)
        )
        return _end(desk, told, "type the same again, or `tidegate recover` without the database")
    body: dict[str, Any] = {"scope": kind, "name": name, "reason": given["reason"]}
    if freeze is not None:
        body["freeze_seconds"] = int(freeze.total_seconds())
    server = desk.server()
    called = server.post("api", "panics", body=body)
    if given["no_wait"] or not called.flag("sealed"):
        return _end(desk, called)
    return _watch(desk, server, called, patience)


@tool(
    "unfreeze",
    ("tidegate unfreeze pn_01j…", "things open again in the scope of that panic"),
    ("tidegate unfreeze pn_01j… --json", "for scripts"),
)
@click.argument("panic", metavar="PN")
def unfreeze(desk: Desk, panic: str) -> None:
    """Lift the freeze of a panic before it is over."""
    lifted = desk.server().post("api", "panics", panic, "unfreeze")
    desk.answer(lifted.plain, [f"{lifted.text('id')}: its freeze is lifted", lifted.text("says")])


@tool(
    "recover",
    ("tidegate recover --config tidegate.toml", "the database is gone: close all that is overdue"),
    (
        "tidegate recover --config tidegate.toml --from journal=/mnt/b/closing.journal",
        "with the journal of another machine",
    ),
    (
        "tidegate recover --config tidegate.toml --from database=backup.db --from witness=/mnt/w",
        "with an older copy of the log: says what it does not hold",
    ),
    ("tidegate recover --config tidegate.toml --dry-run", "only says what would be closed"),
)
@config_option("tidegate.toml")
@click.option(
    "--from", "sources", metavar="WHAT=WHERE", multiple=True,
    help="journal=FILE (any number), witness=DIR, database=FILE or URL.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Call no cloud and write nothing.")
@click.option("--timeout", metavar="SPAN", default=PATIENCE, help=f"How long to try [{PATIENCE}].")
def recover(desk: Desk, config: str, sources: Sequence[str], dry_run: bool, timeout: str) -> Exit:
    """Close what is overdue without the database, and say what cannot be known.

    Goes by the closing journals; nothing is ever opened, and doing it twice is safe. What was done
    is in the journal, and a server that starts later seals it. Exits 0 when all that is due is
    removed, and its sessions cut, else 4.
    """
    told = Answer(
        desk.local.recover(
            installed(config), _sources(sources), dry_run, parse_duration(timeout), desk.tell
        )
    )
    lost, unread = told.number("lost"), told.number("unread")
    none = "nothing that can be closed from here" if lost else "no grant is known to be open"
    if unread:
        none = "what is open is not known: a journal cannot be read whole"
    if told.flag("copy_unread"):
        none = "what is open is not known: the copy that was named cannot be read"
    if told.flag("blind"):
        none = "what is open is not known: no journal here has a line"
        unread = 0
    dry = ["dry run: no cloud was called and nothing was written", ""]
    lines = dry if told.flag("dry_run") else []
    lines += [_recalled(one) for one in told.some("grants")] or [none]
    counts = told.part("counts")
    parts = [f"{counts.number(name)} {name}" for name in counts.plain if counts.number(name)]
    if uncut := told.number("uncut"):
        parts.append(f"sessions not cut of {uncut}")
    if standing := told.number("standing"):
        parts.append(f"{standing} of the held by what is not ours to take")
    parts += [f"{lost} may be open, and cannot be closed from here"] if lost else []
    parts += [f"journals not read whole: {unread}"] if unread else []
    parts += ["the copy that was named was not read"] if told.flag("copy_unread") else []
    parts += ["this machine's clock may be behind"] if told.flag("clock_behind") else []
    nothing = "nothing was closed" if told.flag("blind") else "nothing to close"
    lines += ["", ", ".join(parts) or nothing]
    if unknown := told.texts("unknown"):
        lines += ["", "what cannot be known from here:", *(f"  - {one}" for one in unknown)]
    lines += ["", *(f"next: {step}" for step in told.texts("next"))]
    desk.answer(told.plain, lines)
    return Exit.OK if told.flag("ok") else Exit.NOT_YET


def _scope(given: Mapping[str, Any]) -> tuple[str, str]:
    """The one thing that was named: (kind, name). Raises AskedWrongly."""
    named = [
        (kind, str(given[kind])) for kind in ("grant", "principal", "target", "role") if given[kind]
    ]
    if given["everything"]:
        named.append(("all", ""))
    if len(named) != 1:
        raise AskedWrongly(
            "bad_scope",
            f"expected one of a grant, `--principal`, `--target`, `--role` and `--all`, got "
            f"{len(named) or 'none'}",
            "name exactly one; see `tidegate revoke --help`",
        )
    if named[0][0] == "grant" and (given["freeze"] or given["here"]):
        raise AskedWrongly(
            "bad_scope",
            "expected a scope with `--freeze` or `--local`, got a grant",
            "name its role",
        )
    return named[0]


def _alone(given: Mapping[str, Any], option: str) -> None:
    if any(given[name] for name in ("grant", "principal", "target", "role", "everything")):
        raise AskedWrongly("bad_scope", f"expected `--{option}` alone", "leave the rest out")


def _confirm(desk: Desk, scope: str, yes: bool) -> None:
    """The scope, typed by somebody who means it. Raises AskedWrongly."""
    if yes:
        return
    if not at_terminal():
        raise AskedWrongly(
            "needs_yes", "expected somebody at a terminal to confirm, got none", "pass `--yes`"
        )
    typed = click.prompt(f"this ends everything in `{scope}`; type `{scope}` to do it", err=True)
    if str(typed).strip() != scope:
        raise AskedWrongly(
            "not_confirmed", f"expected `{scope}`, got something else", "nothing was ended"
        )


def _watch(desk: Desk, server: Server, panic: Answer, patience: timedelta) -> Exit:
    """Look until nothing is closing, each change told once. Leaving ends only the watching."""
    id = panic.exact("id")
    until = time.monotonic() + patience.total_seconds()
    said: set[str] = set()
    failures = 0
    desk.tell(f"{id}: go on watching with `tidegate revoke --status {id}`")
    try:
        while True:
            for line in (panic.text("says"), *_still(panic)):
                if line not in said:
                    said.add(line)
                    desk.tell(line)
            settled = panic.flag("swept") and not panic.number("closing")
            if settled or time.monotonic() >= until:
                return _end(desk, panic)
            desk.local.pause(LOOK_SECONDS)
            try:
                panic, failures = server.get("api", "panics", id), 0
            except WorldFailed as fault:
                failures += 1
                if failures >= MOST_FAILURES:
                    raise
                if failures == 1:
                    desk.tell(f"{fault.message}; still trying")
    except KeyboardInterrupt:
        desk.tell(f"the ends go on; watch with `tidegate revoke --status {id}`")
        _end(desk, panic)
        return Exit.INTERRUPTED


def _end(desk: Desk, panic: Answer, next: str = "") -> Exit:
    """The counts, and nothing that could be taken for more; `next` where no server answers.

    Raises:
        WorldFailed: without the counts.
    """
    for count in COUNTS:
        if panic.number(count) is None:
            raise strange(f"a number `{count}`", panic.plain.get(count))
    until = panic.text("residual_until")
    removed = f"{panic.number('removed') or 0}"
    if until:
        removed += f"; a session taken before may act until {moment(until)}"
    lines = [
        *(text for text in (panic.text("id"), panic.text("says")) if text),
        *fields(
            [
                ("gone", str(panic.number("gone") or 0)),
                ("removed", removed),
                ("still closing", str(panic.number("closing") or 0)),
                ("unverified", str(panic.number("unverified") or 0)),
                (
                    "refused",
                    f"{panic.number('requests')} requests" if panic.number("requests") else "",
                ),
                (
                    "frozen until",
                    moment(panic.text("frozen_until")) if panic.flag("frozen") else "",
                ),
            ]
        ),
        *_still(panic),
    ]
    if not panic.flag("safe"):
        lines.append(_next(panic, next))
    desk.answer(panic.plain, lines)
    return Exit.OK if panic.flag("safe") else Exit.NOT_YET


def _next(panic: Answer, otherwise: str) -> str:
    """What to do about a panic that is not safe; `otherwise` where no server answers."""
    if panic.flag("done"):
        scope = f"{panic.text('scope')} {panic.text('name')}".strip()
        of = "" if scope == "all" else f" of `{scope}`"
        return (
            f"done on this machine: it has ended all{of} that its journal names; do the same on "
            "every other machine that closes"
        )
    id = panic.text("id")
    ask = f"`tidegate revoke --status {id}`" if id else "`tidegate doctor`"
    return f"next: {otherwise or ask}"


def _still(panic: Answer) -> list[str]:
    return [
        f"  {one.text('id')}  {one.text('role')}: {one.text('says')}" for one in panic.some("still")
    ]


def _sources(given: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {name: [] for name in SOURCES}
    for one in given:
        what, equals, where = one.partition("=")
        if what not in found or not equals or not where:
            raise AskedWrongly(
                "bad_source",
                f"expected `journal=FILE`, `witness=DIR` or `database=FILE`, got `{one[:60]}`",
                "see `tidegate recover --help`",
            )
        found[what].append(where)
    return found


def _recalled(one: Answer) -> str:
    why = f": {one.text('why')}" if one.text("why") else ""
    until, at = one.text("residual_until"), one.text("at")
    more = f"; a session taken before may act until {moment(until)}" if until > at else ""
    due = f"ends {moment(one.text('ends_at'))}"
    return f"{one.text('grant')}  {one.text('role')}  {due}  {one.text('fate')}{why}{more}"
