"""Files that come in parts: opened, sent part by part in any order, and made one file, or given up."""

from collections.abc import Sequence

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from service.store import removals
from service.store.clock import moment, now
from service.store.errors import NotFound, StateConflict
from service.store.ids import new_id
from service.store.tables import Upload, UploadPart

ROOT = "uploads"  # under the artifact root
LASTS_SECONDS = 24 * 3600.0


def open_one(
    session: Session, owner: str, *, purpose: str, name: str, mime_type: str, size: int, file_seconds: float | None
) -> Upload:
    upload_id = new_id("upload")
    values = {"purpose": purpose, "name": name, "mime_type": mime_type, "size": size, "file_seconds": file_seconds}
    session.execute(
        insert(Upload).values(
            id=upload_id, owner=owner, status="pending", created_at=now(), expires_at=now() + LASTS_SECONDS, **values
        )
    )
    return get(session, owner, upload_id)


def get(session: Session, owner: str, upload_id: str) -> Upload:
    found = session.scalar(select(Upload).where(Upload.id == upload_id, Upload.owner == owner))
    if found is None:
        raise NotFound("upload", upload_id)
    return found


def pending(session: Session, owner: str, upload_id: str, wanted: str) -> Upload:
    """One that takes parts still, with its row locked. Raises StateConflict."""
    found = session.scalar(select(Upload).where(Upload.id == upload_id, Upload.owner == owner).with_for_update())
    if found is None:
        raise NotFound("upload", upload_id)
    require_pending(found, wanted)
    return found


def require_pending(upload: Upload, wanted: str) -> None:
    if upload.status != "pending":
        raise StateConflict(upload.status, wanted, what="upload")


def new_part(upload_id: str) -> tuple[str, str]:
    """The id of a part, and the folder of its bytes under the artifact root."""
    part_id = new_id("part")
    return part_id, f"{ROOT}/{upload_id}/{part_id}"


def add_part(session: Session, owner: str, upload_id: str, part_id: str, path: str, size: int, sha256: str) -> UploadPart:
    """Notes a part whose bytes are in the artifact store."""
    pending(session, owner, upload_id, "given parts")
    values = {"id": part_id, "upload_id": upload_id, "path": path, "size": size, "sha256": sha256}
    session.execute(insert(UploadPart).values(created_at=now(), **values))
    return session.scalars(select(UploadPart).where(UploadPart.id == part_id)).one()


def parts(session: Session, upload_id: str) -> dict[str, UploadPart]:
    """By their ids."""
    return {part.id: part for part in session.scalars(select(UploadPart).where(UploadPart.upload_id == upload_id))}


def complete(session: Session, owner: str, upload_id: str, file_id: str) -> Upload:
    """The parts are one file now. Call it in the transaction that adds the file."""
    pending(session, owner, upload_id, "completed")
    return _close(session, upload_id, status="completed", file_id=file_id)


def cancel(session: Session, owner: str, upload_id: str) -> Upload:
    pending(session, owner, upload_id, "cancelled")
    return _close(session, upload_id, status="cancelled")


def expire(session: Session, limit: int = 100) -> Sequence[str]:
    """Gives up those that were not completed in time, and answers which."""
    over = select(Upload.id).where(Upload.status == "pending", Upload.expires_at <= moment()).order_by(Upload.expires_at)
    expired = session.scalars(over.limit(limit).with_for_update(skip_locked=True)).all()
    for upload_id in expired:
        _close(session, upload_id, status="expired")
    return expired


def _close(session: Session, upload_id: str, **values: str) -> Upload:
    """Its parts are needed no more."""
    removals.ask(session, [f"{ROOT}/{upload_id}"])
    session.execute(delete(UploadPart).where(UploadPart.upload_id == upload_id).execution_options(synchronize_session=False))
    closed = update(Upload).where(Upload.id == upload_id).values(**values).returning(Upload)
    return session.scalars(closed.execution_options(synchronize_session=False, populate_existing=True)).one()
