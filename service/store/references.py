"""Which jobs need what another job made."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, cast

import orjson
from sqlalchemy import ColumnElement, Table, exists, insert, select
from sqlalchemy.orm import Session, aliased

from service.store.states import ENDED
from service.store.tables import Job, JobReference

_AN_ID = re.compile(rb"job-[0-9a-f]{24}")
_INSERT = insert(cast(Table, JobReference.__table__))


def note(session: Session, made: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Keeps which jobs each of those (id, resolved) names, wherever in its arguments.

    Ids are random and long, so a text that has one means it.
    """
    rows = [{"job_id": job_id, "to_job": named} for job_id, resolved in made for named in _named(resolved)]
    if rows:
        session.execute(_INSERT, rows)


def live_references(session: Session, job_id: str) -> Sequence[str]:
    """The other jobs that have not ended and whose arguments name this one, as a model's or an adapter's place would."""
    named_by = select(JobReference.job_id).where(JobReference.to_job == job_id)
    wanted = select(Job.id).where(Job.id.in_(named_by), Job.id != job_id, Job.state.not_in(ENDED))
    return session.scalars(wanted.order_by(Job.created_at, Job.id)).all()


def is_needed(job: type[Job]) -> ColumnElement[bool]:
    """Whether there is such a job."""
    other = aliased(Job)
    needs_it: ColumnElement[bool] = exists().where(
        JobReference.to_job == job.id, other.id == JobReference.job_id, other.id != job.id, other.state.not_in(ENDED)
    )
    return needs_it


def _named(resolved: dict[str, Any]) -> list[str]:
    return sorted({found.decode() for found in _AN_ID.findall(orjson.dumps(resolved))})
