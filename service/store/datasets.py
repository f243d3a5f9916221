"""Data sets that were uploaded: files under names. The same content is one version, however often it comes."""

import hashlib
from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import delete as sql_delete
from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from service.store import files
from service.store.clock import moment, now
from service.store.errors import NotFound
from service.store.ids import new_id
from service.store.tables import DatasetUpload, DatasetVersion, File

UPLOAD_SECONDS = 7 * 86_400.0  # how long what was begun to be sent is kept

Found = tuple[DatasetVersion, File]


def version_of(sha256: str, entry: dict[str, Any]) -> str:
    """Of a file and of how its rows read: twelve hexadecimal digits of a SHA-256 of both."""
    made_of = orjson.dumps([sha256, {**entry, "file_name": None}], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(made_of).hexdigest()[:12]


def add(session: Session, owner: str, name: str, version: str, file_id: str) -> None:
    """Gives a file a name."""
    session.execute(_of(sql_delete(DatasetVersion), owner, name, version))
    session.execute(insert(DatasetVersion).values(owner=owner, name=name, version=version, file_id=file_id, created_at=now()))


def touch(session: Session, owner: str, name: str, version: str) -> File | None:
    """Makes a version that is there the newest, for it came once more; None where it is not there."""
    session.execute(_of(update(DatasetVersion), owner, name, version).values(created_at=now()))
    found = versions(session, owner, name, version)
    return found[0][1] if found else None


def get(session: Session, owner: str, name: str, version: str | None = None) -> Found:
    """That version, or the newest. Raises NotFound."""
    found = versions(session, owner, name, version)
    if not found:
        raise NotFound("data set", name if version is None else f"{name}@{version}")
    return found[0]


def versions(session: Session, owner: str, name: str, version: str | None = None) -> list[Found]:
    """The newest first."""
    wanted = _of(select(DatasetVersion, File).join(File, File.id == DatasetVersion.file_id), owner, name, version)
    order = (DatasetVersion.created_at.desc(), DatasetVersion.version)
    return [(row[0], row[1]) for row in session.execute(wanted.order_by(*order))]


def listing(session: Session, owner: str) -> list[Found]:
    """The newest version of each, by name."""
    wanted = select(DatasetVersion, File).join(File, File.id == DatasetVersion.file_id).where(DatasetVersion.owner == owner)
    rows = session.execute(wanted.order_by(DatasetVersion.name, DatasetVersion.created_at))
    return list({row[0].name: (row[0], row[1]) for row in rows}.values())


def delete(session: Session, owner: str, name: str, version: str | None = None) -> None:
    """A version, or all of them; the bytes go after the commit. Raises NotFound, and InUse where a job needs one still."""
    get(session, owner, name, version)
    for row, file in versions(session, owner, name, version):
        session.execute(_of(sql_delete(DatasetVersion), owner, name, row.version))
        files.delete(session, owner, file.id)


def begin_upload(
    session: Session, owner: str, name: str, file_name: str, entry: dict[str, Any], size: int, sha256: str | None
) -> DatasetUpload:
    upload_id = new_id("sending")
    values = {"owner": owner, "name": name, "file_name": file_name, "entry": entry, "size": size, "sha256": sha256}
    session.execute(insert(DatasetUpload).values(id=upload_id, created_at=now(), **values))
    return get_upload(session, owner, name, upload_id)


def get_upload(session: Session, owner: str, name: str, upload_id: str) -> DatasetUpload:
    """Raises NotFound."""
    mine = (DatasetUpload.owner == owner, DatasetUpload.name == name, DatasetUpload.id == upload_id)
    found = session.scalar(select(DatasetUpload).where(*mine))
    if found is None:
        raise NotFound("upload", upload_id)
    return found


def end_upload(session: Session, upload_id: str) -> bool:
    """It is a data set now, or is given up. Whether it was there still: of two that end it, one does."""
    gone = sql_delete(DatasetUpload).where(DatasetUpload.id == upload_id).returning(DatasetUpload.id)
    return session.scalar(gone.execution_options(synchronize_session=False)) is not None


def expire_uploads(session: Session, limit: int = 100) -> Sequence[str]:
    """Forgets those that nobody has gone on with, and answers which."""
    old = select(DatasetUpload.id).where(DatasetUpload.created_at < moment() - UPLOAD_SECONDS)
    gone = sql_delete(DatasetUpload).where(DatasetUpload.id.in_(old.limit(limit))).returning(DatasetUpload.id)
    return session.scalars(gone.execution_options(synchronize_session=False)).all()


def _of(statement: Any, owner: str, name: str, version: str | None) -> Any:
    named = statement.where(DatasetVersion.owner == owner, DatasetVersion.name == name)
    return named if version is None else named.where(DatasetVersion.version == version)
