"""`[identity_center]`: the one instance of Identity Center that permission sets are handed out by.

Called by `config.py`, which knows the lines, and by `clouds.py`, which has the secrets.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from tidegate.base.errors import AskedWrongly
from tidegate.base.when import parse_duration, show_duration, whole_seconds
from tidegate.connectors.role_kinds import LONGEST_SET_SESSION, SHORTEST_SET_SESSION
from tidegate.main.places import Place

if TYPE_CHECKING:
    from tidegate.connectors.identity_center_settings import AccountSettings, CenterSettings

SESSION = "1h"  # Identity Center's own default
# Longer, and nothing could be opened again for the same person within the hour.
LONGEST_PROPAGATION = timedelta(minutes=30)
HELP = "see docs/connectors/identity-center.md for every key"

DENIES = ("permission-set", "scp", "none")
MATCHES = ("user_name", "mail", "none")


class _Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    pass


class SchedulePart(_Strict):
    """Deadlines kept by EventBridge Scheduler. Absent: none are."""

    role: str
    dead_letter: str
    group: str = "tidegate"


class IdentityCenterPart(_Strict):
    """How Identity Center is reached, and how live sessions are ended there."""

    instance: str
    identity_store: str
    region: str = "us-east-1"
    endpoint_url: str = ""
    access_key_id: str = ""
    secret_access_key: str = ""
    opener_access_key_id: str = ""
    opener_secret_access_key: str = ""
    closer_access_key_id: str = ""
    closer_secret_access_key: str = ""
    own: list[str] = []
    deny: str = "permission-set"
    scp: str = ""
    propagation: str = "60s"
    schedule: SchedulePart | None = None
    users: dict[str, str] = {}
    match: str = "user_name"

    def keys(self) -> dict[str, tuple[str, str]]:
        """Where each pair of keys is, by the prefix of its two settings: empty, `opener_`, …"""
        return {
            "": (self.access_key_id, self.secret_access_key),
            "opener_": (self.opener_access_key_id, self.opener_secret_access_key),
            "closer_": (self.closer_access_key_id, self.closer_secret_access_key),
        }


def session_seconds(text: str) -> int:
    """The session of a role's entry. Raises AskedWrongly `bad_session`."""
    try:
        span = parse_duration(text or SESSION)
    except AskedWrongly:
        span = timedelta(0)
    if SHORTEST_SET_SESSION <= span <= LONGEST_SET_SESSION:
        return whole_seconds(span)
    raise AskedWrongly(
        "bad_session",
        f"expected a session from 15m to 12h like `1h`, got `{text[:40]}`",
        "give the permission set's session duration",
    )


def propagation(text: str) -> timedelta:
    """How long a change may take to be everywhere. Raises AskedWrongly `bad_propagation`."""
    try:
        span = parse_duration(text)
    except AskedWrongly:
        span = timedelta(0)
    if timedelta(0) < span <= LONGEST_PROPAGATION:
        return span
    raise AskedWrongly(
        "bad_propagation",
        f"expected a duration up to {show_duration(LONGEST_PROPAGATION)} like `60s`, "
        f"got `{text[:40]}`",
        "leave it at `60s` on AWS",
    )


def faults(part: IdentityCenterPart) -> Iterator[tuple[Place, str, str, str]]:
    """What is wrong with the part: place within it, code, message, help."""
    sound = True
    for key, text, known in (("deny", part.deny, DENIES), ("match", part.match, MATCHES)):
        if text not in known:
            sound = False
            words = ", ".join(f"`{one}`" for one in known)
            yield (key,), "config_value", f"expected one of {words}, got `{text[:40]}`", HELP
    try:
        propagation(part.propagation)
    except AskedWrongly as fault:
        sound = False
        yield ("propagation",), fault.code, fault.message, fault.help
    for prefix, (named, hidden) in part.keys().items():
        if bool(named) != bool(hidden):
            both = f"`{prefix}access_key_id` and `{prefix}secret_access_key`"
            message = f"expected both {both} or neither, got one"
            place: Place = (f"{prefix}{'access_key_id' if named else 'secret_access_key'}",)
            yield place, "config_value", message, "with one only, neither is used"
    if not sound:
        return
    from tidegate.connectors.identity_center_settings import faults_of

    for name, message in faults_of(settings_of(part, {}, None)):
        yield tuple(name.split(".", 1)), "config_value", message, HELP


def settings_of(
    part: IdentityCenterPart,
    targets: "dict[str, AccountSettings]",
    secret: Callable[[str], str] | None,
    wanted: frozenset[str] = frozenset(),
) -> "CenterSettings":
    """The part as the connector takes it. Only the pairs of keys named in `wanted` are read.

    Where that is one pair, it signs for the opener and for the closer.

    Raises:
        AskedWrongly: a value `faults` would name, or a secret that is not there.
    """
    from tidegate.connectors.aws_calls import AwsSettings
    from tidegate.connectors.identity_center_settings import (
        CenterSettings,
        Deny,
        Match,
        ScheduleSettings,
    )

    def identity(which: str) -> AwsSettings:
        keys = part.keys()
        prefix = which if all(keys[which]) else ""
        if prefix not in wanted and len(wanted) == 1:
            (prefix,) = wanted
        key, hidden = keys[prefix]
        given = secret is not None and prefix in wanted and key and hidden
        return AwsSettings(
            region=part.region,
            endpoint_url=part.endpoint_url or None,
            access_key_id=secret(key) if secret and given else "",
            secret_access_key=secret(hidden) if secret and given else "",
            own=tuple(part.own),
        )

    schedule = None
    if part.schedule is not None:
        schedule = ScheduleSettings(
            role=part.schedule.role,
            dead_letter=part.schedule.dead_letter,
            group=part.schedule.group,
        )
    return CenterSettings(
        instance=part.instance,
        identity_store=part.identity_store,
        opener=identity("opener_"),
        closer=identity("closer_"),
        deny=Deny(part.deny),
        scp=part.scp,
        propagation=propagation(part.propagation),
        schedule=schedule,
        users=dict(part.users),
        match=Match(part.match),
        targets=targets,
    )
