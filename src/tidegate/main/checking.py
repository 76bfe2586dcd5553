"""`tidegate check`: everything wrong or odd with an installation's files, without asking a cloud.

Errors are what a starting server refuses, found by the same functions, and grants it could not end.
Warnings are what loads and likely does not mean that. Changes nothing; reads the database only for
the logins there are.
"""

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tidegate.base.duty import ALL, duties_of
from tidegate.base.errors import AskedWrongly, TidegateError
from tidegate.catalogue import Catalogue, Role, Target
from tidegate.connectors.port import Connector
from tidegate.flow.house import Groups
from tidegate.main.clouds import offline_connectors
from tidegate.main.config import (
    Config,
    RolePart,
    TargetPart,
    database_path,
    load_catalogue,
    load_rule_files,
    read_settings,
)
from tidegate.main.faults import Fault, SettingsBroken
from tidegate.main.groups import empty_groups, people, read_groups
from tidegate.main.left import left_open
from tidegate.main.places import Place, Places
from tidegate.main.wiring import secret_checks
from tidegate.policy.lint import lint
from tidegate.policy.rules import RulesBroken, RuleSet, load_rules

Plain = Mapping[str, Any]

SHOWN = 3  # names of grants in one finding

_LABEL = re.compile(r"[^\s=]+=[^\s=]+")


def findings(path: Path) -> list[Plain]:
    """What is wrong or odd with the settings at `path`, and with the rules and groups they name.

    Errors come first. Broken settings are told alone: what they name is not known then.
    """
    try:
        config, places = read_settings(path)
    except TidegateError as fault:
        return _told(fault, path.name)
    file = _File(path.name, places)
    found: list[Plain] = []
    groups, rules = None, None
    try:
        groups, groups_places = read_groups(config)
        groups_file = _File(config.path(config.identity.groups).name, groups_places)
        found += [one.as_json() for one in _odd_groups(config, groups, groups_file)]
        found += [one.as_json() for one in _odd_names(config, groups, file)]
    except TidegateError as fault:
        found += _told(fault, path.name, places.line(("identity", "groups")))
    try:
        rules = load_rules(load_rule_files(config))
    except TidegateError as fault:
        found += _told(fault, path.name, places.line(("rules", "directory")))
    catalogue = load_catalogue(config)
    if groups is not None and rules is not None:
        found += _odd_rules(rules, catalogue, groups)
    for part in (
        _secrets(config, file),
        _roles(config, catalogue, file),
        _odd(config, rules, file),
        _left(config, file),
    ):
        found += [one.as_json() for one in part]
    return sorted(found, key=lambda one: str(one["level"]))


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    places: Places

    def error(self, place: Place, code: str, message: str, help: str) -> Fault:
        return Fault(
            file=self.name, line=self.places.line(place), code=code, message=message, help=help
        )

    def warning(self, place: Place, code: str, message: str, help: str) -> Fault:
        return Fault(
            file=self.name,
            line=self.places.line(place),
            code=code,
            message=message,
            help=help,
            level="warning",
        )


def _told(fault: TidegateError, file: str, line: int = 0) -> list[Plain]:
    """The findings in an error; `file` and `line` are said of one that brings none."""
    if isinstance(fault, SettingsBroken):
        return [one.as_json() for one in fault.faults]
    if isinstance(fault, RulesBroken):
        return [asdict(one) for one in fault.findings]
    one = Fault(file=file, line=line, code=fault.code, message=fault.message, help=fault.help)
    return [one.as_json()]


def _secrets(config: Config, file: _File) -> Iterator[Fault]:
    for place, check in secret_checks(config):
        try:
            check()
        except AskedWrongly as fault:
            yield file.error(place, fault.code, fault.message, fault.help)


def _roles(config: Config, catalogue: Catalogue, file: _File) -> Iterator[Fault]:
    """What a connector would stumble over later, each entry with its neighbours."""
    try:
        connectors = offline_connectors(config)
    except TidegateError as fault:
        yield file.error(("target",), fault.code, fault.message, fault.help)
        return
    for number, part in enumerate(config.target):
        target = catalogue.targets[part.id]
        roles = tuple(catalogue.roles[f"{part.id}/{one.name}"] for one in part.role)
        for count, role in enumerate(roles):
            for words in _objections(connectors[part.connector], target, role, roles):
                place = _quoted_in(words, number, part, count, part.role[count])
                help = f"see docs/connectors/{part.connector}.md"
                if part.connector == "simulated":
                    help = "see docs/operations.md"
                yield file.error(place, "bad_role", words, help)


def _objections(
    connector: Connector, target: Target, role: Role, roles: Sequence[Role]
) -> Sequence[str]:
    others = tuple(one for one in roles if one.id != role.id)
    return connector.check(target, role, others)


def _quoted_in(words: str, number: int, part: TargetPart, count: int, role: RolePart) -> Place:
    """The place of the value that `words` quote: connectors know values, not where they stand."""
    target: Place = ("target", number)
    at: Place = (*target, "role", count)
    candidates: list[tuple[Place, str]] = [
        ((*at, "kind"), role.kind),
        ((*at, "probe"), role.probe),
        *(((*at, "allows", index), call) for index, call in enumerate(role.allows)),
        ((*at, "arn"), role.arn),
    ]
    if part.aws:
        for name, arns in (("own", part.aws.own), ("protect", part.aws.protect)):
            candidates += [((*target, "aws", name, n), arn) for n, arn in enumerate(arns)]
    candidates.append(((*target, "account"), part.account))
    for place, value in candidates:
        if value and f"got `{value[:100]}`" in words:
            return place
    for place, value in candidates:
        if value and f"`{value}`" in words:
            return place
    return at


