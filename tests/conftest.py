"""Fixtures every room's tests may use."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests import postgres, sqlite
from tests.support import World

LONG = ("story", "chaos", "kept_access")  # rooms of real processes: minutes, most of them waiting


def pytest_configure() -> None:
    """Nothing is waited for that no test looks at.

    A traceback in the log is plain: one drawn with every local value takes half a second. No file
    of this process is synced: that is for when the power is cut, which no test can do.
    """
    plain = structlog.dev.ConsoleRenderer(
        colors=False, exception_formatter=structlog.dev.plain_traceback
    )
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])
    os.fsync = lambda fd: None
    sqlite.make_at_once()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first: last, one alone would keep the other core idle for its minutes."""
    items.sort(key=lambda item: item.path.parent.name not in LONG)


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    """What the database of a test is on: SQLite, unless the room asks for more (`on_both`), or
    TEST_DATABASE says `postgresql`: then every world has one of those.
    """
    marked = request.node.get_closest_marker("only")
    usual = marked.args[0] if marked else os.environ.get("TEST_DATABASE", "sqlite")
    return str(getattr(request, "param", usual))


@pytest.fixture
def database(engine: str) -> Iterator[str]:
    """The URL of an empty database; "" is a file in the world's own directory."""
    if engine == "sqlite":
        yield ""
        return
    url = postgres.fresh(postgres.migrated())
    yield url
    postgres.drop(url)


@pytest.fixture
def world(tmp_path: Path, database: str) -> Iterator[World]:
    """A small world, and its sure end."""
    made = World(tmp_path, url=database)
    yield made
    made.down()


def on_both(metafunc: pytest.Metafunc) -> None:
    """Run a test that uses `engine` on each, or on the `only` one it names."""
    if "engine" in metafunc.fixturenames:
        marked = metafunc.definition.get_closest_marker("only")
        engines = [marked.args[0]] if marked else ["sqlite", "postgresql"]
        metafunc.parametrize("engine", engines, indirect=True)
