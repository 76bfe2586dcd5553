"""What the command line asks of the machine it runs on: given by `main`, which alone may wire it.

Everything else the commands do goes through the API of a server. Nothing here is imported by the
commands but the shapes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from tidegate.base.when import Instant

Plain = Mapping[str, Any]  # ready for JSON


class Report(Protocol):
    """The outcome of a check of evidence: `evidence.verify.LogReport` is one."""

    @property
    def ok(self) -> bool:
        """Whether everything held."""
        ...

    def as_json(self) -> Plain:
        """Every part of it, ready for JSON."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A local account to be made. `mail` may be empty; the password is shown nowhere."""

    login: str
    password: str = field(repr=False)
    name: str = ""
    mail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsAsked:
    """What is handed out on AWS, as options name it; every text may be empty.

    `accounts` are those in which permission sets are assigned, `hub` the one that administers
    Identity Center, `deny` where live sessions are cut: `permission-set`, `scp` or `none`. With
    `schedules`, `group`, `schedule_role` and `dead_letters` are the names of what they need.
    """

    roles: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    hub: str = ""
    region: str = ""
    instance: str = ""
    store: str = ""
    deny: str = "permission-set"
    scp: str = ""
    schedules: bool = True
    group: str = ""
    schedule_role: str = ""
    dead_letters: str = ""


class Local(Protocol):
    """The machine: its clock and randomness, and the installation in a directory of it."""

    def clock(self) -> Instant:
        """The instant now."""
        ...

    def randomness(self, count: int) -> bytes:
        """`count` bytes nobody can guess."""
        ...

    def pause(self, seconds: float) -> None:
        """Wait. Raises KeyboardInterrupt on Ctrl-C."""
        ...

    def init(
        self,
        directory: Path,
        origin: str,
        accounts: Sequence[Account],
        database: str = "",
    ) -> Plain:
        """Make an installation; every account is an operator. `{directory, config, verifier}`.

        `database` is the setting `[database] url`; empty for a file beside the settings.

        Raises AskedWrongly when one is there already.
        """
        ...

    def serve(self, config: Path, host: str, port: int, worker: str = "") -> int:
        """Serve until told to stop; the exit code. Empty `host` and `worker`, 0 `port`: as
        configured.
        """
        ...

    def work(self, config: Path, worker: str) -> int:
        """Run a worker without an API until told to stop; the exit code."""
        ...

    def check(self, config: Path) -> Sequence[Plain]:
        """Everything wrong or odd with an installation's files.

        Each finding: `{level: error|warning, file, line, expected, got, help, code}`.
        """
        ...

    def onboard_aws(self, config: Path | None, form: str, asked: AwsAsked) -> str:
        """What Tidegate needs on AWS, as `cloudformation`, `terraform` or `json`.

        For the installation at `config` (what `asked` adds to it), or without for `asked` alone.
        """
        ...

    def demo(self, as_json: bool, keep: bool, broken: bool, database: str) -> int:
        """Play the whole path on a sandbox cloud, printing as it goes; the exit code.

        `broken`: the play in which the cloud refuses a removal. `database`: `sqlite` with one
        server, `postgresql` with two.
        """
        ...

    def account_add(self, config: Path, account: Account) -> Plain:
        """Make a local account: `{principal, login, enabled}`. Raises AskedWrongly when taken."""
        ...

    def account_list(self, config: Path) -> Sequence[Plain]:
        """Every local account: `{principal, login, name, enabled, groups: [..]}`."""
        ...

    def account_enable(self, config: Path, login: str, enabled: bool) -> Plain:
        """Let an account sign in, or stop it and end its tokens: `{principal, login, enabled}`."""
        ...

    def account_password(self, config: Path, login: str, password: str) -> Plain:
        """Set a new password and end every token of the account: `{principal, login}`."""
        ...

    def verify_log(self, config: Path, since: Sequence[str], key: str = "") -> Report:
        """Check the whole log of an installation against the checkpoints (notes) in `since`.

        `key` is the text of a key file; empty, the installation's own key is trusted.
        """
        ...

    def key_show(self, config: Path) -> Plain:
        """The log's keys: `{origin, keys: [{id, key, first, until, ended_at}], public, left_over}`.

        `public` is the key file for verifiers; `left_over` that a change of key was cut short
        before it was sealed.
        """
        ...

    def key_rotate(self, config: Path) -> Plain:
        """Give the log a new key: `{origin, event, before, after, public, kept}`.

        Raises AskedWrongly while a server runs.
        """
        ...

    def panic(
        self,
        config: Path,
        kind: str,
        name: str,
        reason: str,
        freeze: timedelta | None,
        patience: timedelta,
        tell: Callable[[str], None],
    ) -> Plain:
        """End everything in a scope without a server: as the API answers of a panic."""
        ...

    def recover(
        self,
        config: Path,
        sources: Mapping[str, Sequence[str]],
        dry: bool,
        patience: timedelta,
        tell: Callable[[str], None],
    ) -> Plain:
        """Close what is overdue without the database: `{ok, grants, counts, unknown, next}`."""
        ...

    def rebuild_check(self, config: Path) -> Sequence[Plain]:
        """Rebuild the state from events; what differs: `{table, id, field, expected, got}`."""
        ...
