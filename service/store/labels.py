"""Labels as rows, for lists: the job's own column has them for whoever looks at it."""

from collections.abc import Iterable
from typing import Any, cast

from sqlalchemy import ColumnElement, Table, delete, exists, insert
from sqlalchemy.orm import Session, aliased

from service.store.tables import Job, JobLabel

_INSERT = insert(cast(Table, JobLabel.__table__))


def note(session: Session, labelled: Iterable[tuple[str, str, float, dict[str, Any]]]) -> None:
    """Keeps the labels of new jobs: (id, owner, when it was made, labels)."""
    rows = [
        {"job_id": job_id, "name": name, "value": value, "owner": owner, "created_at": created_at}
        for job_id, owner, created_at, labels in labelled
        for name, value in labels.items()
    ]
    if rows:
        session.execute(_INSERT, rows)


def replace(session: Session, job: Job, labels: dict[str, Any]) -> None:
    session.execute(delete(JobLabel).where(JobLabel.job_id == job.id).execution_options(synchronize_session=False))
    note(session, [(job.id, job.owner, job.created_at, labels)])


def has(name: str, value: str) -> ColumnElement[bool]:
    """Whether a job has the label."""
    label = aliased(JobLabel)
    found: ColumnElement[bool] = exists().where(label.job_id == Job.id, label.name == name, label.value == value)
    return found
