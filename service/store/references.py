"""Which jobs need what another job made."""

from collections.abc import Sequence

from sqlalchemy import Text, cast, select
from sqlalchemy.orm import Session

from service.store.states import ENDED
from service.store.tables import Job


def live_references(session: Session, job_id: str) -> Sequence[str]:
    """The other jobs that have not ended and whose arguments name this one, as a model's or an adapter's place would.

    Ids are random and long, so a text that has one means it.
    """
    names_it = cast(Job.resolved, Text).contains(job_id, autoescape=True)
    wanted = select(Job.id).where(Job.state.not_in(ENDED), Job.id != job_id, names_it).order_by(Job.created_at, Job.id)
    return session.scalars(wanted).all()


def is_measured(session: Session, checkpoint: str) -> bool:
    """Whether a job that has not ended names that checkpoint, "job-.../sft/40", which stands in quotes in its arguments."""
    names_it = cast(Job.resolved, Text).contains(f'"{checkpoint}"', autoescape=True)
    return session.scalar(select(Job.id).where(Job.state.not_in(ENDED), names_it).limit(1)) is not None
