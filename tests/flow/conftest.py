"""What we do, on every engine."""

import pytest

from tests.conftest import on_both


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Both engines."""
    on_both(metafunc)
