"""The audit log: who changed what, when, from where. A row is written in the transaction that makes its change."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from sqlalchemy import Table, insert, select
from sqlalchemy.orm import Session

from service.store.clock import now
from service.store.tables import AuditEntry

_INSERT = insert(cast(Table, AuditEntry.__table__)).values(at=now())


@dataclass(frozen=True)
class Trace:
    """One change, and who is behind it."""

    owner: str
    key: str
    action: str
    subject: str
    client: str
    request_id: str

    def of(self, subject: str) -> "Trace":
        """The same of what is known only once it is there."""
        return replace(self, subject=subject)


def note(session: Session, traces: Sequence[Trace]) -> None:
    """Adds to the log."""
    if traces:
        session.execute(_INSERT, [vars(trace) for trace in traces])


def page(session: Session, limit: int, after: int | None = None, owner: str | None = None) -> tuple[Sequence[AuditEntry], bool]:
    """Entries, newest first, behind the one numbered `after`; and whether there are more."""
    wanted = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(limit + 1)
    if after is not None:
        wanted = wanted.where(AuditEntry.id < after)
    if owner is not None:
        wanted = wanted.where(AuditEntry.owner == owner)
    found = session.scalars(wanted).all()
    return found[:limit], len(found) > limit
