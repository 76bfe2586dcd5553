"""The ordinary demo's stage: IAM roles of a sandbox cloud. Also what the stories in tests use."""

from pathlib import Path

from tidegate.connectors.sandbox import ACCOUNT, REGION, ROOT_KEY, ROOT_SECRET, Sandbox, free_port
from tidegate.main.stage import BIN, SQLITE, Keys, StageOf, Told

__all__ = ["BIN", "Keys", "Stage", "Told", "free_port"]

TARGET = """
[[target]]
id = "aws-demo"
connector = "aws"
account = "{account}"
owner = "group:sre-leads"
time_zone = "UTC"
labels = ["env=demo"]

[target.aws]
region = "{region}"
endpoint_url = "{url}"
access_key_id = "env:TIDEGATE_DEMO_KEY"
secret_access_key = "env:TIDEGATE_DEMO_SECRET"

[[target.role]]
name = "admin"
title = "Administrator of the sandbox account"
arn = "{arn}"
probe = "iam:ListUsers"
"""
RULES = """
@id("demo-admin") @max("1h") @approve("1 of group:sre-leads")
permit (principal in Group::"sre", action == Action::"request", resource in Target::"aws-demo")
when { context has ticket && context.ticket like "INC-*" };
"""


class Stage(StageOf):
    """An emulated account with one role that may be held, `aws-demo/admin`."""

    rules = RULES

    def __init__(self, directory: Path, database: str = SQLITE) -> None:
        super().__init__(directory, database)
        self.sandbox = Sandbox(directory / "cloud")
        self.role_arn = ""

    @property
    def cloud_url(self) -> str:
        """The emulator's address."""
        return self.sandbox.url

    def cloud_up(self) -> None:
        """Start the emulator and make the role."""
        self.sandbox.start()
        self.role_arn = self.sandbox.create_role("demo-admin")

    def cloud_down(self) -> None:
        """Stop the emulator."""
        self.sandbox.stop()

    def settings(self) -> str:
        """The target."""
        return TARGET.format(
            account=ACCOUNT, region=REGION, url=self.sandbox.url, arn=self.role_arn
        )

    def secrets(self) -> dict[str, str]:
        """The emulator's root."""
        return {"TIDEGATE_DEMO_KEY": ROOT_KEY, "TIDEGATE_DEMO_SECRET": ROOT_SECRET}

    def installed(self, config: Path) -> None:
        """Nothing is left to do: root may do everything."""
