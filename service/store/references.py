"""Which jobs need what another job made, or a file that was uploaded."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, cast

import orjson
from sqlalchemy import ColumnElement, Select, Table, Text, exists, select
from sqlalchemy import cast as cast_to
from sqlalchemy.orm import Session, aliased

from service.specs.refusals import Refusal, SpecRefused
from service.store.bulk import insert_all
from service.store.states import ENDED
from service.store.tables import File, Job, JobReference

_AN_ID = re.compile(rb"(?:job|file)-[0-9a-f]{24}")
_REFERENCES = cast(Table, JobReference.__table__)


def note(session: Session, made: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Keeps which jobs and files each of those (id, resolved) names, wherever in its arguments.

    Ids are random and long, so a text that has one means it.
    """
    rows = [{"job_id": job_id, "to_job": named} for job_id, resolved in made for named in named_in(resolved)]
    if rows:
        _hold(session, {row["to_job"] for row in rows if row["to_job"].startswith("file-")})
        insert_all(session, _REFERENCES, rows)


def _hold(session: Session, file_ids: set[str]) -> None:
    """Until the references are there, nobody deletes the files: who would waits, and finds them needed. Raises SpecRefused."""
    if not file_ids:
        return
    held = select(File.id).where(File.id.in_(file_ids)).order_by(File.id).with_for_update(read=True, key_share=True)
    if gone := file_ids - set(session.scalars(held)):
        raise SpecRefused([Refusal(("data", "dataset"), f"The file {min(gone)} was deleted a moment ago.")])


def live_references(session: Session, named: str) -> Sequence[str]:
    """The jobs that have not ended and whose arguments name that one, or that file, as a model's or a data set's place would."""
    return session.scalars(_live(named, select(Job.id)).order_by(Job.created_at, Job.id)).all()


def is_measured(session: Session, checkpoint: str) -> bool:
    """Whether a job that has not ended names that checkpoint, "job-.../sft/40", which stands in quotes in its arguments."""
    names_it = cast_to(Job.resolved, Text).contains(f'"{checkpoint}"', autoescape=True)
    wanted = _live(checkpoint.partition("/")[0], select(Job.id)).where(names_it)
    return session.scalar(wanted.limit(1)) is not None


def is_needed(named: type[Job] | type[File]) -> ColumnElement[bool]:
    """Whether there is such a job."""
    other = aliased(Job)
    needs_it: ColumnElement[bool] = exists().where(
        JobReference.to_job == named.id, other.id == JobReference.job_id, other.id != named.id, other.state.not_in(ENDED)
    )
    return needs_it


def named_in(document: Any) -> list[str]:
    """The ids of jobs and files that stand anywhere in a document."""
    return sorted({found.decode() for found in _AN_ID.findall(orjson.dumps(document))})


def _live(named: str, wanted: Select[str]) -> Select[str]:
    """Of the other jobs that name this one, those that have not ended."""
    named_by = select(JobReference.job_id).where(JobReference.to_job == named)
    return wanted.where(Job.id.in_(named_by), Job.id != named, Job.state.not_in(ENDED))
