"""Targets that left the settings while grants were open on them: how they were last reached.

A grant ends by the catalogue entry sealed with it, so all that is missing for its end is the way to
its cloud. That is kept beside the settings, as it stood there: references to secrets, never the
secrets. A process that starts afterwards closes by it; where a reference leads nowhere any more,
`tidegate check` and the server's log name the grants that nobody here can end.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from tidegate.base.duty import ALL, Duty
from tidegate.base.errors import AskedWrongly
from tidegate.connectors.role_kinds import PERMISSION_SET
from tidegate.evidence.journal import ClosingJournal, open_grants
from tidegate.main.center import IdentityCenterPart
from tidegate.main.config import AwsPart, Config, TargetPart, secret
from tidegate.main.pairs import references

log = structlog.get_logger("tidegate.left")

FILE = "reached.json"  # beside the settings
MOST = 500  # targets kept that left: far above what one installation has, and the file stays small


class _Reached(msgspec.Struct):
    """The file's content: every target as last seen in the settings, those that left first."""

    target: list[TargetPart] = []
    identity_center: IdentityCenterPart | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A target the settings do not name, or name with another account, and what is open on it.

    `why` says what keeps it from being closed; empty: it is closed as it was last reached.
    """

    target: str
    account: str
    grants: tuple[str, ...]
    why: str


def with_left(config: Config, duties: frozenset[Duty] = ALL) -> Config:
    """The settings together with the targets that left them and can still be reached, with the keys
    of `duties`.
    """
    before = _read(config)
    here = {part.id for part in config.target}
    gone = [one for one in before.target if one.id not in here]
    left = [one for one in gone if not _unreadable(config, one, duties)]
    center = config.identity_center or before.identity_center
    if config.identity_center is None and _center_unreadable(config, center, duties):
        center = None
    return msgspec.structs.replace(config, target=[*config.target, *left], identity_center=center)


def remember(config: Config) -> None:
    """Keep how the targets are reached now, beside those that left. Never fails.

    A file that cannot be written costs only that memory, and that is logged.
    """
    before = _read(config)
    here = {part.id for part in config.target}
    left = [one for one in before.target if one.id not in here][-MOST:]
    reached = _Reached([*left, *config.target], config.identity_center or before.identity_center)
    data = msgspec.json.encode(reached)
    path = config.path(FILE)
    beside = path.with_name(f"{FILE}.{os.getpid()}.new")
    try:
        if not reached.target or (path.exists() and path.read_bytes() == data):
            return
        # Made anew, never written through: whoever the directory belongs to could have put a link
        # there, and this process may be root's. What a dead one of this number left goes first.
        beside.unlink(missing_ok=True)
        anew = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(beside, anew, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        beside.replace(path)
    except OSError as fault:
        log.warning("how targets are reached cannot be kept", errno=fault.errno)


def readable(config: Config, duties: frozenset[Duty] = ALL) -> tuple[Config, dict[str, str]]:
    """The settings without the targets whose keys for `duties` cannot be read, and why each cannot
    be.

    For ending without a server, where one missing secret must not keep the others open. Identity
    Center without its keys shuts every permission set: those targets are told too.
    """
    shut = {part.id: why for part in config.target if (why := _unreadable(config, part, duties))}
    if why := _center_unreadable(config, config.identity_center, duties):
        config = msgspec.structs.replace(config, identity_center=None)
        for part in config.target:
            if any(role.kind == PERMISSION_SET for role in part.role):
                shut.setdefault(part.id, why)
    kept = [part for part in config.target if part.id not in shut]
    return msgspec.structs.replace(config, target=kept), shut


def left_open(config: Config, duties: frozenset[Duty] = ALL) -> list[Left]:
    """Every target with open grants that is not in the settings as it was when they opened.

    By the closing journal of this machine, so that no database is needed. Empty when it cannot be
    read: that is told elsewhere. `duties`: of the process that is to close them.
    """
    accounts = {part.id: part.account for part in config.target}
    found: dict[tuple[str, str], list[str]] = {}
    lines = []
    with suppress(OSError):
        lines = open_grants(ClosingJournal(config.path(config.evidence.journal)).read())
    for line in lines:
        target, account = str(line.data.get("target")), str(line.data.get("account"))
        if accounts.get(target) != account:
            found.setdefault((target, account), []).append(line.grant)
    return [
        Left(
            target=name,
            account=account,
            grants=tuple(grants),
            why=_why(config, name, account, duties),
        )
        for (name, account), grants in sorted(found.items())
    ]


def tell_left(config: Config, duties: frozenset[Duty] = ALL) -> None:
    """Name in the server's log what is open where the settings no longer lead."""
    for one in left_open(config, duties):
        tell = log.error if one.why else log.warning
        tell(
            "grants are open on a target that left the settings",
            target=one.target,
            account=one.account,
            grants=list(one.grants),
            why=one.why or "closed as it was last reached",
        )


def _why(config: Config, target: str, account: str, duties: frozenset[Duty]) -> str:
    here = {part.id: part for part in config.target}
    if target in here:
        return f"the settings name it with account `{here[target].account}`"
    for one in _read(config).target:
        if one.id == target and one.account == account:
            return _unreadable(config, one, duties)
    return "nothing here knows how it was reached"


def _unreadable(config: Config, part: TargetPart, duties: frozenset[Duty]) -> str:
    """Why its keys cannot be read; empty when they can, or it has none of its own."""
    return _first_unreadable(config, references(duties, (part.aws or AwsPart()).keys()))


def _center_unreadable(
    config: Config, center: IdentityCenterPart | None, duties: frozenset[Duty]
) -> str:
    return _first_unreadable(config, references(duties, center.keys()) if center else ())


def _first_unreadable(config: Config, named: Iterable[str]) -> str:
    for one in named:
        try:
            secret(config, one)
        except AskedWrongly as fault:
            return fault.message
    return ""


def _read(config: Config) -> _Reached:
    """What is kept; nothing when there is no file, or one of another version."""
    path: Path = config.path(FILE)
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Reached)
    except FileNotFoundError:
        return _Reached()
    except (OSError, msgspec.MsgspecError) as fault:
        log.warning("how targets were reached cannot be read", why=type(fault).__name__)
        return _Reached()
