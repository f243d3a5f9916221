"""Whether the service lives, and whether it can take jobs."""

from sqlalchemy import text

from service.app import create_app
from service.store.session import Database
from tests.service.api.door import Door


def test_a_service_that_has_everything_is_ready(door):
    assert door.get("/livez").json() == {"status": "ok"}
    assert door.get("/readyz").json() == {"status": "ok", "checks": {"database": True, "broker": True, "migrations": True}}


def not_ready(door):
    response = door.get("/readyz")
    assert (response.status_code, response.json()["code"]) == (503, "not_ready")
    assert door.get("/livez").status_code == 200
    return [name for name, holds in response.json()["checks"].items() if not holds], response.json()["detail"]


def test_without_its_broker_it_is_not(door, bell):
    bell.is_there = False
    assert not_ready(door) == (["broker"], "Not ready: broker.")


def test_without_its_newest_migration_it_is_not(door, database):
    with database.transaction() as session:
        session.execute(text("DELETE FROM alembic_version"))
    assert not_ready(door) == (["migrations"], "Not ready: migrations.")


def test_without_its_database_it_is_not(plain_door):
    plain_door.app.state.database = Database("postgresql+psycopg://nobody@/nowhere?host=/nowhere")
    failed, _ = not_ready(plain_door)
    assert failed == ["database", "migrations"]


def test_a_database_that_is_away_is_a_503_and_no_crash(settings, bell):
    with Door(create_app(settings, Database("postgresql+psycopg://nobody@/nowhere?host=/nowhere"), bell)) as door:
        assert door.get("/jobs").status_code == 503


def test_readiness_waits_for_no_writer(door, database):
    with database.transaction() as session:
        session.execute(text("UPDATE jobs SET priority = 1"))
        assert door.get("/readyz").status_code == 200
