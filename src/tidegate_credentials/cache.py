"""The client's own files: who the server is, and the keys already minted.

    <home>/client.json            {"server", "token"}, mode 0600, written by `tidegate login`
    <home>/cache/<sha256>         one file per (server, grant) or (server, role), mode 0600
    <home>/cache/lock-<hex>       taken while minting; they hold nothing

`<home>` is `~/.config/tidegate`, or TIDEGATE_HOME. Folders are 0700 and ours: keys are neither
written to nor read from a place another account could change. A cache file that is damaged, of
another shape or of another key is as good as none. Entries are flat dicts of texts because the
start of this helper is paid on every AWS call; instants are RFC 3339 in UTC with milliseconds, a
form that sorts as text.
"""

import json
import os
import stat
import time
from collections.abc import Mapping
from hashlib import sha256

Entry = dict[str, str]

# One cached session. `refresh_at` is when the server must be asked again; before it nothing is.
# `over` is "yes" once the server said that the grant has ended. Without keys: they have expired.
ENTRY_FIELDS = frozenset(
    {
        "server",
        "grant",
        "role",
        "AccessKeyId",
        "SecretAccessKey",
        "SessionToken",
        "ends_at",
        "expires_at",
        "refresh_at",
        "over",
    }
)
# Which grant a role stood for when the server was last asked, until `refresh_at`.
ROLE_FIELDS = frozenset({"server", "role", "grant", "refresh_at"})

NEVER = "9999-12-31T23:59:59.999Z"
LARGEST_FILE = 65_536  # bytes: session tokens stay under 4 KiB, so anything larger is not ours
LONGEST_NAME = 160  # characters: a target and a role name may have 64 each
_PRIVATE = 0o077
_ID_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")
_NAME_LETTERS = _ID_LETTERS | frozenset(".-")


class Stop(Exception):
    """There is nothing to print; the text is one line for a person, without secrets."""

    def __init__(self, line: str, code: int = 1) -> None:
        super().__init__("".join(ch if ch.isprintable() else " " for ch in line))
        self.code = code


class Client:
    """Where to ask and as whom. `token` is empty when nobody has signed in."""

    __slots__ = ("server", "token")

    def __init__(self, server: str, token: str) -> None:
        self.server = server
        self.token = token


