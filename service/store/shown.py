"""Of what was measured, the per-document sums of one checkpoint, and the few texts whose tokens are shown."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.store.tables import Measurement


class Shown(NamedTuple):
    """What a checkpoint (or the base, global_step −1) made of the texts that are shown; only the base has the texts."""

    step: str
    global_step: int
    split: str
    shown: dict[str, Any]


def of_job(session: Session, job_id: str, step: str | None = None) -> list[Shown]:
    """By step and text, the base first. What was measured before texts were kept has none, and does not appear."""
    shown = Measurement.documents["shown"]
    wanted = select(Measurement.step, Measurement.global_step, Measurement.split, shown).where(Measurement.job_id == job_id)
    if step is not None:
        wanted = wanted.where(Measurement.step == step)
    rows = session.execute(wanted.order_by(Measurement.step, Measurement.split, Measurement.global_step))
    return [Shown(*row) for row in rows if row[3] is not None]


def measured_on(session: Session, job_id: str, step: str) -> Sequence[tuple[int, str]]:
    """Which checkpoints of a step were measured, and on what: (global_step, split), the last one last."""
    wanted = select(Measurement.global_step, Measurement.split).where(Measurement.job_id == job_id, Measurement.step == step)
    return [(at, split) for at, split in session.execute(wanted.order_by(Measurement.global_step, Measurement.split))]


def sums(session: Session, job_id: str, step: str, global_step: int, split: str) -> dict[str, Any] | None:
    """A checkpoint's sums, by document."""
    found = session.get(Measurement, (job_id, step, global_step, split))
    return None if found is None else found.documents
