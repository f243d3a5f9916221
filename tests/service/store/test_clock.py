import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from service.api.views import job_view
from service.store.session import Database
from tests.service.store.stored import job_of, submit, take


@pytest.fixture
def nepal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A host whose clock is shown 5:45 ahead of UTC."""
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_times_are_utc_whatever_the_zone_of_the_host_and_of_the_database(nepal: None, database: Database) -> None:
    assert time.localtime().tm_gmtoff == 20700
    if not database.is_sqlite:
        _say_to_role(database, "SET timezone = ''Asia/Kathmandu''")
    try:
        job_id = submit(database)
        take(database)
        view = job_view(job_of(database, job_id))
        with database.reading() as session:
            zone = None if database.is_sqlite else session.execute(text("SHOW timezone")).scalar_one()
    finally:
        if not database.is_sqlite:
            _say_to_role(database, "RESET timezone")
    assert zone in (None, "Asia/Kathmandu")
    for told in (view.created_at, view.started_at, view.changed_at):
        assert told is not None
        assert told.endswith("Z")
        assert abs(datetime.fromisoformat(told) - datetime.now(UTC)) < timedelta(minutes=2)


def _say_to_role(database: Database, what: str) -> None:
    """Of every connection that is made from now on."""
    with database.engine.begin() as connection:
        connection.execute(text(f"DO $$ BEGIN EXECUTE format('ALTER ROLE %I {what}', current_user); END $$"))
    database.engine.dispose()
