"""Turns: the workers of a queue look for a job and claim it one after another.

Those that look at one moment would all run for the first in line: one has it, and what the others looked up is of no use to them;
and while its claim is not committed, its owner seems to have fewer running than there are. Behind one another, each finds the
line as it is.

A turn is a courtesy, and no claim depends on it: whoever finds that the line has not moved for a while goes without. On SQLite
there is none: its writers stand in one line already, and few workers share a file.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, OperationalError

from service.store.session import Database

# A turn takes some hundredths of a second. One that is stopped must not stop all, and a line that is long but moves is none.
PATIENCE_SECONDS = 2.0

_WAIT = text("SELECT set_config('lock_timeout', :patience, true)")
_TAKE = text("SELECT pg_advisory_xact_lock(hashtextextended(:queue, 8))")
_HOLDERS = text(
    "SELECT pid FROM pg_locks JOIN pg_database d ON d.oid = database WHERE d.datname = current_database() "
    "AND locktype = 'advisory' AND granted AND objsubid = 1 "
    "AND ((classid::bigint << 32) | objid::bigint) = hashtextextended(:queue, 8)"
)
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
    """Waits for as long as the line moves: until, after a while, the same as before have the turns."""
    in_order = sorted(set(queues))  # one order for all who take several
    before: set[int] = set()
    while not _is_taken(connection, in_order, patience_seconds):
        now = _holders(connection, in_order)
        if now and now == before:
            return
        before = now


def _is_taken(connection: Connection, queues: Sequence[str], patience_seconds: float) -> bool:
    try:
        connection.execute(_WAIT, {"patience": f"{1000 * patience_seconds:.0f}ms"})
        for queue in queues:
            connection.execute(_TAKE, {"queue": queue})
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) != _HAS_WAITED:
            raise
        connection.rollback()
        return False
    return True


def _holders(connection: Connection, queues: Sequence[str]) -> set[int]:
    """The server's processes that have the turns."""
    found = {pid for queue in queues for pid in connection.scalars(_HOLDERS, {"queue": queue})}
    connection.rollback()
    return found
