"""Fixtures every room's tests may use."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import postgres
from tests.support import World

LONG = ("story", "chaos", "kept_access")  # rooms of real processes: minutes, most of them waiting


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first: last, one alone would keep the other core idle for its minutes."""
    items.sort(key=lambda item: item.path.parent.name not in LONG)


@pytest.fixture
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    """A small world, and its sure end: on SQLite, unless the room asks for more (`on_both`)."""
    on_postgres = getattr(request, "param", "sqlite") == "postgresql"
    url = postgres.fresh(postgres.migrated()) if on_postgres else ""
    made = World(tmp_path, url=url)
    yield made
    made.down()
    if url:
        postgres.drop(url)


def on_both(metafunc: pytest.Metafunc) -> None:
    """Run a test that uses this file's `world` on every engine, or on the `only` one it names."""
    if "world" not in metafunc.fixturenames:
        return
    fixture = metafunc._arg2fixturedefs["world"][-1]
    if fixture.func.__module__ == __name__:
        marked = metafunc.definition.get_closest_marker("only")
        engines = [marked.args[0]] if marked else ["sqlite", "postgresql"]
        metafunc.parametrize("world", engines, indirect=True)
