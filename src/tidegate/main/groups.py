"""Reading the groups file: which login is in which group, and which group within which.

Called when an installation is opened and when the file changed. Whether a login has an account is
not asked here: `tidegate check` says so.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from tidegate.base.errors import AskedWrongly
from tidegate.base.text import clean_name
from tidegate.flow.house import Groups
from tidegate.main.config import Config, Faults, read_toml
from tidegate.main.places import Place, Places

_HELP = 'write `[group.NAME]` with `members = ["ana"]` and `within = ["engineering"]`'
_MAKE = (
    "put it back, or correct `identity.groups`; a missing file is never taken for empty groups, "
    "since that would lock everybody out"
)


def load_groups(config: Config) -> Groups:
    """The groups file: `[group.NAME]` with `members` (logins) and `within` (groups).

    Raises:
        AskedWrongly: `config_missing`: no such file.
        SettingsBroken: with every fault and its line.
    """
    return read_groups(config)[0]


def read_groups(config: Config) -> tuple[Groups, Places]:
    """`load_groups`, and where each value stands."""
    path = config.path(config.identity.groups)
    plain, places = read_toml(path, _MAKE)
    faults = Faults(path.name, places)
    for key in sorted(set(plain) - {"group"}):
        faults.note(
            (key,), "groups_value", f"expected `[group.NAME]` tables only, got `{key}`", _HELP
        )
    found = plain.get("group", {})
    members: dict[str, tuple[str, ...]] = {}
    within: dict[str, tuple[str, ...]] = {}
    if not isinstance(found, dict):
        faults.note(
            ("group",), "groups_value", "expected `[group.NAME]` tables, got a value", _HELP
        )
        found = {}
    for name, body in found.items():
        at: Place = ("group", name)
        faults.ask(at, partial(clean_name, "group", name))
        if not isinstance(body, dict):
            faults.note(at, "groups_value", f"expected a table for `{name}`, got a value", _HELP)
            continue
        for key in sorted(set(body) - {"members", "within"}):
            message = f"expected `members` and `within` only, got `{key}`"
            faults.note((*at, key), "groups_value", message, _HELP)
        members[name] = _names(faults, at, body, "members")
        within[name] = _names(faults, at, body, "within")
    faults.settle()
    return Groups(members=members, within=within), places


def people(groups: Groups) -> Mapping[str, frozenset[str]]:
    """The logins in each group known, those of the groups within it included."""
    found: dict[str, set[str]] = {name: set() for name in groups.names}
    for name, logins in groups.members.items():
        for above in groups.closure(frozenset({name})):
            found.setdefault(above, set()).update(logins)
    return {name: frozenset(logins) for name, logins in found.items()}


def empty_groups(groups: Groups) -> frozenset[str]:
    """The groups the file names that nobody is in, by whatever way."""
    held = people(groups)
    return frozenset(name for name in groups.names if not held[name])


def _names(faults: Faults, at: Place, body: Mapping[str, Any], key: str) -> tuple[str, ...]:
    listed = body.get(key, [])
    if not isinstance(listed, list):
        faults.note((*at, key), "groups_value", f"expected a list for `{key}`, got a value", _HELP)
        return ()
    kind = "login" if key == "members" else "group"
    for number, one in enumerate(listed):
        faults.ask((*at, key, number), partial(_name, kind, one))
    return tuple(str(one) for one in listed)


def _name(kind: str, text: object) -> str:
    if not isinstance(text, str):
        raise AskedWrongly("groups_value", f"expected a {kind} in quotes, got a value", _HELP)
    return clean_name(kind, text)
