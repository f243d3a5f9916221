"""Many rows as one statement, with as many parameters for a thousand rows as for one: they go in as one JSON text.

Bound by themselves they cost a step each, and each step lets go of the interpreter's lock: a thread that writes for many requests
at once would wait for all of them at every row.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import orjson
from sqlalchemy import Table, TextClause, text
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Session


def insert_all(session: Session, table: Table, rows: Sequence[Mapping[str, Any]], **alike: Any) -> None:
    """Inserts rows that have the same columns; `alike` are columns in which all have one value.

    On SQLite a float of a row may lose its last bit: one that must equal another table's is among `alike`.
    """
    if not rows:
        return
    dialect = session.get_bind().dialect
    columns = tuple(rows[0])
    values: Sequence[Any] = rows
    if dialect.name == "sqlite":
        statement, values = _on_sqlite(table, columns, tuple(alike)), _written(table, columns, rows, dialect)
    else:
        statement = _on_postgresql(table, columns, tuple(alike), dialect)
    session.execute(statement, {"rows_as_json": orjson.dumps(values).decode(), **alike})


def _written(table: Table, columns: tuple[str, ...], rows: Sequence[Mapping[str, Any]], dialect: Dialect) -> list[list[Any]]:
    """The values as SQLite keeps them: a document is a text."""
    kept = list(zip(columns, _processors(table, columns, dialect), strict=True))
    return [[row[name] if process is None else process(row[name]) for name, process in kept] for row in rows]


@cache
def _processors(table: Table, columns: tuple[str, ...], dialect: Dialect) -> list[Any]:
    return [table.c[name].type.dialect_impl(dialect).bind_processor(dialect) for name in columns]


@cache
def _on_sqlite(table: Table, columns: tuple[str, ...], alike: tuple[str, ...]) -> TextClause:
    values = [f"json_extract(value, '$[{position}]')" for position in range(len(columns))]
    return _insert(table, columns, values, alike, "json_each(:rows_as_json)")


@cache
def _on_postgresql(table: Table, columns: tuple[str, ...], alike: tuple[str, ...], dialect: Dialect) -> TextClause:
    typed = ", ".join(f"{name} {table.c[name].type.compile(dialect)}" for name in columns)
    values = [f"given.{name}" for name in columns]
    return _insert(table, columns, values, alike, f"json_to_recordset(CAST(:rows_as_json AS json)) AS given({typed})")


def _insert(table: Table, columns: Sequence[str], values: Sequence[str], alike: Sequence[str], rows: str) -> TextClause:
    chosen = ", ".join((*values, *(f":{name}" for name in alike)))
    return text(f"INSERT INTO {table.name} ({', '.join((*columns, *alike))}) SELECT {chosen} FROM {rows}")
