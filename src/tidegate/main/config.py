"""Reading `tidegate.toml`: the one file an operator writes, besides rules and groups.

Every mistake is reported with file, line, what was expected and what was got, all of them at once.
Secrets are never in the file: `env:NAME` or `file:/run/secrets/x` say where one is, and only
`secret` reads it.
"""

import os
import re
import tomllib
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec

from tidegate.base.errors import AskedWrongly
from tidegate.base.text import clean_name
from tidegate.base.when import parse_duration
from tidegate.catalogue import Catalogue, Role, Target
from tidegate.connectors.role_kinds import IAM_ROLE, PERMISSION_SET
from tidegate.main import center
from tidegate.main.center import IdentityCenterPart
from tidegate.main.faults import MOST_FAULTS, Fault, SettingsBroken
from tidegate.main.places import Place, Places
from tidegate.main.values import (
    check_connector,
    check_database,
    check_witness,
    check_worker,
    check_zone,
    database_file,
    listen_address,
    warn_before,
)

LONGEST_FILE = 1_000_000  # bytes; a thousand targets fit

_HELP = "see docs/operations.md for every key"
_MAKE = "`tidegate init` makes a first one; `--config FILE` names another"
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}", re.ASCII)
# The words of the parser behind `msgspec`, as a person would say them.
_WORDS = {
    "`object`": "a table",
    "`array`": "a list",
    "`str`": "text",
    "`bool`": "true or false",
    "`int`": "a whole number",
    "`float`": "a number",
}


class _Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    pass


class ServerPart(_Strict):
    """Where the API listens, beyond loopback only behind something that ends TLS, and which worker
    runs in its process: `all`, `open`, `close` or `none`.
    """

    listen: str = "127.0.0.1:8470"
    behind_tls_proxy: bool = False
    worker: str = "all"


class DatabasePart(_Strict):
    """`sqlite:///FILE`, relative to the configuration file, or `postgresql://…`.

    `password` is where a server's stands, `env:NAME` or `file:PATH`; never in the URL.
    """

    url: str = "sqlite:///tidegate.db"
    password: str = ""


class EvidencePart(_Strict):
    """The log's origin (chosen once, never changed), its key and the closing journal."""

    origin: str
    key: str = "file:keys/log.key"
    journal: str = "closing.journal"


class WitnessPart(_Strict):
    """Where checkpoints are published: a directory, an HTTP endpoint, or both."""

    directory: str = ""
    url: str = ""


class WarnPart(_Strict):
    """How long before the end of a window its holder is told."""

    before: str = "10m"


class LatenessPart(_Strict):
    """How late an end may be before it is a finding; empty: what each role kind promises."""

    bound: str = ""

    @property
    def span(self) -> timedelta | None:
        """The bound, when there is one. Raises AskedWrongly."""
        return parse_duration(self.bound) if self.bound else None


class IdentityPart(_Strict):
    """The groups file, and the groups that look after and may read this installation."""

    groups: str = "groups.toml"
    operators: str = "tidegate-operators"
    auditors: str = "tidegate-auditors"


class RulesPart(_Strict):
    """Where the `*.cedar` files are."""

    directory: str = "policies"


class AwsPart(_Strict):
    """How to reach one AWS account. Without keys, the process's own identity is used.

    The keys of the opener and of the closer, where given, stand in for the others. `schedule` and
    `management` are about its permission sets: whether each assignment gets a deadline in the
    cloud, and that it is the organisation's management account.
    """

    region: str = "us-east-1"
    endpoint_url: str = ""
    access_key_id: str = ""
    secret_access_key: str = ""
    opener_access_key_id: str = ""
    opener_secret_access_key: str = ""
    closer_access_key_id: str = ""
    closer_secret_access_key: str = ""
    own: list[str] = []
    protect: list[str] = []
    schedule: bool = True
    management: bool = False

    def keys(self) -> dict[str, tuple[str, str]]:
        """Where each pair of keys is, by the prefix of its two settings: empty, `opener_`, …"""
        return {
            "": (self.access_key_id, self.secret_access_key),
            "opener_": (self.opener_access_key_id, self.opener_secret_access_key),
            "closer_": (self.closer_access_key_id, self.closer_secret_access_key),
        }


