"""finebits migrate"""

from service.cli.screen import Screen
from service.cli.serving import read_settings
from service.store import schema
from service.store.session import Database


def migrate() -> None:
    """Bring the database (FINEBITS_DATABASE_URL, or the one in FINEBITS_HOME) to the newest migration."""
    settings = read_settings()
    database = Database(settings.database_url)
    before = schema.revision(database)
    schema.upgrade(database)
    after = schema.revision(database)
    database.close()
    Screen().say(
        f"The database was at {before or 'nothing'} and is at {after} now." if before != after else f"The database is at {after}."
    )
