"""What the command line may do on this machine: the wiring behind `init`, `serve`, `check`, `demo`,
`account` and the checks of a log.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog

from tidegate.base.duty import NONE, SILENT, duties_of, workers
from tidegate.base.errors import AskedWrongly, WorldFailed
from tidegate.evidence.checkpoint import (
    Keys,
    open_checkpoint,
    parse_checkpoint,
    parse_keys,
    write_keys,
)
from tidegate.evidence.journal import ClosingJournal
from tidegate.evidence.verify import LogReport
from tidegate.evidence.verify import verify_log as verify
from tidegate.evidence.witness import read_directory, read_forked, remembered
from tidegate.evidence.witnesses import newest_in
from tidegate.flow.house import Groups
from tidegate.flow.people import shown_name
from tidegate.main.checking import findings
from tidegate.main.clouds import Clouds
from tidegate.main.config import (
    Config,
    database_password,
    database_path,
    database_url,
    load_config,
)
from tidegate.main.first import make_installation, unmade_on_failure
from tidegate.main.insight import make_insight
from tidegate.main.keys import coming_signer, described, key_files, log_keys, prepare, seal
from tidegate.main.logs import log_plainly, log_quietly
from tidegate.main.only_server import OnlyServer, said
from tidegate.main.stopping import ToldToStop, stopped_by_signals
from tidegate.main.values import listen_address
from tidegate.main.wiring import (
    clock,
    open_house,
    open_store,
    read_signer,
    start,
    witness_memory,
)
from tidegate.shell import identity
from tidegate.shell.cli.local import Account
from tidegate.store import compare
from tidegate.store.sealed import sealed_log

Plain = Mapping[str, Any]

FIRST = "mend that first; nothing was changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogChecked:
    """A report on the whole log, and which checkpoints it was held against: where from, size."""

    report: LogReport
    since: tuple[tuple[str, int], ...]

    @property
    def ok(self) -> bool:
        """Whether everything held."""
        return self.report.ok

    def as_json(self) -> dict[str, Any]:
        """The report with `since`: one `{from, size}` for each checkpoint it was held against."""
        used = [{"from": where, "size": size} for where, size in self.since]
        return {**self.report.as_json(), "since": used}


def init(directory: Path, origin: str, accounts: Sequence[Account], database: str = "") -> Plain:
    """Make an installation; every account named is an operator. All of it is made, or nothing.

    `database` is the setting `[database] url`; empty: a file beside the settings.
    """
    log_quietly()
    logins = tuple(one.login for one in accounts)
    for one in accounts:
        identity.check_account(one.login, one.password, one.mail, one.name)
    if len(set(logins)) < len(logins):
        raise AskedWrongly("login_taken", "expected each login once, got one twice", "leave it out")
    made = make_installation(directory, origin, logins, database=database)
    with unmade_on_failure(made):
        house = open_house(load_config(made.config), create=True, clouds=Clouds(NONE))
        try:
            for one in accounts:
                identity.add_account(house, one.login, one.password, one.name, one.mail)
        finally:
            house.store.close()
    return {
        "directory": str(made.directory),
        "config": str(made.config),
        "verifier": made.verifier,
    }


def work(config: Path, worker: str) -> int:
    """Run a worker without an API until told to stop."""
    log_plainly()
    with stopped_by_signals() as stopped:
        log = structlog.get_logger("tidegate.worker")
        try:
            running = start(config, duties_of(worker), stopped)
        except ToldToStop:
            log.info("told to stop while starting")
            return 0
        try:
            log.info("working", worker=running.house.me, duties=worker)
            stopped.wait()
        finally:
            running.close()
    return 0


def serve(config: Path, host: str, port: int, worker: str = "") -> int:
    """Serve until told to stop."""
    from tidegate.shell.api.app import make_app
    from tidegate.shell.api.serving import serve

    log_plainly()
    log = structlog.get_logger("tidegate.serve")
    with stopped_by_signals() as stopped:
        try:
            running = start(config, duties_of(worker) if worker else None, stopped)
        except ToldToStop:
            log.info("told to stop while starting; nothing was served")
            return 0
        server = running.config.server
        listen_host, listen_port = listen_address(server.listen, remote=server.behind_tls_proxy)
        app = make_app(
            running.house,
            running.refusals,
            make_insight(running),
            behind_proxy=server.behind_tls_proxy,
        )
        serve(
            app,
            host or listen_host,
            port or listen_port,
            running.close,
            on_start=lambda at, number: log.info("serving", host=at, port=number),
            allow_remote=server.behind_tls_proxy,
            stopped=stopped.is_set,
        )
        if stopped.is_set():
            log.info("told to stop while starting; nothing was served")
    return 0


def check(config: Path) -> Sequence[Plain]:
    """Everything wrong or odd with an installation's files, without touching a cloud."""
    log_quietly()
    return findings(config)


