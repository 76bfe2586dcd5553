"""Reading `tidegate.toml`: the one file an operator writes, besides rules and groups.

Every mistake is reported with file, line, what was expected and what was got. Secrets are never in
the file: `env:NAME` or `file:/run/secrets/x` say where one is, and only `secret` reads it.
"""

import os
import re
import tomllib
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from tidegate.base.errors import AskedWrongly, TidegateError
from tidegate.base.text import clean_name
from tidegate.catalogue import Catalogue, Role, Target
from tidegate.flow.house import Groups

LONGEST_FILE = 1_000_000  # bytes; a thousand targets fit


class _Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    pass


class ServerPart(_Strict):
    """Where the API listens. Beyond loopback only behind something that ends TLS."""

    listen: str = "127.0.0.1:8470"
    behind_tls_proxy: bool = False


class DatabasePart(_Strict):
    """`sqlite:///FILE`, relative to the configuration file."""

    url: str = "sqlite:///tidegate.db"


class EvidencePart(_Strict):
    """The log's origin (chosen once, never changed), its key and the closing journal."""

    origin: str
    key: str = "file:keys/log.key"
    journal: str = "closing.journal"


class WitnessPart(_Strict):
    """Where checkpoints are published: a directory, an HTTP endpoint, or both."""

    directory: str = ""
    url: str = ""


class IdentityPart(_Strict):
    """The groups file, and the groups that look after and may read this installation."""

    groups: str = "groups.toml"
    operators: str = "tidegate-operators"
    auditors: str = "tidegate-auditors"


class RulesPart(_Strict):
    """Where the `*.cedar` files are."""

    directory: str = "policies"


class AwsPart(_Strict):
    """How to reach one AWS account. Without keys, the process's own identity is used."""

    region: str = "us-east-1"
    endpoint_url: str = ""
    access_key_id: str = ""
    secret_access_key: str = ""
    own: list[str] = []
    protect: list[str] = []


class RolePart(_Strict):
    """One role that may be held."""

    name: str
    kind: str = "iam-role"
    arn: str = ""
    allows: list[str] = []
    probe: str = ""
    title: str = ""


class TargetPart(_Strict):
    """One target with its roles."""

    id: str
    connector: str
    account: str
    owner: str = ""
    time_zone: str = "UTC"
    labels: list[str] = []
    aws: AwsPart | None = None
    role: list[RolePart] = []


class Config(_Strict):
    """The whole file. `home` is the directory its relative paths start from."""

    evidence: EvidencePart
    server: ServerPart = msgspec.field(default_factory=ServerPart)
    database: DatabasePart = msgspec.field(default_factory=DatabasePart)
    witness: WitnessPart = msgspec.field(default_factory=WitnessPart)
    identity: IdentityPart = msgspec.field(default_factory=IdentityPart)
    rules: RulesPart = msgspec.field(default_factory=RulesPart)
    target: list[TargetPart] = []
    home: str = ""

    def path(self, name: str) -> Path:
        """`name` as seen from the configuration file."""
        return Path(self.home) / name


def load_config(path: Path) -> Config:
    """Read and check the file.

    Raises:
        AskedWrongly: `config_missing`, `config_syntax` or `config_value`, with the line.
    """
    text = _read(path)
    try:
        plain = tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        raise AskedWrongly(
            "config_syntax", f"{path.name}: expected TOML, got: {fault}", "mend that line"
        ) from None
    plain["home"] = str(path.resolve().parent)
    try:
        config = msgspec.convert(plain, Config)
    except msgspec.ValidationError as fault:
        raise _misvalued(path, text, str(fault)) from None
    _check_targets(path, text, config)
    return config


def load_catalogue(config: Config) -> Catalogue:
    """The targets and roles the file describes."""
    targets, roles = {}, {}
    for part in config.target:
        targets[part.id] = Target(
            id=part.id,
            connector=part.connector,
            account=part.account,
            owner=part.owner,
            time_zone=part.time_zone,
            labels=tuple(sorted(part.labels)),
        )
        for role in part.role:
            name = f"{part.id}/{role.name}"
            roles[name] = Role(
                id=name,
                kind=role.kind,
                native={"arn": role.arn} if role.arn else {},
                allows=tuple(sorted(role.allows)),
                probe=role.probe,
                title=role.title,
            )
    return Catalogue(targets, roles)


def load_groups(config: Config) -> Groups:
    """The groups file: `[group.NAME]` with `members` (logins) and `within` (groups)."""
    path = config.path(config.identity.groups)
    if not path.exists():
        return Groups()
    try:
        plain = tomllib.loads(_read(path))
        table = plain.get("group", {})
        if set(plain) - {"group"} or not isinstance(table, dict):
            raise AskedWrongly(
                "groups_value",
                f"{path.name}: expected only `[group.NAME]` tables",
                "see docs/operations.md",
            )
        members, within = {}, {}
        for name, body in table.items():
            clean_name("group", name)
            members[name] = _names(path, name, body, "members")
            within[name] = _names(path, name, body, "within")
    except tomllib.TOMLDecodeError as fault:
        raise AskedWrongly(
            "groups_syntax", f"{path.name}: expected TOML, got: {fault}", "mend that line"
        ) from None
    return Groups(members=members, within=within)


