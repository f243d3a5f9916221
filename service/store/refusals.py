"""Who was refused what. All that are alike on one day are one row with their number, and a day has no more than so many rows:
whoever asks in vain a million times fills no disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import case, func, select
from sqlalchemy import delete as sql_delete
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from service.store import numbered
from service.store.clock import now
from service.store.tables import RefusedEntry

MOST_ROWS = 2_000  # of a day; beyond them addresses are not told apart
KEPT_DAYS = 90
DAY_SECONDS = 86_400

_ALIKE = ("day", "owner", "key", "action", "client", "status", "code")


@dataclass(frozen=True)
class Refused:
    """What is alike. Owner and key are empty where nobody was known."""

    owner: str
    key: str
    action: str
    client: str
    status: int
    code: str

    def anywhere(self) -> "Refused":
        """From whatever address."""
        return replace(self, client="")


@dataclass(frozen=True)
class Times:
    """How often, and the last of them."""

    n: int
    subject: str
    request_id: str

    def before(self, later: "Times") -> "Times":
        """Together with what came behind."""
        return replace(later, n=self.n + later.n)


def note(session: Session, refused: Mapping[Refused, Times]) -> None:
    """Adds them to today's rows."""
    at = float(session.execute(select(now())).scalar_one())
    day = int(at // DAY_SECONDS)
    n_rows = session.scalar(select(func.count()).select_from(RefusedEntry).where(RefusedEntry.day == day)) or 0
    told = refused if n_rows + len(refused) <= MOST_ROWS else together(refused)
    for one in sorted(told, key=lambda one: tuple(map(str, vars(one).values()))):  # two processes wait in one order
        times = told[one]
        row = {**vars(one), "day": day, "times": times.n, "subject": times.subject, "request_id": times.request_id}
        session.execute(_added(session, {**row, "first_at": at, "last_at": at}))


def together(refused: Mapping[Refused, Times]) -> dict[Refused, Times]:
    """Addresses not told apart."""
    found: dict[Refused, Times] = {}
    for one, times in refused.items():
        known = found.get(one.anywhere())
        found[one.anywhere()] = times if known is None else known.before(times)
    return found


def page(session: Session, limit: int, after: int | None = None, owner: str | None = None) -> tuple[Sequence[RefusedEntry], bool]:
    """The newest first, by when each was refused first that day, behind the one numbered `after`; and whether there are more."""
    return numbered.page(session, RefusedEntry, limit, after, owner)


def forget(session: Session) -> None:
    """Those of long ago."""
    today = int(float(session.execute(select(now())).scalar_one()) // DAY_SECONDS)
    old = sql_delete(RefusedEntry).where(RefusedEntry.day < today - KEPT_DAYS)
    session.execute(old.execution_options(synchronize_session=False))


def _added(session: Session, row: dict[str, Any]) -> Any:
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    added = dialect.insert(RefusedEntry).values(**row)
    new, old = added.excluded, RefusedEntry
    is_later = new.last_at >= old.last_at  # who looked at the clock first may have waited for a row that another then wrote
    last = {name: case((is_later, new[name]), else_=getattr(old, name)) for name in ("last_at", "subject", "request_id")}
    first = case((new.first_at < old.first_at, new.first_at), else_=old.first_at)
    changed = {"times": old.times + new.times, "first_at": first, **last}
    return added.on_conflict_do_update(index_elements=_ALIKE, set_=changed)
