from pathlib import Path

import pytest

from service import backup
from service.backup import BackupError
from service.home_key import kept_key
from service.places import Places
from service.store import schema
from service.store.session import Database


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A home with an empty database and one artifact."""
    places = Places(home=tmp_path / "home")
    database = Database(places.database_url)
    schema.upgrade(database)
    database.close()
    places.artifacts_root.mkdir()
    (places.artifacts_root / "weights").write_bytes(b"0123")
    return places


def test_what_was_saved_is_restored(places: Places, tmp_path: Path) -> None:
    key = kept_key(places.home)
    backup.save(places, tmp_path / "kept")
    other = Places(home=tmp_path / "other")
    backup.restore(other, tmp_path / "kept")
    database = Database(other.database_url)
    assert schema.is_current(database)
    database.close()
    assert (other.artifacts_root / "weights").read_bytes() == b"0123"
    assert kept_key(other.home) == key, "the secrets of the database could not be read"
    assert (other.home / "secret.key").stat().st_mode & 0o777 == 0o600


def test_a_backup_is_never_mixed_with_another(places: Places, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    with pytest.raises(BackupError, match="is there already"):
        backup.save(places, tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_database_that_is_there_is_not_written_over(places: Places, tmp_path: Path) -> None:
    backup.save(places, tmp_path / "kept")
    before = (places.home / "finebits.db").read_bytes()
    with pytest.raises(BackupError, match="There is a database"):
        backup.restore(places, tmp_path / "kept")
    assert (places.home / "finebits.db").read_bytes() == before


def test_a_folder_that_is_no_backup_and_a_home_without_a_database_are_said(places: Places, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="it is not a backup"):
        backup.restore(Places(home=tmp_path / "other"), tmp_path)
    with pytest.raises(BackupError, match="There is no database"):
        backup.save(Places(home=tmp_path / "nowhere"), tmp_path / "kept")


def test_postgresql_is_left_to_pg_dump(tmp_path: Path) -> None:
    places = Places(home=tmp_path, database_url="postgresql+psycopg://a@b/c")
    with pytest.raises(BackupError, match=r"pg_dump.*docs/how-to/backup-and-restore\.md"):
        backup.save(places, tmp_path / "kept")