def _odd(config: Config, rules: RuleSet | None, file: _File) -> Iterator[Fault]:
    """What is odd about the settings by themselves."""
    database = database_path(config)
    if database is not None and not database.is_file():
        message = f"expected a database at `{config.database.url}`, got no such file"
        help = "`tidegate init` makes it; a server does not start without"
        yield file.warning(("database", "url"), "no_database", message, help)
    if not config.target:
        help = "nothing can be asked for; uncomment the `[[target]]` and fill it in"
        yield file.warning((), "no_targets", "expected a target, got none", help)
    if rules is not None and not rules.rules:
        help = "every request is refused; docs/rules.md tells how to write one"
        yield file.warning(("rules", "directory"), "no_rules", "expected a rule, got none", help)
    for number, part in enumerate(config.target):
        place: Place = ("target", number)
        for index, label in enumerate(part.labels):
            if not _LABEL.fullmatch(label):
                message = f"expected a label like `env=prod`, got `{label[:60]}`"
                help = "rules name labels as they stand here"
                yield file.warning((*place, "labels", index), "odd_label", message, help)
        if part.connector == "aws" and not (part.aws and part.aws.own):
            yield file.warning(
                (*place, "aws"),
                "own_not_named",
                f"expected the ARNs of Tidegate's own roles in `own` of `{part.id}`, got none",
                "changes to Tidegate's own roles are not denied to holders of roles there",
            )


def _left(config: Config, file: _File) -> Iterator[Fault]:
    """Targets that left the settings, or moved to another account, with grants open on them."""
    # Whoever does nothing in clouds leaves that to others, of whose keys nothing is known here.
    for one in left_open(config, duties_of(config.server.worker) or ALL):
        names = ", ".join(f"`{name}`" for name in one.grants[:SHOWN])
        more = f" and {len(one.grants) - SHOWN} more" if len(one.grants) > SHOWN else ""
        message = (
            f"expected target `{one.target}` with account `{one.account}`, on which {names}{more} "
            f"may still act, got {one.why or 'no such target'}"
        )
        if one.why:
            help = "put it back as it was until `tidegate grants` shows them gone"
            yield file.error(("target",), "left_open", message, help)
        else:
            help = "they are ended as it was last reached; leave its keys where they are until then"
            yield file.warning(("target",), "left_open", message, help)


def _odd_names(config: Config, groups: Groups, file: _File) -> Iterator[Fault]:
    """Groups that the settings name: whether they are there, and anybody in them."""
    identity, empty = config.identity, empty_groups(groups)
    if identity.operators not in groups.names or identity.operators in empty:
        got = "an empty one" if identity.operators in groups.names else "no such group"
        message = f"expected a group with members as operators (`{identity.operators}`), got {got}"
        help = "nobody can revoke what is not theirs, or ask `tidegate doctor`"
        yield file.warning(("identity", "operators"), "no_operators", message, help)
    if identity.auditors not in groups.names:
        message = f"expected a known group as auditors, got `{identity.auditors}`"
        help = "add it to the groups file; it may be empty"
        yield file.warning(("identity", "auditors"), "unknown_group", message, help)
    for number, part in enumerate(config.target):
        kind, _, name = part.owner.partition(":")
        if part.owner and (kind != "group" or name not in groups.names):
            message = f"expected `group:NAME` of a known group as owner, got `{part.owner[:60]}`"
            help = "nobody owns the target otherwise"
            yield file.warning(("target", number, "owner"), "unknown_owner", message, help)


def _odd_groups(config: Config, groups: Groups, file: _File) -> Iterator[Fault]:
    """Names in the groups file that lead nowhere."""
    for name, above in groups.within.items():
        for number, one in enumerate(above):
            if one not in groups.names:
                place: Place = ("group", name, "within", number)
                message = f"expected a group of this file, got `{one}`"
                help = f"add `[group.{one}]`, which may be empty, or correct the name"
                yield file.warning(place, "unknown_group", message, help)
    known = _logins(database_path(config))
    if known is None:
        return
    for name, logins in groups.members.items():
        for number, login in enumerate(logins):
            if login not in known:
                place = ("group", name, "members", number)
                message = f"expected a login with an account, got `{login}`"
                help = f"`tidegate account add {login}`; until then it is in no group"
                yield file.warning(place, "unknown_login", message, help)


def _odd_rules(rules: RuleSet, catalogue: Catalogue, groups: Groups) -> list[Plain]:
    found = [asdict(one) for one in lint(rules, catalogue, groups.names, empty_groups(groups))]
    held = people(groups)
    for rule in rules.rules.values():
        for need in rule.requirement.needs:
            count = len(held.get(need.group, ()))
            if 0 < count < need.count:
                fault = Fault(
                    file=rule.file,
                    line=rule.line,
                    code="too_few",
                    message=f"expected at least {need.count} people in group `{need.group}`, "
                    f"which `{rule.id}` asks for, got {count}",
                    help="add members, or requests under this rule wait until they lapse",
                    level="warning",
                )
                found.append(dict(fault.as_json()))
    return list(found)


def _logins(database: Path | None) -> frozenset[str] | None:
    """The logins that have an account; None when that cannot be read.

    NB. not through the store: that would bring the schema up to date, and a check changes nothing.
    Where no write-ahead log lies beside it nobody has it open; `immutable` then makes none either.
    """
    if database is None or not database.is_file():
        return None
    mode = "ro" if Path(f"{database}-wal").exists() else "ro&immutable=1"
    try:
        with closing(sqlite3.connect(f"file:{quote(str(database))}?mode={mode}", uri=True)) as db:
            return frozenset(str(row[0]) for row in db.execute("SELECT login FROM accounts"))
    except sqlite3.Error:
        return None
