"""This machine as the command line sees it. Light on purpose: most commands only call a server, so
whatever opens an installation is imported by the method that does.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.base.when import Instant

if TYPE_CHECKING:
    from tidegate.shell.cli.local import Account, AwsAsked, Report

Plain = Mapping[str, Any]


class ThisMachine:
    """`shell.cli.local.Local`, for real."""

    def clock(self) -> Instant:
        """The instant now."""
        return datetime.now(UTC)

    def randomness(self, count: int) -> bytes:
        """`count` bytes nobody can guess."""
        return os.urandom(count)

    def pause(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def init(
        self,
        directory: Path,
        origin: str,
        accounts: "Sequence[Account]",
        database: str = "",
    ) -> Plain:
        """Make an installation; every account named is an operator."""
        from tidegate.main import local

        return local.init(directory, origin, accounts, database)

    def serve(self, config: Path, host: str, port: int, worker: str = "") -> int:
        """Serve until told to stop."""
        from tidegate.main import local

        return local.serve(config, host, port, worker)

    def work(self, config: Path, worker: str) -> int:
        """Run a worker until told to stop."""
        from tidegate.main import local

        return local.work(config, worker)

    def check(self, config: Path) -> Sequence[Plain]:
        """Everything wrong or odd with an installation's files."""
        from tidegate.main import local

        return local.check(config)

    def onboard_aws(self, config: Path | None, form: str, asked: "AwsAsked") -> str:
        """What Tidegate needs on AWS."""
        from tidegate.main import onboarding

        return onboarding.onboard_aws(config, form, asked)

    def demo(self, as_json: bool, keep: bool, broken: bool, database: str) -> int:
        """Play the whole path on a sandbox cloud, or what happens where a cloud refuses an end."""
        if broken:
            from tidegate.main.demo_break import play_break

            return play_break(as_json, keep, database)
        from tidegate.main.demo import play

        return play(as_json, keep, database)

    def account_add(self, config: Path, account: "Account") -> Plain:
        """Make a local account."""
        from tidegate.main import local

        return local.account_add(config, account)

    def account_list(self, config: Path) -> Sequence[Plain]:
        """Every local account with the groups the file gives it."""
        from tidegate.main import local

        return local.account_list(config)

    def account_enable(self, config: Path, login: str, enabled: bool) -> Plain:
        """Let an account sign in, or stop it and end its tokens."""
        from tidegate.main import local

        return local.account_enable(config, login, enabled)

    def account_password(self, config: Path, login: str, password: str) -> Plain:
        """Set a new password and end every token of the account."""
        from tidegate.main import local

        return local.account_password(config, login, password)

    def verify_log(self, config: Path, since: Sequence[str], key: str = "") -> "Report":
        """Check the whole log against `since` and the witness directory."""
        from tidegate.main import local

        return local.verify_log(config, since, key)

    def key_show(self, config: Path) -> Plain:
        """The public keys of the log."""
        from tidegate.main import local

        return local.key_show(config)

    def key_rotate(self, config: Path) -> Plain:
        """Give the log a new key."""
        from tidegate.main import local

        return local.key_rotate(config)

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
        """End everything in a scope without a server."""
        from tidegate.main.panicking import panic_here

        return panic_here(config, kind, name, reason, freeze, patience=patience, tell=tell)

    def recover(
        self,
        config: Path,
        sources: Mapping[str, Sequence[str]],
        dry: bool,
        patience: timedelta,
        tell: Callable[[str], None],
    ) -> Plain:
        """Close what is overdue without the database."""
        from tidegate.main.emergency import recover

        return recover(config, sources, dry=dry, patience=patience, tell=tell)

    def rebuild_check(self, config: Path) -> Sequence[Plain]:
        """Rebuild the state from events; every row that differs (I7)."""
        from tidegate.main import local

        return local.rebuild_check(config)
