"""The steps of a job that are done, and what each made."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from service.store.clock import now
from service.store.leases import Claim
from service.store.tables import StepResult


def finish(session: Session, held: Claim, position: int, name: str, output: str, summary: dict[str, Any]) -> None:
    """Notes that a step is done. Call it behind the fence (`leases.renew` in the same transaction)."""
    session.execute(
        insert(StepResult).values(
            job_id=held.job_id,
            position=position,
            name=name,
            attempt=held.attempt,
            output=output,
            summary=summary,
            finished_at=now(),
        )
    )


def of_job(session: Session, job_id: str) -> Sequence[StepResult]:
    return session.scalars(select(StepResult).where(StepResult.job_id == job_id).order_by(StepResult.position)).all()


def of_jobs(session: Session, job_ids: Iterable[str]) -> dict[str, list[StepResult]]:
    """The same for a page of jobs, in one query."""
    done: dict[str, list[StepResult]] = {job_id: [] for job_id in job_ids}
    for result in session.scalars(select(StepResult).where(StepResult.job_id.in_(done)).order_by(StepResult.position)):
        done[result.job_id].append(result)
    return done
