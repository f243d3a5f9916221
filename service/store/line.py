"""The line: which of the jobs that wait goes first. Priority, then the owner with the fewest running, then age.

Jobs of one queue that are alike (priority, owner, what they need, the version they are written in) go by age among themselves, so
only the oldest of each kind is looked at. The kinds are found by leaps along one index, from each to the next: what that costs
depends on how many kinds wait, not on how many jobs wait or have ended.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CTE, ColumnElement, ScalarSelect, and_, func, literal_column, or_, select, tuple_
from sqlalchemy.orm import Session, aliased

from service.store.clock import now
from service.store.need import Need
from service.store.tables import Job

# Literals, not parameters: a partial index serves only a condition that is known to be its own.
QUEUED: ColumnElement[str] = literal_column("'queued'")
RUNNING: ColumnElement[str] = literal_column("'running'")

_KIND = ("priority", "owner", "gpus", "gpu_permille", "gpu_gb", "spec_version")
_COLUMNS = ("id", "queue", *_KIND, "created_at")


@dataclass(frozen=True)
class Waiting:
    """The oldest job of a kind. `running` is how many its owner has running."""

    id: str
    queue: str
    priority: int
    owner: str
    spec_version: int
    need: Need
    created_at: float
    running: int

    @property
    def rank(self) -> tuple[int, int, float, str]:
        """Ascending: who goes first."""
        return (-self.priority, self.running, self.created_at, self.id)


def heads(session: Session, queues: Sequence[str], skip: Collection[str] = ()) -> list[Waiting]:
    """The oldest ready job of each kind, the first to go first. `skip` are ids that are passed over."""
    rows = [row for queue in queues for row in session.execute(_kinds(queue, skip))]
    running = running_by_owner(session) if rows else Counter()
    return sorted((_waiting(row, running) for row in rows), key=lambda waiting: waiting.rank)


def one(session: Session, job_id: str) -> Waiting | None:
    """That job, if it is ready."""
    row = session.execute(select(*(getattr(Job, name) for name in _COLUMNS)).where(Job.id == job_id, is_ready(Job))).one_or_none()
    return None if row is None else _waiting(row, running_by_owner(session))


def in_order(session: Session, queues: Sequence[str]) -> Iterator[Waiting]:
    """Ready jobs, the first to go first; each is looked for when the one before was of no use."""
    passed: list[str] = []
    while best := heads(session, queues, passed):
        yield best[0]
        passed.append(best[0].id)


def running_by_owner(session: Session) -> Counter[str]:
    counted = select(Job.owner, func.count()).where(Job.state == RUNNING).group_by(Job.owner)
    return Counter({owner: number for owner, number in session.execute(counted)})


def is_ready(job: Any) -> ColumnElement[bool]:
    """Whether a queued job may begin now, by its own row: not before its time, and as long as it has any left."""
    may_begin = or_(job.not_before.is_(None), job.not_before <= now())
    has_time = or_(job.deadline.is_(None), job.deadline > now()) & or_(
        job.max_seconds.is_(None), job.ran_seconds < job.max_seconds
    )
    return and_(job.state == QUEUED, job.cancel_requested_at.is_(None), may_begin, has_time)


def _waiting(row: Any, running: Counter[str]) -> Waiting:
    need = Need(row.gpus, row.gpu_permille, row.gpu_gb)
    return Waiting(row.id, row.queue, row.priority, row.owner, row.spec_version, need, row.created_at, running[row.owner])


def _kinds(queue: str, skip: Collection[str]) -> Any:
    """The oldest of each kind: a leap to the first, then from each to the first behind its kind."""
    first = select(*(getattr(Job, name) for name in _COLUMNS)).where(Job.id == _first_behind(queue, skip, None))
    kinds = first.cte("kinds", recursive=True)
    behind = aliased(Job)
    columns = (getattr(behind, name) for name in _COLUMNS)
    leap = select(*columns).select_from(kinds).join(behind, behind.id == _first_behind(queue, skip, kinds))
    return select(kinds.union_all(leap))


def _first_behind(queue: str, skip: Collection[str], kinds: CTE | None) -> ScalarSelect[str]:
    job = aliased(Job)
    wanted = select(job.id).where(job.queue == queue, is_ready(job))
    if skip:
        wanted = wanted.where(job.id.not_in(skip))
    key = [getattr(job, name) for name in _KIND]
    if kinds is not None:
        # Expressions, not columns, since of two columns SQLite leaps by the first alone; and behind the last of a kind, since it
        # leaps to the first that is not less.
        last = [*(func.coalesce(kinds.c[name], kinds.c[name]) for name in _KIND), literal_column("9e99")]
        wanted = wanted.where(tuple_(*key, job.created_at) > tuple_(*last)).correlate(kinds)
    return wanted.order_by(*key, job.created_at, job.id).limit(1).scalar_subquery()