class RolePart(_Strict):
    """One role that may be held."""

    name: str
    kind: str = IAM_ROLE
    arn: str = ""
    session: str = ""
    allows: list[str] = []
    probe: str = ""
    title: str = ""

    def native(self) -> dict[str, str]:
        """The cloud's own ids, as the catalogue keeps them."""
        native = {"arn": self.arn} if self.arn else {}
        if self.kind == PERMISSION_SET:
            native["session_seconds"] = str(center.session_seconds(self.session))
        return native


class TargetPart(_Strict):
    """One target with its roles. `pace`: looks a second it bears, where the default is wrong."""

    id: str
    connector: str
    account: str
    owner: str = ""
    time_zone: str = "UTC"
    labels: list[str] = []
    pace: Annotated[float, msgspec.Meta(gt=0, le=1000)] | None = None
    aws: AwsPart | None = None
    role: list[RolePart] = []


class Config(_Strict):
    """The whole file. `home` is the directory its relative paths start from."""

    evidence: EvidencePart
    server: ServerPart = msgspec.field(default_factory=ServerPart)
    database: DatabasePart = msgspec.field(default_factory=DatabasePart)
    witness: WitnessPart = msgspec.field(default_factory=WitnessPart)
    warn: WarnPart = msgspec.field(default_factory=WarnPart)
    lateness: LatenessPart = msgspec.field(default_factory=LatenessPart)
    identity: IdentityPart = msgspec.field(default_factory=IdentityPart)
    rules: RulesPart = msgspec.field(default_factory=RulesPart)
    identity_center: IdentityCenterPart | None = None
    target: list[TargetPart] = []
    home: str = ""

    def path(self, name: str) -> Path:
        """`name` as seen from the configuration file."""
        return Path(self.home) / name


def load_config(path: Path) -> Config:
    """Read and check the file.

    Raises:
        AskedWrongly: `config_missing`.
        SettingsBroken: with every fault and its line.
    """
    return read_settings(path)[0]


def read_settings(path: Path) -> tuple[Config, Places]:
    """`load_config`, and where each value stands."""
    plain, places = read_toml(path, _MAKE)
    faults = Faults(path.name, places)
    if "home" in plain:
        faults.note(("home",), "config_value", "expected no such key, got `home`", _HELP)
    plain["home"] = str(path.resolve().parent)
    config = _convert(plain, faults)
    _check_values(config, faults)
    _check_targets(config, faults)
    faults.settle()
    return config, places


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
            pace=part.pace,
        )
        for role in part.role:
            name = f"{part.id}/{role.name}"
            roles[name] = Role(
                id=name,
                kind=role.kind,
                native=role.native(),
                allows=tuple(sorted(role.allows)),
                probe=role.probe,
                title=role.title,
            )
    return Catalogue(targets, roles)


def load_rule_files(config: Config) -> dict[str, str]:
    """The text of every `*.cedar` file, by name. An empty directory is sound: it permits nothing.

    Raises:
        AskedWrongly: `config_missing`: no such directory. It is never taken for one without rules.
        SettingsBroken: a file that is no UTF-8, or too long.
    """
    directory = config.path(config.rules.directory)
    try:
        files = sorted(path for path in directory.iterdir() if path.suffix == ".cedar")
    except OSError as fault:
        raise AskedWrongly(
            "config_missing",
            f"cannot read the rules directory `{config.rules.directory}`: {fault.strerror}",
            "make it, or correct `rules.directory`; without one nothing is known to be permitted",
        ) from None
    help = "give the server the right to read it, or remove it"
    return {path.name: read_text(path, help) for path in files}


def database_url(config: Config) -> str:
    """Where the database is, as the store takes it; a file relative to the configuration file."""
    path = database_path(config)
    return config.database.url if path is None else f"sqlite:///{path}"


def database_password(config: Config) -> str | None:
    """The password of its server. Raises AskedWrongly when the secret is not there."""
    return secret(config, config.database.password) if config.database.password else None


def database_path(config: Config) -> Path | None:
    """The database file; None when it is a server."""
    file = database_file(config.database.url)
    return None if file is None else config.path(file)


