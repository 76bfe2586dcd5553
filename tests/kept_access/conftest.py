"""The emulator these tests share."""

from tests.connectors.conftest import aws, sandbox

__all__ = ["aws", "sandbox"]