def account_add(config: Path, account: Account) -> Plain:
    """Make a local account."""
    log_quietly()
    house = open_house(load_config(config), clouds=Clouds(NONE))
    try:
        made = identity.add_account(
            house, account.login, account.password, account.name, account.mail
        )
        return {"principal": made.id, "login": account.login, "enabled": made.enabled}
    finally:
        house.store.close()


def account_list(config: Path) -> Sequence[Plain]:
    """Every local account with the groups the file gives it."""
    log_quietly()
    house = open_house(load_config(config), clouds=Clouds(NONE))
    try:
        return [
            {
                "principal": one.principal,
                "login": one.login,
                "name": shown_name(house, one.principal),
                "enabled": house.store.principal(one.principal).enabled,
                "groups": sorted(_file_groups(house.laws.groups, one.login)),
            }
            for one in house.store.accounts()
        ]
    finally:
        house.store.close()


def account_enable(config: Path, login: str, enabled: bool) -> Plain:
    """Let an account sign in, or stop it and end its tokens."""
    log_quietly()
    house = open_house(load_config(config), clouds=Clouds(NONE))
    try:
        act = identity.enable if enabled else identity.disable
        made = act(house, login)
        return {"principal": made.id, "login": login, "enabled": made.enabled}
    finally:
        house.store.close()


def account_password(config: Path, login: str, password: str) -> Plain:
    """Set a new password and end every token of the account."""
    log_quietly()
    house = open_house(load_config(config), clouds=Clouds(NONE))
    try:
        identity.set_password(house, login, password)
        found = house.store.account(login)
        return {"principal": found.principal if found else "", "login": login}
    finally:
        house.store.close()


def verify_log(config: Path, since: Sequence[str], key: str = "") -> LogChecked:
    """Check the whole log against `since`, and every checkpoint kept by its witnesses here.

    `key` is the text of a key file to go by, the first key of the log is enough; without one the
    installation's own signing key is what is trusted.

    Raises:
        AskedWrongly: `key` is no key file.
        EvidenceBroken: without `key`: one of those checkpoints is none of this log's keys.
        WorldFailed: the witness directory cannot be read.
    """
    log_quietly()
    found = load_config(config)
    notes = [("--since", note) for note in since]
    more = _witnessed(found, notes)
    report = _checked(found, [note for _, note in notes] + more, key)
    used = [(where, parse_checkpoint(note).size) for where, note in notes]
    if more:
        largest = max(parse_checkpoint(note).size for note in more)
        used.append((f"{len(more)} more of the witnesses", largest))
    return LogChecked(report=report, since=tuple(used))


def _witnessed(config: Config, notes: list[tuple[str, str]]) -> list[str]:
    """Adds the newest and the refused checkpoints to `notes`; returns all others, each once.

    Raises WorldFailed: they are there and cannot be read.
    """
    more: list[str] = []
    directory, memory = config.witness.directory, witness_memory(config)
    try:
        if directory and (newest := newest_in(config.path(directory))) is not None:
            notes.append((f"{directory}/latest", newest))
        for place in ([config.path(directory)] if directory else []) + [memory]:
            if place.is_dir():
                notes += [(f"{place.name}, refused", note) for note in read_forked(place)]
                more += read_directory(place) + remembered(place)
    except OSError as fault:
        raise WorldFailed(
            "witness_unreadable", f"witness directory: {fault.strerror}", "mend its rights"
        ) from None
    known = {note for _, note in notes}
    return [note for note in dict.fromkeys(more) if note not in known]


