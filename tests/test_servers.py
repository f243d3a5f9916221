from service.dispatch import Doorbell
from service.store import schema
from service.store.session import Database


def test_each_database_is_migrated_and_empty(database: Database) -> None:
    assert schema.is_current(database)
    with database.reading() as session:
        assert session.connection().exec_driver_sql("SELECT count(*) FROM jobs").scalar() == 0


def test_the_broker_answers(broker_url: str) -> None:
    assert Doorbell(broker_url).answers()
