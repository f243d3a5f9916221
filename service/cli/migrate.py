"""finebits migrate"""

from service.cli.as_json import AsJson
from service.cli.screen import Screen
from service.cli.serving import read_settings
from service.store import schema
from service.store.session import Database


def migrate(as_json: AsJson = False) -> None:
    """Bring the database (FINEBITS_DATABASE_URL, or the one in FINEBITS_HOME) to the newest migration."""
    settings = read_settings()
    database = Database(settings.database_url)
    before = schema.revision(database)
    schema.upgrade(database)
    after = schema.revision(database)
    database.close()
    if as_json:
        Screen().json({"before": before, "after": after})
        return
    Screen().say(
        f"The database was at {before or 'nothing'} and is at {after} now." if before != after else f"The database is at {after}."
    )