def load_rule_files(config: Config) -> dict[str, str]:
    """The text of every `*.cedar` file, by name."""
    directory = config.path(config.rules.directory)
    return {path.name: _read(path) for path in sorted(directory.glob("*.cedar"))}


def secret(config: Config, reference: str) -> str:
    """The secret behind `env:NAME` or `file:PATH`. Raises AskedWrongly, never with the value."""
    kind, _, name = reference.partition(":")
    if kind == "env" and os.environ.get(name):
        return os.environ[name]
    if kind == "file":
        try:
            return config.path(name).read_text().strip()
        except OSError as fault:
            raise AskedWrongly(
                "secret_missing",
                f"cannot read the secret file `{name}`: {fault.strerror}",
                "make it",
            ) from None
    raise AskedWrongly(
        "secret_missing",
        f"expected `env:NAME` (set) or `file:PATH`, got `{kind}:…`",
        "secrets are never written into the configuration",
    )


def line_of(text: str, *keys: str | int) -> int:
    """The line (from 1) a value stands on, found by walking table headers and keys; 1 if unsure."""
    lines = text.splitlines()
    here, header = 0, ""
    for key in keys:
        if isinstance(key, int):
            pattern = re.compile(rf"\s*\[\[{re.escape(header)}\]\]")
            places = [n for n in range(here, len(lines)) if pattern.match(lines[n])]
            if key < len(places):
                here = places[key]
            continue
        header = f"{header}.{key}" if header else key
        pattern = re.compile(rf"\s*(?:\[\[?{re.escape(header)}\]\]?|{re.escape(key)}\s*=)")
        here = next((n for n in range(here, len(lines)) if pattern.match(lines[n])), here)
    return here + 1


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > LONGEST_FILE:
            raise AskedWrongly(
                "file_too_long", f"{path.name}: expected at most {LONGEST_FILE} bytes", "split it"
            )
        return path.read_text(encoding="utf-8")
    except OSError as fault:
        raise AskedWrongly(
            "config_missing",
            f"cannot read `{path.name}`: {fault.strerror}",
            "`tidegate init` makes a first one; `--config FILE` names another",
        ) from None
    except UnicodeDecodeError:
        raise AskedWrongly("config_syntax", f"{path.name}: expected UTF-8", "save it so") from None


def _misvalued(path: Path, text: str, fault: str) -> AskedWrongly:
    """msgspec's `… - at `$.target[0].role`` told with the line."""
    what, _, where = fault.partition(" - at `$")
    keys: list[str | int] = []
    for name, index in re.findall(r"\.([A-Za-z_]+)|\[(\d+)\]", where):
        keys.append(name or int(index))
    named = re.search(r"unknown field `([^`]+)`", fault)
    if named:
        keys.append(named[1])
    line = line_of(text, *keys)
    shown = ".".join(str(key) for key in keys) or "the file"
    return AskedWrongly(
        "config_value",
        f"{path.name}:{line}: {shown}: {what[0].lower()}{what[1:]}",
        "see docs/operations.md for every key",
    )


def _check_targets(path: Path, text: str, config: Config) -> None:
    seen: set[str] = set()
    for place, part in enumerate(config.target):
        try:
            clean_name("target", part.id)
            for role in part.role:
                clean_name("role", role.name)
            names = [part.id, *(f"{part.id}/{role.name}" for role in part.role)]
            for name in names:
                if name in seen:
                    raise AskedWrongly("config_value", f"`{name}` is there twice", "rename one")
                seen.add(name)
            _check_zone(part.time_zone)
        except TidegateError as fault:
            line = line_of(text, "target", place)
            raise AskedWrongly(
                "config_value", f"{path.name}:{line}: {fault.message}", fault.help
            ) from None


def _check_zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise AskedWrongly(
            "config_value",
            f"expected a time zone like `Europe/Berlin`, got `{name[:40]}`",
            "use a name of the IANA time zone database",
        ) from None


def _names(path: Path, group: str, body: Any, key: str) -> tuple[str, ...]:
    if not isinstance(body, dict) or set(body) - {"members", "within"}:
        raise AskedWrongly(
            "groups_value",
            f"{path.name}: expected only `members` and `within` in `[group.{group}]`",
            'for example `members = ["ana"]`',
        )
    names = body.get(key, [])
    if not isinstance(names, list):
        raise AskedWrongly(
            "groups_value", f"{path.name}: expected a list for {key} of `{group}`", "use [ ]"
        )
    return tuple(clean_name("login" if key == "members" else "group", str(n)) for n in names)
