"""Permission sets that administer an account, and the look at them on a clock of the test."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

from tests.connectors.account_world import FakeAws
from tests.connectors.identity_center_world import ACCOUNT, FAST, Center
from tidegate.connectors.aws_calls import Aws
from tidegate.connectors.identity_center_assignments import Assignments
from tidegate.connectors.identity_center_calls import Center as CenterCalls
from tidegate.connectors.identity_center_standing import (
    StandingSets,
)
from tidegate.connectors.port import Administrator


def allowing(action: str) -> dict[str, Any]:
    """A policy of one statement, on everything."""
    statement = {"Effect": "Allow", "Action": action, "Resource": "*"}
    return {"Version": "2012-10-17", "Statement": [statement]}


def give(center: Center, name: str, account: str = ACCOUNT, *, to: str, **policies: Any) -> str:
    """Somebody assigns a permission set that the catalogue does not have; its ARN."""
    who = {"group" if to == "ops" else "user": to}
    made = {"name": name, "managed": [], "attached": [], **policies}
    ids = center.admin.seed(
        permission_sets=[made], assignments=[{"permission_set": name, "account": account, **who}]
    )
    return str(ids["permission_sets"][name])


def account(*policies: tuple[str, object]) -> FakeAws:
    """The account's own IAM, with these customer managed policies in force."""
    aws = FakeAws()
    aws.account = ACCOUNT
    aws.details = {
        "Policies": [
            {
                "Arn": f"arn:aws:iam::{ACCOUNT}:policy{name}",
                "PolicyVersionList": [{"IsDefaultVersion": True, "Document": document}],
            }
            for name, document in policies
        ]
    }
    return aws


class Clocked:
    """The look by itself, with a clock and pauses of the test."""

    def __init__(self, center: Center, each: float = 0.0) -> None:
        self.center, self.each, self.at = center, each, 0.0
        self.pauses: list[float] = []
        pace = replace(FAST, apart=FAST.every * 250, wait=self.wait)
        self.sets = StandingSets(Assignments(FAST), pace, self.monotonic)
        self.calls = CenterCalls(center.settings, Aws(center.settings.closer))

    def monotonic(self) -> float:
        """A clock that goes on by pauses alone, and by `each` for every call after one."""
        return self.at

    def wait(self, seconds: float) -> None:
        """A pause, and the call that follows it."""
        self.pauses.append(seconds)
        self.at += seconds + self.each

    def later(self, **span: float) -> None:
        """Let time pass; without a span, until the next look at an account."""
        self.at += timedelta(**(span or {"minutes": 10})).total_seconds()

    def look(self, aws: FakeAws | None = None) -> tuple[Administrator, ...]:
        """One look."""
        handed = frozenset({self.center.arn})
        return self.sets.look(self.calls, self.center.target, handed, cast(Aws, aws))
