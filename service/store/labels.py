"""Labels as rows, for lists: the job's own column has them for whoever looks at it."""

from collections.abc import Iterable
from typing import Any, cast

from sqlalchemy import ColumnElement, Table, delete, exists
from sqlalchemy.orm import Session, aliased

from service.store.bulk import insert_all
from service.store.tables import Job, JobLabel

_LABELS = cast(Table, JobLabel.__table__)


def note(session: Session, created_at: float, labelled: Iterable[tuple[str, str, dict[str, Any]]]) -> None:
    """Keeps the labels of jobs that were made at one moment: (id, owner, labels)."""
    rows = [
        {"job_id": job_id, "name": name, "value": value, "owner": owner}
        for job_id, owner, labels in labelled
        for name, value in labels.items()
    ]
    insert_all(session, _LABELS, rows, created_at=created_at)


def replace(session: Session, job: Job, labels: dict[str, Any]) -> None:
    session.execute(delete(JobLabel).where(JobLabel.job_id == job.id).execution_options(synchronize_session=False))
    note(session, job.created_at, [(job.id, job.owner, labels)])


def has(name: str, value: str) -> ColumnElement[bool]:
    """Whether a job has the label."""
    label = aliased(JobLabel)
    found: ColumnElement[bool] = exists().where(label.job_id == Job.id, label.name == name, label.value == value)
    return found
