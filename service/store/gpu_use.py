"""What attempts use of GPUs: held from the claim on as much as may be used, settled when the attempt ends."""

from datetime import UTC, datetime

from sqlalchemy import case, func, insert, select, update
from sqlalchemy.orm import Session

from service.store.clock import now
from service.store.tables import GpuUse, Job

# What a job is counted with that does not say max_seconds; when it runs for longer, it is counted with what it ran.
EXPECTED_SECONDS = 3600.0


def begin(session: Session, job_id: str, attempt: int, permille: int) -> None:
    """Holds so many thousandths of GPUs, all taken together, for as long as the job may run."""
    job = session.execute(select(Job.owner, Job.max_seconds, Job.ran_seconds).where(Job.id == job_id)).one()
    session.execute(
        insert(GpuUse).values(
            job_id=job_id,
            attempt=attempt,
            owner=job.owner,
            permille=permille,
            began_at=now(),
            held_until=now() + expected_seconds(job.max_seconds, job.ran_seconds),
        )
    )


def expected_seconds(max_seconds: float | None, ran_seconds: float) -> float:
    """The most that the job may still run, or what is expected where it does not say."""
    return EXPECTED_SECONDS if max_seconds is None else max(0.0, max_seconds - ran_seconds)


def settle(session: Session, job_id: str) -> None:
    """From now on what the attempt used is counted, and not what it might."""
    session.execute(
        update(GpuUse)
        .where(GpuUse.job_id == job_id, GpuUse.ended_at.is_(None))
        .values(ended_at=now())
        .execution_options(synchronize_session=False)
    )


def hours(session: Session, owner: str) -> tuple[float, float]:
    """(used, used and held) of whole GPUs in this month: the second counts with what the attempts that run may use."""
    at = session.scalar(select(now())) or 0.0
    first, _ = month_of(at)
    began = case((GpuUse.began_at < first, first), else_=GpuUse.began_at)
    held_until = case((GpuUse.held_until < at, at), else_=GpuUse.held_until)
    used, held = (
        func.coalesce(func.sum(GpuUse.permille * (end - began)), 0.0) / 3.6e6
        for end in (func.coalesce(GpuUse.ended_at, at), func.coalesce(GpuUse.ended_at, held_until))
    )
    of_month = GpuUse.ended_at.is_(None) | (GpuUse.ended_at > first)
    found = session.execute(select(used, held).where(GpuUse.owner == owner, of_month)).one()
    return float(found[0]), float(found[1])


def month_of(at: float) -> tuple[float, float]:
    """The calendar month, UTC, that a moment lies in: when it began, and when the next does."""
    day = datetime.fromtimestamp(at, UTC)
    first = day.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return first.timestamp(), following.timestamp()
