"""`tidegate-credentials`: the helper an AWS profile names as its `credential_process`.

    tidegate-credentials gr_01j…                    keys of one grant
    tidegate-credentials aws-prod/admin             keys of your open grant of that role
    tidegate-credentials GRANT --expiration sts     with the cloud's own expiry, see below

botocore starts it anew on every call once the printed `Expiration` is under 15 minutes away, so it
must be cheap: this module answers from a private cache without network, and only when the cache
cannot answer is `renewing` imported, which asks the server. That is also why it stands beside the
`tidegate` package and imports nothing of it, nor dataclasses, argparse or http.client.

`Expiration` is the grant's end, so a client stops by itself and shows our one line. With
`--expiration sts` it is the cloud's expiry of the keys: the client goes on asking the cloud past
the end, and it is the cloud that refuses.

Exit codes: 0 printed; 1 no keys, one line on stderr says what to do; 2 called wrongly.
"""

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence

from tidegate_credentials.cache import (
    Client,
    Entry,
    Stop,
    home_of,
    instant,
    is_id,
    is_role,
    open_cache,
    read_client,
    read_entry,
    read_role,
    request_command,
)

USAGE = "usage: tidegate-credentials GRANT_OR_ROLE [--expiration grant|sts]"


def run() -> int:
    """The command. Reads its own arguments, environment and clock; returns the exit code."""
    try:
        printed = answer(sys.argv[1:], os.environ, time.time())
        sys.stdout.write(printed)
        sys.stdout.flush()
    except Stop as stop:
        sys.stderr.write(f"{stop}\n")
        return stop.code
    except OSError as fault:
        sys.stderr.write(f"cannot print the credentials: {fault.strerror}\n")
        # Python would try to flush what is left at exit, and report that failure as a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def answer(arguments: Sequence[str], environment: Mapping[str, str], now: float) -> str:
    """The JSON to print for `arguments` at `now` (seconds since the epoch).

    Raises:
        Stop: there are no keys to print; its text is the one line for stderr.
    """
    name, expiration = read_arguments(arguments)
    at = instant(now)
    home = home_of(environment)
    folder = open_cache(home)
    client = read_client(home, environment)
    grant = read_role(folder, client.server, name, at) if "/" in name else name
    entry = read_entry(folder, client.server, grant) if grant else None
    if entry is None or at >= entry["refresh_at"]:
        entry = _renewed(client, folder, name, expiration, now)
    return show(entry, expiration, at)


def _renewed(client: Client, folder: str, name: str, expiration: str, now: float) -> Entry:
    """An entry the server was asked about, or the one at hand when that is honest."""
    from tidegate_credentials import renewing

    return renewing.renew(client, folder, name, keep_ended=expiration == "sts", now=now)


def read_arguments(arguments: Sequence[str]) -> tuple[str, str]:
    """The grant or role asked for, and `grant` or `sts`. Raises Stop with the usage line."""
    names: list[str] = []
    expiration = "grant"
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word in ("-h", "--help"):
            raise Stop(f"{USAGE}; prints AWS credential_process JSON", 2)
        if word.startswith("--expiration="):
            expiration = word.partition("=")[2]
        elif word == "--expiration":
            expiration = rest.pop(0) if rest else ""
        elif word.startswith("-"):
            raise Stop(f"unknown option `{_shown(word)}`; {USAGE}", 2)
        else:
            names.append(word)
    if expiration not in ("grant", "sts"):
        raise Stop(f"expected --expiration `grant` or `sts`, got `{_shown(expiration)}`", 2)
    if len(names) != 1:
        raise Stop(f"expected one grant or role, got {len(names)}; {USAGE}", 2)
    return check_name(names[0]), expiration


def check_name(name: str) -> str:
    """`name` if it can be a grant id or a role; it becomes part of a URL and of a command shown."""
    if is_id(name) or is_role(name):
        return name
    wanted = "a grant like `gr_…` or a role like `aws-prod/admin`"
    raise Stop(f"expected {wanted}, got `{_shown(name)}`", 2)


def show(entry: Entry, expiration: str, at: str) -> str:
    """The `credential_process` JSON of `entry`. Raises Stop when its access is over at `at`.

    The grant's end is cut to the keys' own expiry where that comes first (a grant of several
    hours): a client told a later instant would go on with dead keys.
    """
    if expiration == "sts":
        until = entry["expires_at"]
        over = False
    else:
        until = min(entry["ends_at"], entry["expires_at"])
        over = bool(entry["over"])
    if over or at >= until or not entry["AccessKeyId"]:
        raise Stop(ended_line(entry, at))
    return json.dumps(
        {
            "Version": 1,
            "AccessKeyId": entry["AccessKeyId"],
            "SecretAccessKey": entry["SecretAccessKey"],
            "SessionToken": entry["SessionToken"],
            "Expiration": until,
        }
    )


def ended_line(entry: Entry, at: str) -> str:
    """One line: what is over, since when, and how to ask again."""
    again = f"ask again: {request_command(entry['role'])}"
    if at >= entry["ends_at"]:
        return f"access under {entry['grant']} ended at {entry['ends_at']}; {again}"
    if entry["over"]:
        return f"access under {entry['grant']} was ended before {entry['ends_at']}; {again}"
    return f"the keys of {entry['grant']} expired at {entry['expires_at']}; {again}"


def _shown(text: str) -> str:
    """`text` as it may appear in a message: short and printable."""
    return "".join(ch if ch.isprintable() else " " for ch in text[:40])