def instant(seconds: float) -> str:
    """`seconds` since the epoch as RFC 3339 in UTC, to the nearest millisecond."""
    whole, millis = divmod(round(seconds * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{millis:03d}Z"


def is_instant(text: object) -> bool:
    """Whether `text` has exactly the form `instant` writes, so that it compares as text."""
    return (
        isinstance(text, str)
        and text.isascii()
        and len(text) == 24
        and text[4::3][:2] == "--"
        and text[10] == "T"
        and text[13] == text[16] == ":"
        and text[19] == "."
        and text[23] == "Z"
        and (text[:4] + text[5:7] + text[8:10] + text[11:13] + text[14:16]).isdigit()
        and (text[17:19] + text[20:23]).isdigit()
    )


def is_id(value: object) -> bool:
    """Whether `value` is shaped like a grant id; it becomes part of a URL."""
    return (
        isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and _ID_LETTERS.issuperset(value)
    )


def is_role(value: object) -> bool:
    """Whether `value` is shaped like `target/role`; it is shown in a command to be pasted."""
    if not isinstance(value, str) or len(value) > LONGEST_NAME:
        return False
    target, _, role = value.partition("/")
    return bool(target and role) and _NAME_LETTERS.issuperset(target + role)


def request_command(role: str) -> str:
    """The command that asks for `role` again; a reminder when the role is not known here."""
    return f"tidegate request {role} --for 1h --reason '…'" if role else "tidegate request …"


def home_of(environment: Mapping[str, str]) -> str:
    """Where this client's files are."""
    return environment.get("TIDEGATE_HOME") or os.path.expanduser("~/.config/tidegate")


def read_client(home: str, environment: Mapping[str, str]) -> Client:
    """The server and token in force: TIDEGATE_SERVER and TIDEGATE_TOKEN, then `client.json`.

    The file's token is only for the file's server: TIDEGATE_SERVER naming another one never makes
    us send it there.

    Raises:
        Stop: no server is known, or a file is not safe to believe.
    """
    stored = read_json(os.path.join(home, "client.json")) or {}
    stored_server = str(stored.get("server") or "").rstrip("/")
    server = (environment.get("TIDEGATE_SERVER") or stored_server).rstrip("/")
    if not server:
        raise Stop("no Tidegate server is known here; run: tidegate login ADDRESS")
    token = environment.get("TIDEGATE_TOKEN") or ""
    if not token and server == stored_server:
        token = str(stored.get("token") or "")
    return Client(server, token)


def open_cache(home: str) -> str:
    """The cache folder of `home`, made when missing. Raises Stop when it is not private."""
    folder = os.path.join(home, "cache")
    for path in (home, folder):
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            found = _make_folder(path)
        except OSError as fault:
            raise Stop(f"cannot read `{path}`: {fault.strerror}") from fault
        if not stat.S_ISDIR(found.st_mode):
            raise Stop(
                f"expected a folder at `{path}`, got a link or file; remove it and try again"
            )
        if found.st_uid != os.geteuid():
            raise Stop(
                f"`{path}` belongs to another account; set TIDEGATE_HOME to a folder of yours"
            )
        if found.st_mode & _PRIVATE:
            raise Stop(f"`{path}` is open to other accounts; run: chmod 700 '{path}'")
    return folder


def _make_folder(path: str) -> os.stat_result:
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass  # another helper made it in the same moment: the caller checks it all the same
    except OSError as fault:
        raise Stop(f"cannot make `{path}`: {fault.strerror}; set TIDEGATE_HOME") from fault
    return os.lstat(path)


def cache_path(folder: str, server: str, name: str) -> str:
    """Where the entry of `name` (a grant id or a role) at `server` is kept."""
    return os.path.join(folder, sha256(f"{server}\n{name}".encode()).hexdigest())


def read_entry(folder: str, server: str, grant: str) -> Entry | None:
    """The cached session of `grant`, or None. Never raises for a damaged file."""
    entry = _read_fields(cache_path(folder, server, grant), ENTRY_FIELDS)
    if entry is None or entry["server"] != server or entry["grant"] != grant:
        return None
    good = all(is_instant(entry[field]) for field in ("ends_at", "expires_at", "refresh_at"))
    return entry if good else None


def read_role(folder: str, server: str, role: str, at: str) -> str:
    """The grant `role` stands for, or "" when unknown or when the server must be asked again."""
    entry = read_role_entry(folder, server, role)
    return entry["grant"] if entry and at < entry["refresh_at"] else ""


def read_role_entry(folder: str, server: str, role: str) -> Entry | None:
    """What was last known of `role`, however old, or None."""
    entry = _read_fields(cache_path(folder, server, role), ROLE_FIELDS)
    if entry is None or entry["server"] != server or entry["role"] != role:
        return None
    return entry if is_instant(entry["refresh_at"]) else None


def _read_fields(path: str, fields: frozenset[str]) -> Entry | None:
    """The cache file at `path` if it is whole: what we wrote we can write again, so never told."""
    try:
        content = read_json(path) or {}
    except Stop:
        return None
    entry = {key: value for key, value in content.items() if isinstance(value, str)}
    return entry if entry.keys() == content.keys() == fields else None


def read_json(path: str) -> dict[str, object] | None:
    """The JSON object at `path`; None when there is no such file.

    Raises:
        Stop: it is damaged, or another account could have written or read it.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise Stop(f"cannot read `{path}`: {fault.strerror}") from fault
    with open(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise Stop(f"expected `{path}` to be a file of yours; remove it")
        if found.st_mode & _PRIVATE:
            raise Stop(f"`{path}` is open to other accounts; run: chmod 600 '{path}'")
        raw = file.read(LARGEST_FILE + 1)
    try:
        content = json.loads(raw) if len(raw) <= LARGEST_FILE else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise Stop(
            f"expected a JSON object in `{path}`; write it anew with: tidegate login ADDRESS"
        )
    return content
