"""Queries that are asked thousands of times a second: written by SQLAlchemy once for each engine,
then run on the driver itself.

Building and adapting a query costs SQLAlchemy several times what SQLite takes to answer it. Each
look is one statement, so it needs no transaction to be consistent.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any, Protocol

from sqlalchemy import Dialect, Select

from tidegate.store.database import Params, Words


class Looking(Protocol):
    """What a look is run on."""

    words: Words

    def look(self, sql: str, params: Params) -> list[Any]:
        """The rows of one query. Raises WorldFailed."""
        ...


class Columns:
    """Where each column of a query is in its rows: one object a query."""

    __slots__ = ("place",)

    def __init__(self, names: Iterable[str]) -> None:
        self.place = {name: place for place, name in enumerate(names)}


class Looked:
    """A row a look found: its values in the order of `columns`."""

    __slots__ = ("columns", "values")

    def __init__(self, columns: Columns, values: tuple[Any, ...]) -> None:
        self.columns = columns
        self.values = values

    def __getitem__(self, column: str, /) -> Any:
        """The value of a column."""
        return self.values[self.columns.place[column]]

    def keys(self) -> Iterable[str]:
        """The names of its columns, in order."""
        return self.columns.place.keys()


class Look:
    """One query. Its parameters are the `bindparam`s in it; lists cannot be one."""

    def __init__(self, query: Select[Any]) -> None:
        self._query = query
        self._columns = Columns(str(column.key) for column in query.selected_columns)
        self._texts: dict[str, tuple[str, dict[str, Any], list[str] | None]] = {}

    def rows(self, db: Looking, **params: Any) -> list["Looked"]:
        """Every row it finds, by column name. Booleans may come as numbers. Raises WorldFailed."""
        found = self._texts.get(db.words.name)
        text, fixed, order = found if found is not None else self._write(db.words.name)
        named = {**fixed, **params}
        values: Params = named if order is None else [named[name] for name in order]
        columns = self._columns
        return [Looked(columns, row) for row in db.look(text, values)]

    def _write(self, engine: str) -> tuple[str, dict[str, Any], list[str] | None]:
        """The text, the parameters that are always the same, and the order of all, if by place."""
        compiled = self._query.compile(
            dialect=_dialect(engine), compile_kwargs={"render_postcompile": True}
        )
        fixed = {name: value for name, value in compiled.params.items() if value is not None}
        self._texts[engine] = (str(compiled), fixed, compiled.positiontup)
        return self._texts[engine]


@cache
def _dialect(engine: str) -> Dialect:
    found: Dialect
    if engine == "sqlite":
        from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

        # By place: SQLite finds each name among all; with 500 that takes as long as the query.
        found = SQLiteDialect_pysqlite(paramstyle="qmark")
    else:
        from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

        found = PGDialect_psycopg()  # type: ignore[no-untyped-call]
    return found
