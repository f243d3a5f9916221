"""Files that are to go: noted in the transaction that gave them up, removed from the artifact store after it.

A process that dies between the two loses nothing, since the note stays until the files are gone.
"""

from collections.abc import Iterable, Sequence

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from service.store.clock import moment, now
from service.store.tables import Removal
from service.store.upsert import upsert

# How long a note stays after the store is rid of the files, for the other hosts to find it and drop the copies that they have.
LASTS_SECONDS = 86_400.0


def ask(session: Session, paths: Iterable[str]) -> None:
    """Has files or folders removed, by their paths under the artifact root."""
    at = session.scalar(select(now()))
    upsert(session, Removal, [{"path": path, "asked_at": at, "done_at": None} for path in paths])


def waiting(session: Session, limit: int = 50) -> Sequence[str]:
    """What the store is still to be rid of, the oldest first."""
    wanted = select(Removal.path).where(Removal.done_at.is_(None)).order_by(Removal.asked_at, Removal.path).limit(limit)
    return session.scalars(wanted).all()


def done(session: Session, path: str, is_copied: bool) -> None:
    """The store is rid of it. `is_copied`: other hosts may have copies."""
    this = Removal.path == path
    session.execute(
        update(Removal).where(this, Removal.done_at.is_(None)).values(done_at=now()) if is_copied else delete(Removal).where(this)
    )


def recent(session: Session) -> Sequence[str]:
    """What the store is rid of, while other hosts may have copies."""
    return session.scalars(select(Removal.path).where(Removal.done_at.is_not(None))).all()


def forget_old(session: Session) -> None:
    session.execute(delete(Removal).where(Removal.done_at < moment() - LASTS_SECONDS))
