"""The line: which of the jobs that wait goes first. Priority, then the owner with the fewest running, then age.

Jobs of one queue that are alike (priority, owner, what they need, the version they are written in) go by age among themselves, so
only the oldest of each kind is looked at. The kinds are found by leaps along one index, from each to the next: what that costs
depends on how many kinds wait, not on how many jobs wait or have ended.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import CTE, ColumnElement, ScalarSelect, Select, and_, bindparam, func, literal_column, or_, select, tuple_
from sqlalchemy.orm import Session, aliased

from service.store.clock import now
from service.store.need import Need
from service.store.tables import Job

# Literals, not parameters: a partial index serves only a condition that is known to be its own.
QUEUED: ColumnElement[str] = literal_column("'queued'")
RUNNING: ColumnElement[str] = literal_column("'running'")

_KIND = ("priority", "owner", "gpus", "gpu_permille", "gpu_gb", "spec_version", "extras")
_COLUMNS = ("id", "queue", *_KIND, "created_at")


@dataclass(frozen=True)
class Waiting:
    """The oldest job of a kind. `running` is how many its owner has running."""

    id: str
    queue: str
    priority: int
    owner: str
    spec_version: int
    extras: str
    need: Need
    created_at: float
    running: int

    @property
    def needed_extras(self) -> set[str]:
        """What its worker must have installed beside what every worker has."""
        return set(self.extras.split(",")) - {""}

    @property
    def rank(self) -> tuple[int, int, float, str]:
        """Ascending: who goes first."""
        return (-self.priority, self.running, self.created_at, self.id)


def heads(session: Session, queues: Sequence[str], skip: Collection[str] = ()) -> list[Waiting]:
    """The oldest ready job of each kind, the first to go first. `skip` are ids that are passed over."""
    asked = [{"queue": queue, **({"skip": list(skip)} if skip else {})} for queue in queues]
    rows = [row for values in asked for row in session.execute(kinds(bool(skip)), values)]
    running = running_by_owner(session) if rows else Counter()
    return sorted((_waiting(row, running) for row in rows), key=lambda waiting: waiting.rank)


def one(session: Session, job_id: str) -> Waiting | None:
    """That job, if it is ready."""
    row = session.execute(_ONE, {"job_id": job_id}).one_or_none()
    return None if row is None else _waiting(row, running_by_owner(session))


def in_order(session: Session, queues: Sequence[str]) -> Iterator[Waiting]:
    """Ready jobs, the first to go first; each is looked for when the one before was of no use."""
    passed: list[str] = []
    while best := heads(session, queues, passed):
        yield best[0]
        passed.append(best[0].id)


def running_by_owner(session: Session) -> Counter[str]:
    # the lease is looked for, too, which every one has: else SQLite may scan all jobs, by how wide it takes a row to be
    return Counter(session.scalars(select(Job.owner).where(Job.state == RUNNING, Job.lease_until > 0)))


def is_ready(job: Any) -> ColumnElement[bool]:
    """Whether a queued job may begin now, by its own row: not before its time, and as long as it has any left."""
    may_begin = or_(job.not_before.is_(None), job.not_before <= now())
    has_time = or_(job.deadline.is_(None), job.deadline > now()) & or_(
        job.max_seconds.is_(None), job.ran_seconds < job.max_seconds
    )
    return and_(job.state == QUEUED, job.cancel_requested_at.is_(None), may_begin, has_time)


def _waiting(row: Any, running: Counter[str]) -> Waiting:
    need = Need(row.gpus, row.gpu_permille, row.gpu_gb)
    return Waiting(
        row.id, row.queue, row.priority, row.owner, row.spec_version, row.extras, need, row.created_at, running[row.owner]
    )


@cache
def kinds(skips: bool) -> Select[Any]:
    """The oldest of each kind of :queue, without those of :skip: a leap to the first, then from each to the first behind it.

    Made once: to put it together takes SQLAlchemy longer than the database needs to answer it.
    """
    first = select(*(getattr(Job, name) for name in _COLUMNS)).where(Job.id == _first_behind(skips, None))
    found = first.cte("kinds", recursive=True)
    behind = aliased(Job)
    columns = (getattr(behind, name) for name in _COLUMNS)
    leap = select(*columns).select_from(found).join(behind, behind.id == _first_behind(skips, found))
    return select(found.union_all(leap))


def _first_behind(skips: bool, found: CTE | None) -> ScalarSelect[str]:
    job = aliased(Job)
    wanted = select(job.id).where(job.queue == bindparam("queue"), is_ready(job))
    if skips:
        wanted = wanted.where(job.id.not_in(bindparam("skip", expanding=True)))
    key = [getattr(job, name) for name in _KIND]
    if found is not None:
        # Expressions, not columns, since of two columns SQLite leaps by the first alone; and behind the last of a kind, since it
        # leaps to the first that is not less.
        last = [*(func.coalesce(found.c[name], found.c[name]) for name in _KIND), literal_column("9e99")]
        wanted = wanted.where(tuple_(*key, job.created_at) > tuple_(*last)).correlate(found)
    return wanted.order_by(*key, job.created_at, job.id).limit(1).scalar_subquery()


_ONE = select(*(getattr(Job, name) for name in _COLUMNS)).where(Job.id == bindparam("job_id"), is_ready(Job))
