"""Turns: the workers of a queue look for a job and claim it one after another.

Those that look at one moment would all run for the first in line: one has it, and what the others looked up is of no use to them;
and while its claim is not committed, its owner seems to have fewer running than there are. Behind one another, each finds the
line as it is.

A turn is a courtesy, and no claim depends on it: whoever has waited for long enough goes without. On SQLite there is none: its
writers stand in one line already, and few workers share a file.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, OperationalError

from service.store.session import Database

# A turn takes some hundredths of a second, and fifty may stand in line. One that is stopped must not stop all.
PATIENCE_SECONDS = 3.0

_WAIT = text("SELECT set_config('lock_timeout', :patience, true)")
_TAKE = text("SELECT pg_advisory_xact_lock(hashtextextended(:queue, 8))")
_HAS_WAITED = "55P03"  # lock_not_available


@contextmanager
def turn(database: Database, queues: Collection[str], patience_seconds: float = PATIENCE_SECONDS) -> Iterator[None]:
    """This worker's, among those that listen on one of the queues. Those who wait get theirs in the order in which they came."""
    if database.is_sqlite:
        yield
        return
    connection = database.engine.connect()
    try:
        _take(connection, queues, patience_seconds)
        yield
    finally:
        with suppress(DBAPIError):  # the server has ended it, and with it the turn: what was done in it stands
            connection.close()


def _take(connection: Connection, queues: Collection[str], patience_seconds: float) -> None:
    try:
        connection.execute(_WAIT, {"patience": f"{1000 * patience_seconds:.0f}ms"})
        for queue in sorted(set(queues)):  # one order for all who take several
            connection.execute(_TAKE, {"queue": queue})
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) != _HAS_WAITED:
            raise
        connection.rollback()
