"""What we do, on every engine where the engine could make a difference.

Whole lives, who may do what and what a restored database knows. The long faults of clouds and
clocks, and what is closed from journals, run on SQLite alone: a lost database of either engine is
in `tests/kept_access/`.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import on_both
from tests.flow.assigned import assign
from tests.support import World

ON_BOTH = frozenset(
    {
        "test_adopting",
        "test_allowing",
        "test_crash",
        "test_errands",
        "test_extending",
        "test_failed",
        "test_finding",
        "test_journals",
        "test_lateness",
        "test_lifecycle",
        "test_pace_of_accounts",
        "test_panic",
        "test_reconciling",
        "test_restored",
        "test_signing_off",
        "test_turns",
        "test_warning",
        "test_worker",
    }
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Both engines."""
    if metafunc.module.__name__.rpartition(".")[2] in ON_BOTH:
        on_both(metafunc)


@pytest.fixture
def assigned(tmp_path: Path, database: str) -> Iterator[World]:
    """`prod/admin` is an assignment there."""
    made = assign(World(tmp_path, url=database))
    yield made
    made.down()
