"""Quotas: what an owner may have waiting and running at once, and use of GPUs in a month.

Where an owner has a quota, whoever adds to what it counts waits for whoever does so at the same moment: none is passed by two at
once. On SQLite one writes at a time anyway.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Select, Table, bindparam, func, literal_column, select, text
from sqlalchemy.orm import Session

from service.specs.quota import UNLIMITED, Quota
from service.store import gpu_use, line
from service.store.clock import now
from service.store.errors import QuotaReached
from service.store.tables import Job, QuotaRow
from service.store.upsert import upsert

AGAIN_SECONDS = 60.0  # after which a client may ask whether fewer of its jobs wait

WAITING = ("queued", "paused")

# Of the table, made once: it is asked for every job that comes.
_ROWS = cast(Table, QuotaRow.__table__).c
_OF_OWNERS = select(_ROWS.owner, _ROWS.queued, _ROWS.running, _ROWS.gpu_hours).where(
    _ROWS.owner.in_(bindparam("owners", expanding=True))
)


@dataclass(frozen=True)
class Usage:
    """What counts against a quota now."""

    queued: int
    running: int
    gpu_hours: float  # used in this month
    gpu_hours_held: float  # and what the jobs that run may use besides


def of_owner(session: Session, owner: str, default: Quota = UNLIMITED) -> Quota:
    """With the default for what was not set for this owner."""
    return of_owners(session, [owner], default)[owner]


def of_owners(session: Session, owners: Collection[str], default: Quota = UNLIMITED) -> dict[str, Quota]:
    given = session.execute(_OF_OWNERS, {"owners": list(owners)}).all()
    return dict.fromkeys(owners, default) | {row.owner: _quota(row).over(default) for row in given}


def set_to(session: Session, owner: str, quota: Quota) -> None:
    """What it does not say is as the settings say."""
    at = session.scalar(select(now()))
    upsert(session, QuotaRow, [{"owner": owner, **quota.model_dump(), "changed_at": at}])


def own(session: Session, owner: str) -> Quota:
    """What was set for this owner, without defaults."""
    row = session.get(QuotaRow, owner)
    return UNLIMITED if row is None else _quota(row)


def usage(session: Session, owner: str) -> Usage:
    used, held = gpu_use.hours(session, owner)
    return Usage(_count(session, owner, WAITING), _count(session, owner, ("running",)), used, held - used)


def owners(session: Session) -> list[str]:
    """Everybody who has jobs, or had a quota set."""
    with_jobs = session.scalars(select(Job.owner).distinct()).all()
    return sorted({*with_jobs, *session.scalars(select(QuotaRow.owner))})


def refuse_too_many(session: Session, asked: Sequence[tuple[str, Quota]]) -> None:
    """Of jobs that are to wait, each with its owner and the default of the settings. Raises QuotaReached."""
    defaults, coming = dict(asked), Counter(owner for owner, _ in asked)
    given = of_owners(session, defaults)
    for owner in sorted(owner for owner in defaults if given[owner] != UNLIMITED or defaults[owner] != UNLIMITED):
        quota = given[owner].over(defaults[owner])
        if quota.gpu_hours is not None:
            _refuse_without_hours(session, owner, quota.gpu_hours)
        if quota.queued is not None:
            lock(session, owner)
            waiting = _count(session, owner, WAITING, quota.queued + 1)
            if waiting + coming[owner] > quota.queued:
                raise QuotaReached(
                    f"{owner} may have {quota.queued} jobs waiting, and has {waiting}; ask again when some have begun or ended.",
                    AGAIN_SECONDS,
                )


def why_held(session: Session, waiting: line.Waiting, n_gpus: float, quota: Quota) -> str | None:
    """Why the owner's quota does not let the job begin now, on so many GPUs; None where it does."""
    if quota.running is not None and waiting.running >= quota.running:
        return f"Held: {waiting.owner} may have {quota.running} jobs running, and has {waiting.running}."
    if quota.gpu_hours is None or n_gpus == 0:
        return None
    job = session.execute(select(Job.max_seconds, Job.ran_seconds).where(Job.id == waiting.id)).one()
    needed = n_gpus * gpu_use.expected_seconds(job.max_seconds, job.ran_seconds) / 3600
    _, taken = gpu_use.hours(session, waiting.owner)
    if taken + needed <= quota.gpu_hours:
        return None
    return (
        f"Held: {waiting.owner} may use {quota.gpu_hours:g} GPU hours in a month; {taken:.2f} are used or held, and this job may "
        f"take {needed:.2f}."
    )


def lock(session: Session, owner: str) -> None:
    """Until the transaction ends, nobody else adds to what this owner has."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:owner, 7))"), {"owner": owner})


def _quota(row: Any) -> Quota:
    return Quota(queued=row.queued, running=row.running, gpu_hours=row.gpu_hours)


def _refuse_without_hours(session: Session, owner: str, gpu_hours: float) -> None:
    used, _ = gpu_use.hours(session, owner)
    if used < gpu_hours:
        return
    at = session.scalar(select(now())) or 0.0
    raise QuotaReached(
        f"{owner} may use {gpu_hours:g} GPU hours in a month, and has used {used:.2f}; the next month is another.",
        gpu_use.month_of(at)[1] - at,
    )


def _count(session: Session, owner: str, states: Sequence[str], most: int | None = None) -> int:
    which: Select[Any] = select(literal_column("1")).where(Job.owner == owner, Job.state.in_(states)).limit(most)
    return session.scalar(select(func.count()).select_from(which.subquery())) or 0
