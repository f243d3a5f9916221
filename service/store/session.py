"""The database: one engine for writing, one for reading.

On SQLite a transaction begins IMMEDIATE (a deferred one that turns to writing fails at once when another writes, whatever the
busy timeout), one lock a process keeps its writers in a fair line, and reads run on connections of their own that cannot write.
On PostgreSQL reads share the pool, as read-only transactions that see one moment throughout (REPEATABLE READ). A connection whose
other end died without a word is found out on both sides within half a minute: a worker that waits for an answer for ever would
keep its slot, and a transaction that waits for its host for ever would keep the job's row from whoever rescues it.
"""

import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session


class Database:
    """Opens sessions. `url` is SQLAlchemy's: sqlite:///file or postgresql+psycopg://user:password@host/name."""

    def __init__(self, url: str, pool_size: int = 10):
        self.url = url
        self.is_sqlite = make_url(url).get_backend_name() == "sqlite"
        self.engine = _sqlite(url, pool_size) if self.is_sqlite else _postgresql(url, pool_size)
        self._reading_engine = _sqlite(url, pool_size, read_only=True) if self.is_sqlite else _only_reading(self.engine)
        self._writer = threading.Lock()

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session that commits at the end of the block, or rolls back when it raises."""
        if not self.is_sqlite:
            with Session(self.engine, expire_on_commit=False) as session, session.begin():
                yield session
            return
        with self._writer, Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that only reads, at one moment's view of the database."""
        with Session(self._reading_engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def glancing(self) -> Iterator[Connection]:
        """What a session that reads stands on, for a statement or two: a session of their own would cost as much again.

        `session_of` makes one of it where more is to be read, at the same moment's view.
        """
        with self._reading_engine.connect() as connection:
            yield connection

    def answers(self) -> bool:
        """Whether the database can be reached now."""
        try:
            with self.reading() as session:
                session.execute(text("SELECT 1"))
        except Exception:
            return False
        return True

    def close(self) -> None:
        self.engine.dispose()
        self._reading_engine.dispose()


def session_of(connection: Connection) -> Session:
    return Session(connection, expire_on_commit=False)


# An open transaction that says nothing for so long is ended. Ours take milliseconds, and leases are longer.
IDLE_TRANSACTION_SECONDS = 30.0

# libpq's, which the database's URL may set otherwise: 10 s of silence, then three questions 5 s apart.
_LIVENESS = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,  # milliseconds
}


def _postgresql(url: str, pool_size: int) -> Engine:
    named = make_url(url).query
    engine = create_engine(
        url,
        pool_size=pool_size,
        hide_parameters=True,  # errors go to logs
        pool_pre_ping=True,
        pool_recycle=1800,
        connect_args={name: value for name, value in _LIVENESS.items() if name not in named},
        json_serializer=_json,
        json_deserializer=orjson.loads,
    )

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, record: Any) -> None:
        connection.autocommit = True
        for name, value in _of_the_server().items():
            connection.execute(f"SET {name} = '{value}'")
        connection.autocommit = False

    return engine


def _of_the_server() -> dict[str, str]:
    """How the server finds out that we are gone."""
    return {
        "idle_in_transaction_session_timeout": f"{IDLE_TRANSACTION_SECONDS * 1000:.0f}ms",
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
    }


def _only_reading(engine: Engine) -> Engine:
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def _sqlite(url: str, pool_size: int, read_only: bool = False) -> Engine:
    file = make_url(url).database
    if not file or file == ":memory:":
        raise ValueError("The database must be a file: memory is lost when the process ends.")
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).touch(mode=0o600)  # SQLite would make it readable by all; the files beside it get the permissions of this one
    engine = create_engine(
        url,
        pool_size=pool_size,
        hide_parameters=True,  # errors go to logs
        max_overflow=30,
        connect_args={"check_same_thread": False},
        json_serializer=_json,
        json_deserializer=orjson.loads,
    )

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        for pragma in _pragmas(read_only):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection  # SQLAlchemy's own way takes ten times as long to say it
        try:
            driver.execute("BEGIN" if read_only else "BEGIN IMMEDIATE")
        except driver.OperationalError as error:  # as SQLAlchemy would raise it
            raise OperationalError("BEGIN", None, error) from error

    return engine


def _pragmas(read_only: bool) -> tuple[str, ...]:
    common = ("busy_timeout = 30000", "foreign_keys = ON")
    if read_only:
        return (*common, "query_only = ON")
    return (*common, "journal_mode = WAL", "synchronous = FULL")


def _json(value: Any) -> str:
    """JSON has no NaN and no infinity, and PostgreSQL refuses Python's words for them: where a document has one, it is null."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # an integer of more than 64 bits, a key that is no text, half of a surrogate pair
        return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
