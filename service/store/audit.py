"""The audit log: who changed what, when, from where. A row is written in the transaction that makes its change."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from sqlalchemy import Table, select
from sqlalchemy.orm import Session

from service.store import numbered
from service.store.bulk import insert_all
from service.store.clock import now
from service.store.tables import AuditEntry

_AUDIT = cast(Table, AuditEntry.__table__)


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


def note(session: Session, traces: Sequence[Trace], at: float | None = None) -> None:
    """Adds to the log; `at` is the moment by the database's clock, where the caller has asked for it."""
    if traces:
        moment = session.scalar(select(now())) if at is None else at
        insert_all(session, _AUDIT, [vars(trace) for trace in traces], at=moment)


def page(session: Session, limit: int, after: int | None = None, owner: str | None = None) -> tuple[Sequence[AuditEntry], bool]:
    """Entries, newest first, behind the one numbered `after`; and whether there are more."""
    return numbered.page(session, AuditEntry, limit, after, owner)
