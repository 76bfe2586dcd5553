"""A machine that only closes, as `docs/operations.md` has it: its settings name an opener's keys
and a closer's, and its environment has the closer's alone. Its `aws` is a simulated cloud.
"""

from collections.abc import Mapping
from typing import Any

import pytest

from tidegate.connectors.aws_calls import AwsSettings
from tidegate.connectors.port import Connector
from tidegate.connectors.simulated import SimulatedCloud, SimulatedConnector
from tidegate.main import clouds

APART = """
[[target]]
id = "{id}"
connector = "aws"
account = "123456789012"
[target.aws]
opener_access_key_id = "env:TIDEGATE_TEST_OPENER"
opener_secret_access_key = "env:TIDEGATE_TEST_OPENER"
closer_access_key_id = "env:TIDEGATE_TEST_CLOSER"
closer_secret_access_key = "env:TIDEGATE_TEST_CLOSER"
[[target.role]]
name = "admin"
arn = "arn:aws:iam::123456789012:role/admin"
"""


def only_closes(patched: pytest.MonkeyPatch) -> dict[str, AwsSettings]:
    """Have this process be on that machine; how each target is reached, once it is."""
    patched.setenv("TIDEGATE_TEST_CLOSER", "the-closer")
    patched.delenv("TIDEGATE_TEST_OPENER", raising=False)
    reached: dict[str, AwsSettings] = {}

    def made(settings: Mapping[str, AwsSettings], *_: Any) -> Connector:
        reached.update(settings)
        return SimulatedConnector(SimulatedCloud())

    patched.setattr(clouds, "_aws", made)
    return reached
