"""The audit log in the database: rows are added, and nothing else can be done to them."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from service.store import audit
from service.store.audit import Trace

TRACE = Trace("ann", "key-1", "cancel_job", "job-1", "203.0.113.9", "req-1")


DEEDS = ["UPDATE audit SET owner = 'bob'", "DELETE FROM audit", "DELETE FROM audit WHERE id = 1", "TRUNCATE audit"]


@pytest.mark.parametrize("deed", DEEDS)
def test_the_database_refuses_to_change_what_is_written(database, deed):
    if database.is_sqlite and deed.startswith("TRUNCATE"):
        pytest.skip("SQLite has no TRUNCATE")
    with database.transaction() as session:
        audit.note(session, [TRACE, TRACE.of("job-2")])
    with pytest.raises(DBAPIError, match="only added to"), database.transaction() as session:
        session.execute(text(deed))
    with database.reading() as session:
        found, _ = audit.page(session, 10)
        assert [(entry.owner, entry.subject) for entry in found] == [("ann", "job-2"), ("ann", "job-1")]
        assert found[0].at > 1e9