NOT_THERE = "secret_missing"  # a secret the settings refer to is not there


def secret(config: Config, reference: str) -> str:
    """The secret behind `env:NAME` or `file:PATH`. Raises AskedWrongly, never with the value.

    NB. somebody who wrote the secret itself must not see it again in an error or a log: of
    `reference` only what has the shape of a name is shown.
    """
    kind, _, name = reference.partition(":")
    if kind == "env":
        if found := os.environ.get(name, "").strip():
            return found
        shown = name if _VARIABLE.fullmatch(name) else "…"
        raise AskedWrongly(
            NOT_THERE,
            f"expected `env:{shown}` to be set, got nothing",
            "set the variable where the server runs",
        )
    if kind != "file":
        raise AskedWrongly(
            NOT_THERE,
            "expected `env:NAME` or `file:PATH`, got something else",
            "secrets are never written into the configuration",
        )
    try:
        if found := config.path(name).read_text(encoding="utf-8").strip():
            return found
        why = "it is empty"
    except OSError as fault:
        why = fault.strerror or "it cannot be read"
    except ValueError:
        why = "it is no UTF-8 text"
    raise AskedWrongly(
        NOT_THERE,
        f"cannot read the secret file `{name}`: {why}",
        "put it there, or correct its path in the settings",
    )


class Faults:
    """Collects what is wrong with one file, each fault with the line of its value.

    A place is told once: what lies within a faulty value is not judged again.
    """

    def __init__(self, file: str, places: Places) -> None:
        self._file = file
        self._places = places
        self._found: list[Fault] = []
        self._faulty: set[Place] = set()

    def note(self, place: Place, code: str, message: str, help: str) -> None:
        """Keep a fault of the value at `place`."""
        if any(place[:count] in self._faulty for count in range(1, len(place) + 1)):
            return
        self._faulty.add(place)
        self._found.append(
            Fault(
                file=self._file,
                line=self._places.line(place),
                code=code,
                message=message,
                help=help,
            )
        )

    def ask(self, place: Place, check: Callable[[], object]) -> None:
        """Run a check; what it refuses is the fault of the value at `place`."""
        try:
            check()
        except AskedWrongly as fault:
            self.note(place, fault.code, fault.message, fault.help)

    def settle(self) -> None:
        """Raises SettingsBroken when there is any fault."""
        if self._found:
            raise SettingsBroken(self._found)


def read_toml(path: Path, help: str) -> tuple[dict[str, Any], Places]:
    """The values of a TOML file and where they stand; `help` says what to do when it is missing.

    Raises:
        AskedWrongly: `config_missing`. SettingsBroken: no TOML, no UTF-8, or too long.
    """
    text = read_text(path, help)
    try:
        return tomllib.loads(text), Places(text)
    except tomllib.TOMLDecodeError as fault:
        what, _, where = str(fault).rpartition(" (at ")
        line = re.match(r"line (\d+)", where)
        raise SettingsBroken(
            [
                Fault(
                    file=path.name,
                    line=int(line[1]) if line else len(text.splitlines()),
                    code="config_syntax",
                    message=f"expected TOML, got: {what[:1].lower()}{what[1:]}",
                    help="mend that line",
                )
            ]
        ) from None


def read_text(path: Path, help: str) -> str:
    """A settings file as text. Raises as `read_toml` tells."""
    try:
        data = path.read_bytes() if path.stat().st_size <= LONGEST_FILE else None
        if data is not None:
            # A mark of byte order is kept: what reads the text says that it is there.
            return data.decode().replace("\r\n", "\n")
        code, message = "file_too_long", f"expected at most {LONGEST_FILE} bytes, got more"
    except OSError as fault:
        raise AskedWrongly(
            "config_missing", f"cannot read `{path.name}`: {fault.strerror}", help
        ) from None
    except UnicodeDecodeError as fault:
        code, message = "config_syntax", f"expected UTF-8, got another byte at {fault.start}"
    help = "split it" if code == "file_too_long" else "save it as UTF-8"
    raise SettingsBroken([Fault(file=path.name, line=0, code=code, message=message, help=help)])


