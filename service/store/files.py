"""Files that clients uploaded: kept in the artifact store under files/, and data sets of jobs by their ids.

The bytes come first, then the row; a file that nobody may have any more is removed by the sweep, as what jobs made is.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Literal

from sqlalchemy import delete as sql_delete
from sqlalchemy import insert, select, tuple_, update
from sqlalchemy.orm import Session

from service.specs.file_names import is_file
from service.store import removals
from service.store.clock import moment, now
from service.store.errors import BadCursor, InUse, NotFound
from service.store.references import is_needed, live_references, named_in
from service.store.tables import File, Job

ROOT = "files"  # under the artifact root

TRAINED_ON = "fine-tune"  # the purpose of those that are data sets


def folder_of(file_id: str) -> str:
    """Where its bytes are, under the artifact root."""
    return f"{ROOT}/{file_id}"


def add(
    session: Session,
    owner: str,
    file_id: str,
    *,
    purpose: str,
    name: str,
    path: str,
    size: int,
    sha256: str,
    entry: dict[str, Any] | None,
    rows: int | None,
    seconds: float | None = None,
) -> File:
    """Notes a file whose bytes are in the artifact store. `seconds`: how long it is kept; None: until it is deleted."""
    values = {"purpose": purpose, "name": name, "path": path, "size": size, "sha256": sha256, "entry": entry, "rows": rows}
    expires_at = None if seconds is None else now() + seconds
    session.execute(insert(File).values(id=file_id, owner=owner, created_at=now(), expires_at=expires_at, **values))
    return get(session, owner, file_id)


def get(session: Session, owner: str, file_id: str) -> File:
    """One that is kept still. Raises NotFound."""
    found = session.scalar(select(File).where(File.id == file_id, File.owner == owner, _IS_KEPT))
    if found is None:
        raise NotFound("file", file_id)
    return found


def uncounted(session: Session, but: Collection[str] = ()) -> File | None:
    """The oldest to train on whose rows nobody has counted."""
    waits = select(File).where(File.purpose == TRAINED_ON, File.rows.is_(None), File.id.not_in(but), _IS_KEPT)
    return session.scalar(waits.order_by(File.created_at).limit(1))


def counted(session: Session, file_id: str, rows: int) -> None:
    this = update(File).where(File.id == file_id, File.rows.is_(None)).values(rows=rows)
    session.execute(this.execution_options(synchronize_session=False))


def listing(
    session: Session,
    owner: str,
    limit: int,
    after: str | None = None,
    order: Literal["asc", "desc"] = "desc",
    purpose: str | None = None,
) -> tuple[Sequence[File], bool]:
    """A page of files by their age, behind the file `after`; and whether there are more."""
    wanted, place = select(File).where(File.owner == owner, _IS_KEPT), tuple_(File.created_at, File.id)
    if purpose is not None:
        wanted = wanted.where(File.purpose == purpose)
    if after is not None:
        known = session.execute(select(File.created_at, File.id).where(File.id == after, File.owner == owner)).one_or_none()
        if known is None:
            raise BadCursor(f"after={after!r} is not a file of this list.")
        wanted = wanted.where(place > tuple_(*known) if order == "asc" else place < tuple_(*known))
    columns = (File.created_at, File.id)
    found = session.scalars(wanted.order_by(*(getattr(column, order)() for column in columns)).limit(limit + 1)).all()
    return found[:limit], len(found) > limit


def delete(session: Session, owner: str, file_id: str) -> None:
    """Forgets a file; its bytes go after the commit. Raises InUse where a job that has not ended needs it."""
    get(session, owner, file_id)
    session.execute(select(File.id).where(File.id == file_id).with_for_update())  # a job that names it now is seen, or waits
    if users := live_references(session, file_id):
        raise InUse(f"The file {file_id}", users)
    _forget(session, [file_id])


def expire(session: Session, limit: int = 100) -> list[str]:
    """Forgets the files whose time is over, and answers which. One that a job needs stays until the job has ended."""
    over = select(File.id).where(File.expires_at <= moment(), ~is_needed(File)).order_by(File.expires_at).limit(limit)
    expired = list(session.scalars(over.with_for_update(skip_locked=True)).all())
    _forget(session, expired)
    return expired


def named(session: Session, owner: str, document: Any) -> dict[str, File]:
    """The owner's files whose ids stand in a job's document. Those that are not there are not among them."""
    return _of_ids(session, named_in(document), File.owner == owner, _IS_KEPT)


def of_job(session: Session, job_id: str, resolved: dict[str, Any]) -> dict[str, File]:
    """The same for a job that was accepted: what has expired since is kept for it."""
    return _of_ids(session, named_in(resolved), File.owner == select(Job.owner).where(Job.id == job_id).scalar_subquery())


_IS_KEPT = (File.expires_at.is_(None)) | (File.expires_at > moment())


def _of_ids(session: Session, ids: Iterable[str], *conditions: Any) -> dict[str, File]:
    wanted = [one for one in ids if is_file(one)]
    if not wanted:
        return {}
    return {file.id: file for file in session.scalars(select(File).where(File.id.in_(wanted), *conditions))}


def _forget(session: Session, file_ids: Sequence[str]) -> None:
    if file_ids:
        removals.ask(session, [folder_of(file_id) for file_id in file_ids])
        session.execute(sql_delete(File).where(File.id.in_(file_ids)).execution_options(synchronize_session=False))
