"""What the command line may do on this machine: the wiring behind `init`, `serve`, `check`, `demo`,
`account` and the checks of a log.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog

from tidegate.base.errors import AskedWrongly, TidegateError
from tidegate.catalogue import Catalogue
from tidegate.connectors.port import Connector
from tidegate.evidence.verify import LogReport
from tidegate.flow.house import Groups, Laws
from tidegate.flow.people import LOCAL, shown_name
from tidegate.flow.proving import check_log
from tidegate.main.config import Config, load_config, load_rule_files
from tidegate.main.first import make_installation
from tidegate.main.insight import make_insight
from tidegate.main.logs import log_plainly, log_quietly
from tidegate.main.wiring import (
    make_connectors,
    open_house,
    open_store,
    read_laws,
    read_signer,
    secret_names,
    start,
)
from tidegate.policy.lint import lint
from tidegate.policy.rules import RulesBroken, load_rules
from tidegate.shell import identity
from tidegate.shell.cli.local import Account
from tidegate.store import compare

Plain = Mapping[str, Any]


def init(directory: Path, origin: str, accounts: Sequence[Account]) -> Plain:
    """Make an installation; every account named is an operator."""
    log_quietly()
    made = make_installation(directory, origin, tuple(one.login for one in accounts))
    house = open_house(load_config(made.config), create=True)
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


def serve(config: Path, host: str, port: int) -> int:
    """Serve until told to stop."""
    from tidegate.shell.api.app import make_app
    from tidegate.shell.api.serving import serve

    log_plainly()
    running = start(config)
    listen_host, listen_port = _listen(running.config)
    log = structlog.get_logger("tidegate.serve")
    app = make_app(running.house, running.refusals, make_insight(running))
    serve(
        app,
        host or listen_host,
        port or listen_port,
        running.close,
        on_start=lambda at, number: log.info("serving", host=at, port=number),
        allow_remote=running.config.server.behind_tls_proxy,
    )
    return 0


def check(config: Path) -> Sequence[Plain]:
    """Everything wrong or odd with an installation's files, without touching a cloud."""
    log_quietly()
    try:
        found = load_config(config)
    except TidegateError as fault:
        return [_finding("error", config.name, fault)]
    findings: list[Plain] = []
    try:
        laws = read_laws(found)
    except RulesBroken as broken:
        return [asdict(one) for one in broken.findings]
    except TidegateError as fault:
        return [_finding("error", found.identity.groups, fault)]
    findings += [asdict(one) for one in _lint(found, laws)]
    findings += _secrets(found, config.name)
    findings += _roles(found, laws.catalogue, config.name)
    return findings


def account_add(config: Path, account: Account) -> Plain:
    """Make a local account."""
    log_quietly()
    house = open_house(load_config(config))
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
    house = open_house(load_config(config))
    try:
        return [
            {
                "principal": one.id,
                "login": one.subject,
                "name": shown_name(house, one.id),
                "enabled": one.enabled,
                "groups": sorted(_file_groups(house.laws.groups, one.subject)),
            }
            for one in house.store.principals()
            if one.issuer == LOCAL
        ]
    finally:
        house.store.close()


def account_enable(config: Path, login: str, enabled: bool) -> Plain:
    """Let an account sign in, or stop it and end its tokens."""
    log_quietly()
    house = open_house(load_config(config))
    try:
        act = identity.enable if enabled else identity.disable
        made = act(house, login)
        return {"principal": made.id, "login": login, "enabled": made.enabled}
    finally:
        house.store.close()


def account_password(config: Path, login: str, password: str) -> Plain:
    """Set a new password and end every token of the account."""
    log_quietly()
    house = open_house(load_config(config))
    try:
        identity.set_password(house, login, password)
        found = house.store.principal_by(LOCAL, login)
        return {"principal": found.id if found else "", "login": login}
    finally:
        house.store.close()


def verify_log(config: Path, since: Sequence[str]) -> LogReport:
    """Check the whole log against remembered or witnessed checkpoints."""
    log_quietly()
    found = load_config(config)
    store = open_store(found)
    try:
        return check_log(store, read_signer(found).verifier(), since)
    finally:
        store.close()


def rebuild_check(config: Path) -> Sequence[Plain]:
    """Rebuild the state from events; every row that differs (I7)."""
    log_quietly()
    store = open_store(load_config(config))
    try:
        return [asdict(one) for one in compare(store)]
    finally:
        store.close()


def _listen(config: Config) -> tuple[str, int]:
    host, _, port = config.server.listen.rpartition(":")
    if not host or not port.isdigit() or not 0 <= int(port) <= 65_535:
        raise AskedWrongly(
            "bad_listen",
            f"expected `server.listen` like `127.0.0.1:8470`, got `{config.server.listen[:60]}`",
            "give an address and a port",
        )
    return host.strip("[]"), int(port)


def _lint(config: Config, laws: Laws) -> Sequence[Any]:
    groups = laws.groups
    empty = frozenset(name for name in groups.names if not groups.members.get(name))
    return lint(load_rules(load_rule_files(config)), laws.catalogue, groups.names, empty)


def _secrets(config: Config, file: str) -> list[Plain]:
    found: list[Plain] = []
    for check in secret_names(config):
        try:
            check()
        except TidegateError as fault:
            found.append(_finding("error", file, fault))
    return found


def _roles(config: Config, catalogue: Catalogue, file: str) -> list[Plain]:
    """What a connector would stumble over later, each entry with its neighbours."""
    try:
        connectors: Mapping[str, Connector] = make_connectors(config)
    except TidegateError as fault:
        return [_finding("error", file, fault)]
    found: list[Plain] = []
    for role in catalogue.roles.values():
        target = catalogue.target(role.target)
        others = tuple(r for r in catalogue.roles.values() if r.target == target.id)
        for words in connectors[target.connector].check(target, role, others):
            found.append(
                {
                    "level": "error",
                    "file": file,
                    "line": 0,
                    "expected": "a role that can be opened and closed",
                    "got": words,
                    "help": "see docs/connectors/aws.md",
                    "code": "bad_role",
                }
            )
    return found


def _file_groups(groups: Groups, login: str) -> frozenset[str]:
    return groups.closure(frozenset(name for name, who in groups.members.items() if login in who))


def _finding(level: str, file: str, fault: TidegateError) -> Plain:
    return {
        "level": level,
        "file": file,
        "line": getattr(fault, "line", 0),
        "expected": "",
        "got": fault.message,
        "help": fault.help,
        "code": fault.code,
    }
