"""Which jobs need what another job made, or a file that was uploaded."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import orjson
from sqlalchemy import ColumnElement, Select, Table, Text, exists, select
from sqlalchemy import cast as cast_to
from sqlalchemy.orm import Session, aliased

from service.specs.beginnings import earlier_named
from service.specs.checkpoint_names import CheckpointName
from service.specs.checkpoint_names import named_in as measured_in
from service.specs.job import ResolvedStep
from service.specs.refusals import Refusal, SpecRefused
from service.store.bulk import insert_all
from service.store.states import ENDED
from service.store.tables import Checkpoint, File, Job, JobReference

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


def gone(session: Session, steps: Iterable[ResolvedStep]) -> list[CheckpointName]:
    """The checkpoints of other jobs that those steps name by their numbers and that are kept no longer.

    Nobody gives up the others before this transaction ends: who would waits, and finds them needed if it made a job that is.
    """
    names = {name for step in steps for name in _checkpoints_of(step)}
    makers = {str(name.job_id) for name in names}
    if not makers:
        return []
    # FOR SHARE: also against a worker that thins out what its job has kept, whose heartbeat locks the row
    session.scalars(select(Job.id).where(Job.id.in_(makers)).order_by(Job.id).with_for_update(read=True)).all()
    kept = select(Checkpoint.job_id, Checkpoint.step, Checkpoint.global_step).where(Checkpoint.removed_at.is_(None))
    there = {CheckpointName(*row) for row in session.execute(kept.where(Checkpoint.job_id.in_(makers)))}
    return sorted(names - there, key=str)


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


def _checkpoints_of(step: ResolvedStep) -> Iterator[CheckpointName]:
    """What is of this job itself is not there yet, and what is no number was not written out."""
    names = [*(name for _, _, name in measured_in(step)), *(name for _, name in earlier_named(step))]
    yield from (name for name in names if name.job_id is not None and isinstance(name.at, int))


def _live(named: str, wanted: Select[str]) -> Select[str]:
    """Of the other jobs that name this one, those that have not ended."""
    named_by = select(JobReference.job_id).where(JobReference.to_job == named)
    return wanted.where(Job.id.in_(named_by), Job.id != named, Job.state.not_in(ENDED))
