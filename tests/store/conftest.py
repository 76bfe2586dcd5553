"""A fresh store for each test."""

import pytest

from .making import Clock, open_store


@pytest.fixture
def path(tmp_path):
    """Where the store's file is."""
    return tmp_path / "tidegate.db"


@pytest.fixture
def clock():
    """The store's clock, moved by the test."""
    return Clock()


@pytest.fixture
def store(path, clock):
    """An empty store, closed afterwards."""
    opened = open_store(path, clock=clock)
    yield opened
    opened.close()
