"""The emulator these tests share, and both engines for those whose world takes a `database`."""

from tests.conftest import on_both
from tests.connectors.conftest import aws, sandbox

__all__ = ["aws", "sandbox"]

pytest_generate_tests = on_both
