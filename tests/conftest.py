"""Fixtures every room's tests may use."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A small world, and its sure end."""
    made = World(tmp_path)
    yield made
    made.down()
