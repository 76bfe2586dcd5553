"""`tidegate init`: a directory with everything a first installation needs, and nothing it shares.

Never overwrites: what is there stays, and the log's key is made exactly once.
"""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from tidegate.base.errors import AskedWrongly
from tidegate.base.text import clean_name
from tidegate.evidence.note import FileSigner

CONFIG_NAME = "tidegate.toml"
KEY_NAME = "keys/log.key"
VERIFIER_NAME = "keys/log.vkey"

CONFIG = """\
# Tidegate's own settings. `tidegate check` says what is wrong with them, line by line.
# Secrets never stand here: `env:NAME` or `file:PATH` say where one is.

[server]
listen = "{listen}"

[database]
url = "sqlite:///tidegate.db"

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What `init` made: paths for people to read, and the key a verifier needs."""

    directory: Path
    config: Path
    verifier: str


def make_installation(
    directory: Path, origin: str, operators: tuple[str, ...] = (), listen: str = "127.0.0.1:8470"
) -> Made:
    """Write the first files. The database is made when it is first opened.

    Raises:
        AskedWrongly: there is an installation already, or a bad origin or login.
    """
    config = directory / CONFIG_NAME
    if config.exists() or (directory / KEY_NAME).exists():
        raise AskedWrongly(
            "already_there",
            f"expected an empty place, got an installation in `{directory.name}`",
            "use it, or name another directory; a log's key is never made twice",
        )
    if not origin or len(origin) > 100 or any(ch.isspace() or ch in '+"\\' for ch in origin):
        raise AskedWrongly(
            "bad_origin",
            f"expected an origin like `tidegate.example/log`, got `{origin[:40]}`",
            "no blanks, quotes or plus signs; it can never be changed",
        )
    logins = [clean_name("login", login) for login in operators]
    signer = FileSigner(origin, secrets.token_bytes(32))
    for name in ("", "keys", "policies", "witness"):
        (directory / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(directory / KEY_NAME, signer.text() + "\n", 0o600)
    _write(directory / VERIFIER_NAME, signer.verifier().text() + "\n", 0o644)
    quoted = ", ".join(f'"{login}"' for login in logins)
    _write(directory / "groups.toml", GROUPS.format(operators=quoted), 0o600)
    _write(directory / "policies" / "rules.cedar", RULES, 0o600)
    _write(config, CONFIG.format(origin=origin, listen=listen), 0o600)
    return Made(directory=directory, config=config, verifier=signer.verifier().text())


def _write(path: Path, text: str, mode: int) -> None:
    """A new file with exactly `mode`; FileExistsError rather than overwriting."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
