"""Single values of the settings: each read, or refused in words that show no secret.

`tidegate check` and a starting server ask the same functions, so neither finds what the other
lets pass. Called by `config.py`, which knows the lines.
"""

import re
from datetime import timedelta
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tidegate.base.address import is_loopback
from tidegate.base.errors import AskedWrongly
from tidegate.base.when import parse_duration, show_duration

CONNECTORS = ("aws", "simulated")
WORKERS = ("all", "open", "close", "none")
HIGHEST_PORT = 65_535
LONGEST_WARNING = timedelta(hours=24)

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]{0,19})://", re.ASCII)


def listen_address(text: str, *, remote: bool) -> tuple[str, int]:
    """Host and port of `ADDRESS:PORT`; an IPv6 address stands in brackets, port 0 is a free one.

    Args:
        text: the setting.
        remote: that something in front ends TLS, so that other addresses than loopback may do.

    Raises:
        AskedWrongly: `bad_listen` or `not_loopback`.
    """
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port[:6]) > HIGHEST_PORT:
        raise AskedWrongly(
            "bad_listen",
            f"expected `server.listen` like `127.0.0.1:8470`, got `{text[:60]}`",
            f"give an address and a port from 0 to {HIGHEST_PORT}",
        )
    host = host.strip("[]")
    if not remote and not is_loopback(host):
        raise AskedWrongly(
            "not_loopback",
            f"expected a loopback address to listen at, got `{host[:60]}`",
            "listen at 127.0.0.1 behind a proxy that ends TLS, or set `behind_tls_proxy = true` "
            "when one is there",
        )
    return host, int(port)


def database_file(url: str) -> str | None:
    """The file of `sqlite:///FILE`; None for anything else."""
    scheme, _, rest = url.partition(":///")
    return rest if scheme == "sqlite" and rest else None


def check_database(url: str) -> None:
    """Raises AskedWrongly `bad_database` unless a file, or a PostgreSQL without a password in it.

    Of anything else only the scheme is shown: it may have a password in it.
    """
    if database_file(url) is not None:
        return
    try:
        parts = urlsplit(url)
        sound = parts.scheme == "postgresql" and bool(parts.username) and len(parts.path) > 1
        sound = sound and parts.password is None and "password" not in parts.query
        _ = parts.port  # raises for one that is none
    except ValueError:
        sound = False
    if sound:
        return
    raise AskedWrongly(
        "bad_database",
        "expected `sqlite:///FILE` or `postgresql://USER@HOST/NAME` without a password, got "
        f"{_shown_scheme(url)}",
        "name its user; a password stands in `database.password`, as `env:NAME` or `file:PATH`",
    )


def warn_before(text: str) -> timedelta:
    """How long before the end to warn. Raises AskedWrongly."""
    span = parse_duration(text)
    if span > LONGEST_WARNING:
        raise AskedWrongly(
            "config_value",
            f"expected `before` of at most {show_duration(LONGEST_WARNING)}, got `{text[:40]}`",
            "a warning that early is forgotten by the end; 10m is the default",
        )
    return span


def check_worker(name: str) -> None:
    """Raises AskedWrongly `bad_worker` for what no process can be told to do."""
    if name not in WORKERS:
        known = ", ".join(f"`{one}`" for one in WORKERS)
        raise AskedWrongly(
            "bad_worker", f"expected one of {known}, got `{name[:40]}`", "leave it at `all`"
        )


def check_witness(url: str) -> None:
    """Raises AskedWrongly `bad_witness` unless empty, `https://…`, or http to this machine."""
    if not url:
        return
    try:
        parts = urlsplit(url)
        sound = bool(parts.hostname) and parts.username is None and parts.password is None
        _ = parts.port  # raises for one that is none
    except ValueError:
        sound = False
    else:
        http_here = parts.scheme == "http" and is_loopback(parts.hostname or "")
        sound = sound and (parts.scheme == "https" or http_here)
    if not sound:
        raise AskedWrongly(
            "bad_witness",
            "expected a witness address `https://…` without user and password (or http on this "
            f"machine), got {_shown_scheme(url)}",
            "give the witness a certificate, or run it on this machine",
        )


def check_zone(name: str) -> None:
    """Raises AskedWrongly `bad_time_zone` for what the IANA time zone database does not have."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a directory of it
        raise AskedWrongly(
            "bad_time_zone",
            f"expected a time zone like `Europe/Berlin`, got `{name[:40]}`",
            "use a name of the IANA time zone database",
        ) from None


def check_connector(name: str) -> None:
    """Raises AskedWrongly `no_connector` for a cloud we have no way to."""
    if name not in CONNECTORS:
        known = " or ".join(f"`{one}`" for one in CONNECTORS)
        raise AskedWrongly(
            "no_connector",
            f"expected connector {known}, got `{name[:40]}`",
            "correct `connector` of the target",
        )


def _shown_scheme(url: str) -> str:
    """What may be shown of a URL that could hold a password: how it begins."""
    found = _SCHEME.match(url)
    return f"`{found[1]}://…`" if found else "something else"
