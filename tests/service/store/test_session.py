import os
import stat
from pathlib import Path

import pytest
from sqlalchemy import func, make_url, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from service.store import events, schema
from service.store.session import Database
from service.store.tables import Event, Job
from tests.service.store.stored import break_off, hold, job_of, kinds_of, renew, submit
from tests.service.store.threads import at_once

only_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
only_postgresql = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


def pragma(database: Database, name: str, reading: bool = False) -> object:
    with database.reading() if reading else database.transaction() as session:
        return session.execute(text(f"PRAGMA {name}")).scalar_one()


@only_sqlite
def test_sqlite_writes_ahead_syncs_in_full_and_keeps_its_references(database: Database) -> None:
    full = 2
    assert pragma(database, "journal_mode") == "wal"
    assert pragma(database, "synchronous") == full
    assert pragma(database, "foreign_keys") == 1
    assert pragma(database, "busy_timeout") == 30_000


def test_a_new_sqlite_file_and_those_beside_it_are_its_owner_s_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        database = Database(f"sqlite:///{tmp_path}/finebits.db")
        schema.upgrade(database)
        made = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
        database.close()
    finally:
        os.umask(before)
    assert made == dict.fromkeys(("finebits.db", "finebits.db-wal", "finebits.db-shm"), 0o600)


@only_sqlite
def test_sqlite_reads_on_connections_that_cannot_write(database: Database) -> None:
    assert pragma(database, "query_only", reading=True) == 1
    assert pragma(database, "query_only") == 0


@only_postgresql
def test_a_host_that_dies_in_the_middle_of_a_transaction_does_not_keep_the_job_s_row(
    database: Database,
) -> None:
    job_id = submit(database)
    of_the_dead = Database(database.url)
    with of_the_dead.engine.connect() as connection:
        # sent together, for between two of them a host that is only slow may be idle for as long; while it works, it is not
        work = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 200; UPDATE jobs SET priority = 0; SELECT pg_sleep(0.5)"
        connection.connection.driver_connection.execute(work)
        with database.transaction() as session:
            locked = select(Job.id).where(Job.id == job_id).with_for_update()
            assert session.scalar(locked) == job_id  # waits until the server has ended the other
        with pytest.raises(DBAPIError, match="idle-in-transaction"):
            connection.execute(text("SELECT 1"))
        connection.invalidate()
    of_the_dead.close()


@only_postgresql
def test_a_connection_that_died_without_a_word_is_found_out(database: Database) -> None:
    with database.engine.connect() as connection:
        set_here = connection.connection.driver_connection.info.get_parameters()
        set_there = connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar_one()
    assert set_here.items() >= {"keepalives_idle": "10", "keepalives_count": "3", "tcp_user_timeout": "25000"}.items()
    assert set_there == "30s"
    url = make_url(database.url).update_query_dict({"tcp_user_timeout": "7000"})
    chosen = Database(url.render_as_string(hide_password=False))
    with chosen.engine.connect() as connection:
        assert connection.connection.driver_connection.info.get_parameters()["tcp_user_timeout"] == "7000"
    chosen.close()


def test_a_row_that_points_to_no_job_is_refused(database: Database) -> None:
    orphan = Event(job_id="job-0", number=1, at=0, attempt=0, kind="notice", message="", data={})
    with pytest.raises(IntegrityError), database.transaction() as session:
        session.add(orphan)


def test_reading_cannot_write(database: Database) -> None:
    job_id = submit(database)
    with pytest.raises(DBAPIError, match=r"readonly|read-only"), database.reading() as session:
        session.execute(text("UPDATE jobs SET priority = 9"))
    assert job_of(database, job_id).priority == 0


def test_after_reading_the_same_connections_write_again(database: Database) -> None:
    for _ in range(12):
        with database.reading() as session:
            session.execute(select(Job)).all()
        submit(database)


def test_reading_sees_one_moment(database: Database) -> None:
    submit(database)
    with database.reading() as session:
        before = session.scalar(select(func.count()).select_from(Job))
        submit(database)
        assert session.scalar(select(func.count()).select_from(Job)) == before == 1
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 2


def test_reading_does_not_wait_for_a_writer(database: Database) -> None:
    job_id = submit(database)
    with database.transaction() as session:
        events.add(session, job_id, "measured", "Not yet committed.")
        assert kinds_of(database, job_id) == ["submitted"]


def test_a_transaction_that_raises_leaves_nothing(database: Database) -> None:
    job_id = submit(database)
    break_off(database, lambda session: events.add(session, job_id, "measured", "Soon forgotten."))
    assert kinds_of(database, job_id) == ["submitted"]
    assert job_of(database, job_id).event_count == 1


def test_after_a_transaction_that_raised_others_go_on(database: Database) -> None:
    for _ in range(50):
        break_off(database, lambda session: session.execute(select(Job)).all())
    submit(database)


def test_writers_in_many_threads_and_processes_lose_no_write(database: Database) -> None:
    job_id = submit(database)
    another = Database(database.url)  # what a second process would have: no lock is shared with it

    def count_up(through: Database) -> None:
        for _ in range(8):
            with through.transaction() as session:
                session.execute(select(Job.priority).where(Job.id == job_id).with_for_update())
                events.add(session, job_id, "measured", "Once more.")

    assert at_once(*[lambda through=through: count_up(through) for through in (database, another) * 6]) == [None] * 12
    another.close()
    assert job_of(database, job_id).event_count == 1 + 12 * 8


def test_numbers_that_json_does_not_have_become_null_in_documents(database: Database) -> None:
    held = hold(database)
    renew(database, held, {"loss": float("nan"), "of": [float("inf"), 1.5], "by": {"step": float("-inf")}})
    assert job_of(database, held.job_id).progress == {"loss": None, "of": [None, 1.5], "by": {"step": None}}


def test_the_database_says_whether_it_answers(database: Database, tmp_path: Path) -> None:
    assert database.answers()
    gone = Database(f"postgresql+psycopg://finebits@/finebits?host={tmp_path}")
    assert not gone.answers()
    gone.close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must be a file"):
        Database(url)


def test_the_folder_of_a_new_database_is_made(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/new/folder/finebits.db")
    schema.upgrade(database)
    assert schema.is_current(database)
    database.close()
