"""Long series, thinned where they lie: to the first point and the last, and of equal stretches of updates between them the lowest
and the highest, the first of those that are equal. A row for each point would take ten times as long.

SQLite finds these itself, stretch by stretch along the key, and hands over no others. PostgreSQL would walk from row to row twice
for that: it hands over all values as one, once.
"""

import sys
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

Columns = tuple[list[int], list[float]]

_OF_KEY = "job_id = :job_id AND step = :step AND name = :name"
_WITHIN = f"{_OF_KEY} AND global_step BETWEEN :low AND :high"

_ALL = text(f"SELECT global_step, value FROM series WHERE {_WITHIN} ORDER BY global_step")

_ENDS = text(
    f"SELECT (SELECT min(global_step) FROM series WHERE {_OF_KEY} AND global_step >= :low), "
    f"(SELECT max(global_step) FROM series WHERE {_OF_KEY} AND global_step <= :high), "
    f"(SELECT count(*) FROM (SELECT 1 FROM series WHERE {_WITHIN} LIMIT :points + 1))"
)
_OF_STRETCH = f"SELECT global_step FROM series WHERE {_OF_KEY} AND global_step >= stretch.first AND global_step < stretch.behind"
_KEPT = text(
    "WITH stretch AS (SELECT value AS first, lead(value) OVER (ORDER BY key) AS behind FROM json_each(:edges)) "
    f"SELECT global_step, value FROM series WHERE {_OF_KEY} AND global_step IN (SELECT :first UNION SELECT :last "
    f"UNION SELECT ({_OF_STRETCH} ORDER BY series.value, global_step LIMIT 1) FROM stretch "
    f"UNION SELECT ({_OF_STRETCH} ORDER BY series.value DESC, global_step LIMIT 1) FROM stretch) ORDER BY global_step"
)

_VALUES = text(
    "SELECT count(*), min(global_step), max(global_step), string_agg(float8send(value), ''::bytea ORDER BY global_step) "
    f"FROM series WHERE {_WITHIN}"
)
_UPDATES = text(f"SELECT string_agg(int4send(global_step), ''::bytea ORDER BY global_step) FROM series WHERE {_WITHIN}")


def series(session: Session, job_id: str, step: str, name: str, within: tuple[int, int], points: int | None) -> Columns:
    """(updates, values) of a series from an update to another, at most about `points` of them."""
    key = {"job_id": job_id, "step": step, "name": name, "low": within[0], "high": within[1]}
    if points is None:
        return _all(session, key)
    return (_of_sqlite if session.get_bind().dialect.name == "sqlite" else _of_postgresql)(session, key, points)


def edges(first: int, last: int, points: int) -> list[int]:
    """The updates that the stretches between the first and the last begin with, and the one behind the last stretch."""
    n_stretches = (points - 2) // 2
    return [first + 1 + index * (last - first - 1) // n_stretches for index in range(n_stretches + 1)] if n_stretches else []


def kept(at: Sequence[int], values: Sequence[float], points: int) -> list[int]:
    """Which points stay, by position. `at` are their updates, ascending."""
    if len(at) <= points:
        return list(range(len(at)))
    chosen = {0, len(at) - 1}
    begins = [bisect_left(at, edge) for edge in edges(at[0], at[-1], points)]
    for begin, end in pairwise(begins):
        if stretch := values[begin:end]:
            chosen |= {begin + stretch.index(min(stretch)), begin + stretch.index(max(stretch))}
    return sorted(chosen)


def _all(session: Session, key: dict[str, Any], wanted: Any = _ALL) -> Columns:
    """The driver's own rows: SQLAlchemy would make an object of each of thousands."""
    found = session.connection().execute(wanted, key).cursor.fetchall()
    return [at for at, _ in found], [value for _, value in found]


def _of_sqlite(session: Session, key: dict[str, Any], points: int) -> Columns:
    first, last, n = session.execute(_ENDS, {**key, "points": points}).one()
    if n <= points:
        return _all(session, key)
    return _all(session, {**key, "first": first, "last": last, "edges": str(edges(first, last, points))}, _KEPT)


def _of_postgresql(session: Session, key: dict[str, Any], points: int) -> Columns:
    n, first, last, sent = session.execute(_VALUES, key).one()
    is_whole = n > 0 and last - first + 1 == n
    at = range(first, last + 1) if is_whole else _unpacked("i", session.scalar(_UPDATES, key))
    values = _unpacked("d", sent)
    stay = kept(at, values, points)
    return [at[position] for position in stay], [values[position] for position in stay]


def _unpacked(kind: str, sent: bytes | None) -> "array[Any]":
    """Numbers as PostgreSQL sends them, one behind another."""
    numbers = array(kind, sent or b"")
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers
