"""`python -m worker`: one worker for this host."""

import logging
import os
import time
from contextlib import suppress

from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError, OperationalError

from service import log
from service.store import schema
from service.store.errors import WorkerIsThere
from service.store.session import Database
from worker.app import make_app
from worker.gpus import Gpus
from worker.nvml import open_nvml
from worker.presence import Presence
from worker.settings import WorkerSettings
from worker.tasks import connect

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 1.0


def main() -> None:
    os.umask(0o027)  # what jobs make is the owner's and the group's alone
    settings = _settings()
    log.set_up(settings.log_format)
    database = Database(settings.database_url)
    if not _is_current(database):
        raise SystemExit("The database is not at the newest migration: run `finebits migrate` first.")
    settings.artifacts_root.mkdir(parents=True, exist_ok=True)
    presence = Presence(database, settings, Gpus(settings.gpus, open_nvml() if settings.gpus else None))
    try:
        presence.enter()
    except WorkerIsThere as error:
        raise SystemExit(str(error)) from None
    app = make_app(settings)
    connect(app, settings, database, presence)
    listen = ",".join(f"finebits.{name}" for name in settings.queue_names)
    try:
        app.worker_main(
            ["worker", "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=INFO", "-Q", listen]
        )
    finally:
        with suppress(DBAPIError):  # a database that is away will find the worker lost instead
            presence.leave()


def _is_current(database: Database) -> bool:
    """Waits for a database that is away, as Celery does for the broker: hosts start in any order."""
    while True:
        try:
            return schema.is_current(database)
        except OperationalError as error:
            logger.warning("the database does not answer, and is asked again in %g s: %s", AGAIN_SECONDS, error.orig)
            time.sleep(AGAIN_SECONDS)


def _settings() -> WorkerSettings:
    try:
        return WorkerSettings()
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        places = {".".join(map(str, detail["loc"])).upper(): detail["msg"] for detail in details}
        raise SystemExit("\n".join(f"FINEBITS_{place}: {why}" for place, why in places.items())) from None


if __name__ == "__main__":
    main()
