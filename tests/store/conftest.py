"""A fresh store for each test, on every engine, but where the test is about SQLite's file."""

import pytest

from tests import postgres

from .making import Clock, open_store


def pytest_generate_tests(metafunc):
    """Both engines for whatever needs a place; SQLite alone for whoever asks for its `path`."""
    if "engine" in metafunc.fixturenames:
        about_the_file = "path" in metafunc.definition._fixtureinfo.argnames
        engines = ["sqlite"] if about_the_file else ["sqlite", "postgresql"]
        marked = metafunc.definition.get_closest_marker("only")
        metafunc.parametrize("engine", [marked.args[0]] if marked else engines, scope="function")


@pytest.fixture
def path(tmp_path):
    """Where the store's file is."""
    return tmp_path / "tidegate.db"


@pytest.fixture
def place(engine, tmp_path):
    """Where the store is: a file, or the URL of a database."""
    if engine == "sqlite":
        yield tmp_path / "tidegate.db"
        return
    url = postgres.fresh(postgres.migrated())
    yield url
    postgres.drop(url)


@pytest.fixture
def clock():
    """The store's clock, moved by the test."""
    return Clock()


@pytest.fixture
def store(place, clock):
    """An empty store, closed afterwards."""
    opened = open_store(place, clock=clock)
    yield opened
    opened.close()
