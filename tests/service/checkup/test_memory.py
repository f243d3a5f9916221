from pathlib import Path

import pytest
from sqlalchemy import text

from service.checkup import memory
from service.checkup.finding import Finding, Level
from service.settings import Settings
from service.store import schema
from service.store.session import Database


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, database_url=f"sqlite:///{tmp_path}/finebits.db")


def about(found: "list[Finding]") -> dict[str, Finding]:
    return {finding.about: finding for finding in found}


def test_a_database_that_is_not_there_is_not_made_by_looking(settings: Settings) -> None:
    (finding,) = memory.database(settings)
    assert (finding.level, "finebits migrate" in finding.mend) == (Level.NOTE, True)
    assert not Path(settings.home, "finebits.db").exists()


def test_migrations_are_held_against_those_that_this_version_knows(settings: Settings) -> None:
    database = Database(settings.database_url)
    schema.upgrade(database, to="0001")
    behind = about(list(memory.database(settings)))
    assert behind["database"].level is Level.WELL
    assert (behind["migrations"].level, behind["migrations"].mend) == (Level.FAULT, "finebits migrate")
    schema.upgrade(database)
    assert about(list(memory.database(settings)))["migrations"].level is Level.WELL
    with database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = 'later'"))
    database.close()
    later = about(list(memory.database(settings)))["migrations"]
    assert (later.level, "Install the version" in later.mend) == (Level.FAULT, True)


def test_a_database_that_is_away_is_a_fault_and_its_password_is_not_shown(settings: Settings) -> None:
    away = settings.model_copy(update={"database_url": "postgresql+psycopg://finebits:secret@127.0.0.1:9/finebits"})
    (finding,) = memory.database(away)
    assert (finding.level, "127.0.0.1:9" in finding.said, "secret" in finding.said) == (Level.FAULT, True, False)


def test_a_broker_that_is_away_is_a_fault_and_that_of_up_is_not(settings: Settings) -> None:
    (finding,) = memory.broker(settings)
    assert (finding.level, finding.mend) == (Level.NOTE, "finebits up")
    (finding,) = memory.broker(settings.model_copy(update={"broker_url": "redis://:secret@127.0.0.1:9/0"}))
    assert (finding.level, finding.said) == (Level.FAULT, "redis://127.0.0.1:9/0 does not answer.")
