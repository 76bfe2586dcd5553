"""What we do, on every engine where the engine could make a difference.

Whole lives, who may do what and what a restored database knows; the long faults of clouds and
clocks run on SQLite alone.
"""

import pytest

from tests.conftest import on_both

ON_BOTH = frozenset({"test_allowing", "test_lifecycle", "test_restored"})


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Both engines."""
    if metafunc.module.__name__.rpartition(".")[2] in ON_BOTH:
        on_both(metafunc)