def _checked(config: Config, notes: Sequence[str], key: str) -> LogReport:
    """The report on the whole log. With a `key` from outside, its own is not even opened."""
    if key:
        keys: Keys = parse_keys(key)
        with sealed_log(database_url(config), database_password(config)) as (head, leaves, hashes):
            return verify(leaves, head.checkpoint_text, keys, since=notes, hashes=hashes)
    store = open_store(config)
    try:
        keys = log_keys(store, read_signer(config).verifier())
        remembered = [open_checkpoint(note, keys) for note in notes]
        with store.whole_log() as (head, leaves, hashes):
            return verify(leaves, head.checkpoint_text, keys, since=remembered, hashes=hashes)
    finally:
        store.close()


def key_show(config: Path) -> Plain:
    """The public keys of the log with the sizes they sign, and whether a change was cut short."""
    log_quietly()
    found = load_config(config)
    store = open_store(found)
    try:
        newest = read_signer(found).verifier()
        return {
            "origin": newest.name,
            "keys": described(store, newest),
            "public": write_keys(log_keys(store, newest)),
            "left_over": coming_signer(found) is not None,
        }
    finally:
        store.close()


def key_rotate(config: Path) -> Plain:
    """Give the log a new key, while no server runs.

    Raises:
        AskedWrongly: `already_running`, `key_not_in_file`, `cannot_write`; nothing was changed, or
            (after `cannot_write`) repeating finishes it.
        EvidenceClosed: the change could not be sealed; the old key is still the log's.
    """
    log_quietly()
    found = load_config(config)
    files = key_files(found)
    journal = ClosingJournal(found.path(found.evidence.journal))
    only = OnlyServer(journal, database_path(found))
    if database_path(found) is None:  # other processes say that they are alive
        _hold_alone(journal)
    only.hold()
    try:
        for away in only.troubles():
            raise WorldFailed(away.code, away.message, FIRST)
        _only_one_here(found)  # finishes a change that was cut short; refuses a key not ours
        before = read_signer(found).verifier()
        change = seal(found, prepare(files, found.evidence.origin, os.urandom), clock)
        open_store(found).close()  # and this one's files take their places
    finally:
        only.release()
    return {
        "origin": before.name,
        "event": change.index,
        "before": before.text(),
        "after": change.after.text(),
        "public": str(files.public),
        "kept": str(files.past(change.index)),
    }


def _hold_alone(journal: ClosingJournal) -> None:
    """No second change on this machine. Raises AskedWrongly (`already_running`), WorldFailed."""
    try:
        journal.hold()
    except OSError as fault:
        raise WorldFailed(
            "journal_away", f"the closing journal cannot be held: {said(fault)}", FIRST
        ) from None


def _only_one_here(config: Config) -> None:
    """Open the store once. Raises AskedWrongly (`already_running`) while a process works on it.

    On PostgreSQL those may be anywhere: whoever gave a sign of life lately counts, so after a crash
    it takes SILENT. On SQLite the hold on both files has told already.
    """
    store = open_store(config)
    try:
        now = store.now()
        alive = [one.id for one in workers(store.beats()) if not one.silent(now)]
    finally:
        store.close()
    if alive and database_path(config) is None:
        raise AskedWrongly(
            "already_running",
            f"expected no process at work on this database, got {len(alive)}: {', '.join(alive)}",
            "stop every `serve` and `worker`, then again; one that was killed counts for "
            f"{SILENT.total_seconds():g}s",
        )


def rebuild_check(config: Path) -> Sequence[Plain]:
    """Rebuild the state from events; every row that differs (I7)."""
    log_quietly()
    store = open_store(load_config(config))
    try:
        return [asdict(one) for one in compare(store)]
    finally:
        store.close()


def _file_groups(groups: Groups, login: str) -> frozenset[str]:
    return groups.closure(frozenset(name for name, who in groups.members.items() if login in who))
