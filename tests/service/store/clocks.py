"""A lever on the database's clock, so that a day passes in no time."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import event

from service.store import clock
from service.store.session import Database


def lever(database: Database) -> Callable[[float], None]:
    """A function that lets so many seconds pass for every statement from then on: each reads the clock as it is sent."""
    read = clock._now_sqlite if database.is_sqlite else clock._now_postgresql
    plain = read(clock.now(), None)
    passed = 0.0

    def shift(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
        return statement.replace(plain, f"({plain} + {passed})"), parameters

    # on PostgreSQL reading shares the engine, and its listeners
    engines = [database.engine, database._reading_engine] if database.is_sqlite else [database.engine]
    for engine in engines:
        event.listen(engine, "before_cursor_execute", shift, retval=True)

    def let_pass(seconds: float) -> None:
        nonlocal passed
        passed += seconds

    return let_pass
