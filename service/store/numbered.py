"""Pages of the rows of a log, which are numbered as they come."""

from collections.abc import Sequence
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.store.tables import AuditEntry, RefusedEntry

Entry = TypeVar("Entry", AuditEntry, RefusedEntry)


def page(session: Session, log: type[Entry], limit: int, after: int | None, owner: str | None) -> tuple[Sequence[Entry], bool]:
    """The newest first, behind the one numbered `after`; and whether there are more."""
    wanted = select(log).order_by(log.id.desc()).limit(limit + 1)
    if after is not None:
        wanted = wanted.where(log.id < after)
    if owner is not None:
        wanted = wanted.where(log.owner == owner)
    found = session.scalars(wanted).all()
    return found[:limit], len(found) > limit
