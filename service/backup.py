"""The embedded default's database, key and files, copied out and back. (PostgreSQL has pg_dump for this.)

The database first, then the files: a row is written after its files are whole, so every file that the copy of the database names
is in the copy of the files, whatever goes on meanwhile.
"""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import make_url

from service import home_key
from service.places import Places

DATABASE, ARTIFACTS = "finebits.db", "artifacts"


class BackupError(Exception):
    """It cannot be saved or restored like this; the message is for people."""


def save(places: Places, folder: Path) -> None:
    """Into a new folder, also while the service runs. Raises BackupError.

    Of artifacts in a store that is elsewhere, what lies here is scratch: their copies are that store's affair.
    """
    database = _file(places)
    if not database.exists():
        raise BackupError(f"There is no database {database}. Name the service's folder in FINEBITS_HOME.")
    if folder.exists():
        raise BackupError(f"{folder} is there already. Name a folder that is not: a backup is never mixed with another.")
    folder.mkdir(mode=0o700, parents=True)
    (folder / DATABASE).touch(mode=0o600)
    with (
        closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as now,
        closing(sqlite3.connect(folder / DATABASE)) as copy,
    ):
        now.backup(copy)
    if (key := places.home / home_key.NAME).exists():
        shutil.copy2(key, folder / home_key.NAME)
    if places.artifacts_root.exists() and not places.artifacts_url:
        shutil.copytree(places.artifacts_root, folder / ARTIFACTS, symlinks=True)


def restore(places: Places, folder: Path) -> None:
    """From a folder that `save` made, to where there is nothing yet. Raises BackupError."""
    database = _file(places)
    if not (folder / DATABASE).exists():
        raise BackupError(f"{folder} holds no {DATABASE}: it is not a backup.")
    if database.exists():
        raise BackupError(f"There is a database {database} already. Stop the service and move its folder away first.")
    database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (folder / ARTIFACTS).exists():
        shutil.copytree(folder / ARTIFACTS, places.artifacts_root, symlinks=True, dirs_exist_ok=True)
    if (folder / home_key.NAME).exists():
        places.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copy2(folder / home_key.NAME, places.home / home_key.NAME)
    shutil.copy2(folder / DATABASE, database)  # last: it makes the copy one that a service would start on


def _file(places: Places) -> Path:
    url = make_url(places.database_url)
    if url.get_backend_name() != "sqlite":
        raise BackupError("The database is PostgreSQL, which pg_dump saves: docs/how-to/backup-and-restore.md has the commands.")
    return Path(url.database or "").absolute()
