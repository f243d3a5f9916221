import pytest
from sqlalchemy.exc import OperationalError

from service.store import schema
from service.store.session import Database
from worker import __main__ as worker


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_worker_waits_for_a_database_that_is_away(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [
        OperationalError("SELECT", None, Exception("starting up")),
        OperationalError("SELECT", None, Exception("no")),
        True,
    ]

    def is_current(database: Database) -> bool:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(schema, "is_current", is_current)
    monkeypatch.setattr(worker, "AGAIN_SECONDS", 0)
    assert worker._is_current(database)
    assert answers == []