def _convert(plain: dict[str, Any], faults: Faults) -> Config:
    """The shapes. Each misshapen value is noted, then replaced, so that the next one is met."""
    for _ in range(MOST_FAULTS):
        try:
            return msgspec.convert(plain, Config)
        except msgspec.ValidationError as fault:
            what, _, where = str(fault).partition(" - at `$")
            place: Place = tuple(
                name or int(index) for name, index in re.findall(r"\.([A-Za-z_]+)|\[(\d+)\]", where)
            )
            place = _mend(plain, place, what)
            name = ".".join(str(key) for key in place if not isinstance(key, int))
            faults.note(place, "config_value", f"`{name}`: {_in_words(what)}", _HELP)
    faults.settle()
    raise RuntimeError("a misshapen value was replaced and none was noted")


def _mend(plain: dict[str, Any], place: Place, what: str) -> Place:
    """Put something of the right shape where `what` is wrong; the place of the fault itself."""
    named = re.search(r"field `([^`]+)`", what)
    if named:
        place = (*place, named[1])
        holder = _held(plain, place[:-1])
        if "missing" in what:
            holder[named[1]] = {"origin": ""} if named[1] == "evidence" else ""
        else:
            del holder[named[1]]
    elif what.startswith("Expected `str`"):
        _held(plain, place[:-1])[place[-1]] = ""
    else:
        key = max(at for at, part in enumerate(place) if isinstance(part, str))
        del _held(plain, place[:key])[place[key]]
    return place


def _held(plain: Any, place: Place) -> Any:
    for key in place:
        plain = plain[key]
    return plain


def _in_words(what: str) -> str:
    missing = re.fullmatch(r"Object missing required field `([^`]+)`", what)
    if missing:
        return "expected a value, got none"
    if "unknown field" in what:
        return "expected a key that exists, got another"
    for word, said in _WORDS.items():
        what = what.replace(word, said)
    return what[0].lower() + what[1:]


def _check_values(config: Config, faults: Faults) -> None:
    server, identity = config.server, config.identity
    faults.ask(
        ("server", "listen"),
        lambda: listen_address(server.listen, remote=server.behind_tls_proxy),
    )
    faults.ask(("server", "worker"), lambda: check_worker(server.worker))
    faults.ask(("database", "url"), lambda: check_database(config.database.url))
    faults.ask(("witness", "url"), lambda: check_witness(config.witness.url))
    faults.ask(("warn", "before"), lambda: warn_before(config.warn.before))
    faults.ask(("lateness", "bound"), lambda: config.lateness.span)
    faults.ask(("identity", "operators"), lambda: clean_name("group", identity.operators))
    faults.ask(("identity", "auditors"), lambda: clean_name("group", identity.auditors))
    if config.identity_center is not None:
        for place, code, message, help in center.faults(config.identity_center):
            faults.note(("identity_center", *place), code, message, help)


def _check_targets(config: Config, faults: Faults) -> None:
    seen: set[str] = set()

    def name(place: Place, kind: str, text: str, whole: str) -> None:
        faults.ask(place, lambda: clean_name(kind, text))
        if whole in seen:
            help = "names are given once; rename one"
            faults.note(place, "config_value", f"`{whole[:80]}` is there twice", help)
        seen.add(whole)

    for number, part in enumerate(config.target):
        at: Place = ("target", number)
        name((*at, "id"), "target", part.id, part.id)
        faults.ask((*at, "connector"), partial(check_connector, part.connector))
        faults.ask((*at, "time_zone"), partial(check_zone, part.time_zone))
        for prefix, (key, hidden) in part.aws.keys().items() if part.aws else ():
            if bool(key) != bool(hidden):
                both = f"`{prefix}access_key_id` and `{prefix}secret_access_key`"
                message = f"expected both {both} or neither, got one"
                faults.note((*at, "aws"), "config_value", message, "with one only, neither is used")
        for count, role in enumerate(part.role):
            name((*at, "role", count, "name"), "role", role.name, f"{part.id}/{role.name}")
            here: Place = (*at, "role", count, "session")
            if role.kind == PERMISSION_SET:
                faults.ask(here, role.native)
            elif role.session:
                message = f"expected `session` on a permission set only, got it on `{role.kind}`"
                faults.note(here, "config_value", message, center.HELP)
