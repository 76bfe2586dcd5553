"""`tidegate init`: a directory with everything a first installation needs, and nothing it shares.

Never overwrites: what is there stays, and the log's key is made exactly once.
"""

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tidegate.base.errors import AskedWrongly
from tidegate.base.text import clean_name
from tidegate.evidence.note import FileSigner
from tidegate.main.values import check_database

CONFIG_NAME = "tidegate.toml"
DATABASE_NAME = "tidegate.db"
JOURNAL_NAME = "closing.journal"
KEY_NAME = "keys/log.key"
VERIFIER_NAME = "keys/log.vkey"

CONFIG = """\
# Tidegate's own settings. `tidegate check` says what is wrong with them, line by line.
# Secrets never stand here: `env:NAME` or `file:PATH` say where one is.

[server]
listen = "{listen}"

[database]
url = "{database}"

[evidence]
origin = "{origin}"          # the log's name; it never changes
key = "file:keys/log.key"    # signs checkpoints; back it up apart from the database
journal = "closing.journal"  # lets closing go on without the database

[witness]                    # keep checkpoints where this machine cannot take them back
directory = "witness"        # better: a mount of another machine, and `url = "https://…"` too

[identity]
groups = "groups.toml"
operators = "tidegate-operators"
auditors = "tidegate-auditors"

# One target, one role. Uncomment, fill in, run `tidegate check`.
# [[target]]
# id = "aws-prod"
# connector = "aws"
# account = "123456789012"
# owner = "group:platform"
# time_zone = "Europe/Berlin"
# labels = ["env=prod"]
#
# [target.aws]
# region = "eu-central-1"
# own = ["arn:aws:iam::123456789012:role/tidegate"]
#
# [[target.role]]
# name = "admin"
# arn = "arn:aws:iam::123456789012:role/tidegate-admin"
# probe = "iam:ListUsers"      # the harmless call by which an end is tried
"""

GROUPS = """\
# Who is in which group: logins made by `tidegate account add`. A group may be within others.

[group.tidegate-operators]
members = [{operators}]

[group.tidegate-auditors]
members = []

# [group.sre]
# members = ["ana"]
# within = ["engineering"]
"""

RULES = """\
// One rule alone carries each role of a request: who, what, when, how long, who approves.
// docs/rules.md tells all of it; `tidegate check` reports every mistake.

// @id("prod-admin") @max("2h") @approve("1 of group:sre-leads")
// permit (principal in Group::"sre", action == Action::"request", resource in Target::"aws-prod")
// when { context has ticket && context.ticket like "INC-*" };
"""


# What opening the house adds to the directory: SQLite's own two files stand beside the database.
_ADDED = (DATABASE_NAME, f"{DATABASE_NAME}-wal", f"{DATABASE_NAME}-shm", JOURNAL_NAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What `init` made: paths for people to read, and the key a verifier needs.

    `paths` is every file and directory made, in that order.
    """

    directory: Path
    config: Path
    verifier: str
    paths: tuple[Path, ...] = ()


def make_installation(
    directory: Path,
    origin: str,
    operators: tuple[str, ...] = (),
    listen: str = "127.0.0.1:8470",
    database: str = "",
) -> Made:
    """Write the first files. The database is made when it is first opened.

    `database` is the setting `[database] url`; empty: a file beside the settings.

    Raises:
        AskedWrongly: there is an installation already, a bad origin or login, or (`cannot_make`) a
            file that cannot be written or is there already. What this call made is then removed.
    """
    config = directory / CONFIG_NAME
    for name in (CONFIG_NAME, KEY_NAME, DATABASE_NAME, JOURNAL_NAME):
        if os.path.lexists(directory / name):
            raise AskedWrongly(
                "already_there",
                f"expected an empty place, got an installation in `{directory.name}` (`{name}`)",
                "use it, or name another directory; a log's key is never made twice",
            )
    if not origin or len(origin) > 100 or any(ch.isspace() or ch in '+"\\' for ch in origin):
        raise AskedWrongly(
            "bad_origin",
            f"expected an origin like `tidegate.example/log`, got `{origin[:40]}`",
            "no blanks, quotes or plus signs; it can never be changed",
        )
    logins = [clean_name("login", login) for login in operators]
    database = database or f"sqlite:///{DATABASE_NAME}"
    check_database(database)
    settings = CONFIG.format(origin=origin, listen=listen, database=database)
    signer = FileSigner(origin, secrets.token_bytes(32))
    quoted = ", ".join(f'"{login}"' for login in logins)
    verifier = signer.verifier().text()
    paths: list[Path] = []
    with _removed_on_failure(paths):
        for name in ("", "keys", "policies", "witness"):
            _make_directory(directory / name, 0o700, paths)
        for path, text, mode in (
            (directory / KEY_NAME, signer.text() + "\n", 0o600),
            (directory / VERIFIER_NAME, verifier + "\n", 0o644),
            (directory / "groups.toml", GROUPS.format(operators=quoted), 0o600),
            (directory / "policies" / "rules.cedar", RULES, 0o600),
            (config, settings, 0o600),
        ):
            _write(path, text, mode, paths)
    return Made(directory=directory, config=config, verifier=verifier, paths=tuple(paths))


@contextmanager
def unmade_on_failure(made: Made) -> Iterator[None]:
    """Take back what `make_installation` made, and the new database, unless the block ends well.

    The next `init` then finds the place as this one found it. Nothing else is removed.
    """
    with _removed_on_failure([*made.paths, *(made.directory / name for name in _ADDED)]):
        yield


@contextmanager
def _removed_on_failure(paths: Sequence[Path]) -> Iterator[None]:
    try:
        yield
    except BaseException:  # also Ctrl-C: a half-made installation would block the next try
        for path in reversed(paths):
            _remove(path)
        raise


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
    except OSError:
        return  # somebody put something there meanwhile: it is theirs, and so stays


def _make_directory(path: Path, mode: int, paths: list[Path]) -> None:
    """`path` with the parents it lacks (as open as the umask has them); each one made is noted."""
    if path.is_dir():
        return
    if path.parent != path:
        _make_directory(path.parent, 0o777, paths)
    try:
        path.mkdir(mode=mode)
    except OSError as fault:
        raise _cannot(path, fault) from None
    paths.append(path)


def _write(path: Path, text: str, mode: int, paths: list[Path]) -> None:
    """A new file with exactly `mode`, noted; never overwrites."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        paths.append(path)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as fault:
        raise _cannot(path, fault) from None


def _cannot(path: Path, fault: OSError) -> AskedWrongly:
    return AskedWrongly(
        "cannot_make",
        f"cannot make `{path}`: {fault.strerror or type(fault).__name__}",
        "name a directory you may write to, and in which nothing of that name is yet",
    )
