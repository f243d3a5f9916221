"""The database's clock. Leases and times are its seconds since 1970, never a host's."""

from typing import Any

from sqlalchemy import Float, ScalarSelect, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class now(FunctionElement[float]):
    """Seconds since 1970, UTC, by the database's clock at this statement."""

    type = Float()
    inherit_cache = True


def moment() -> ScalarSelect[float]:
    """The same as one value for a whole statement, which PostgreSQL can look up in an index: what may change from row to row it
    must compare with every row."""
    return select(now()).scalar_subquery()


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: Any, **options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "postgresql")
def _now_postgresql(element: now, compiler: Any, **options: Any) -> str:
    # clock_timestamp, not now(): a transaction that waited for a lock must see the time after the wait
    return "extract(epoch from clock_timestamp())::double precision"
