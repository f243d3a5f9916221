"""What was measured: per-document sums, the measures made of them, and the training series."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from service.store import thinning
from service.store.clock import now
from service.store.leases import Claim
from service.store.tables import Measurement, Metric, Point
from service.store.upsert import upsert

MOST_UPDATES = 2**31 - 1
BASE = -1  # the global_step of what the checkpoints are compared with


def record_measurement(session: Session, held: Claim, step: str, global_step: int, split: str, documents: dict[str, Any]) -> None:
    """Keeps the per-document sums of one checkpoint on one text. Call it behind the fence."""
    row = {
        "job_id": held.job_id,
        "step": step,
        "global_step": global_step,
        "split": split,
        "documents": documents,
        "created_at": session.scalar(select(now())),
    }
    upsert(session, Measurement, [row])


def record(session: Session, held: Claim, step: str, split: str, rows: list[dict[str, Any]]) -> None:
    """Keeps measures; those of earlier checkpoints come again when another becomes the best to compare with."""
    upsert(session, Metric, [{"job_id": held.job_id, "step": step, "split": split, **row} for row in rows])


def record_points(session: Session, held: Claim, step: str, global_step: int, values: dict[str, float]) -> None:
    """Keeps the training series' values at one update; what is not finite is no point: SQLite would refuse a NaN."""
    rows = [
        {"job_id": held.job_id, "step": step, "name": name, "global_step": global_step, "value": value}
        for name, value in values.items()
        if math.isfinite(value)
    ]
    upsert(session, Point, rows)


def measurements(session: Session, job_id: str) -> Sequence[Measurement]:
    wanted = select(Measurement).where(Measurement.job_id == job_id)
    return session.scalars(wanted.order_by(Measurement.step, Measurement.global_step)).all()


def of_job(
    session: Session,
    job_id: str,
    step: str | None = None,
    global_step: int | None = None,
    measure: str | None = None,
    split: str | None = None,
) -> Sequence[Metric]:
    """A job's measures, the base first, then checkpoint by checkpoint. A measure comes with all its places."""
    wanted = select(Metric).where(Metric.job_id == job_id)
    for column, value in (
        (Metric.step, step),
        (Metric.global_step, global_step),
        (Metric.split, split),
    ):
        if value is not None:
            wanted = wanted.where(column == value)
    if measure is not None:
        wanted = wanted.where(or_(Metric.measure == measure, Metric.measure.startswith(f"{measure}:", autoescape=True)))
    return session.scalars(wanted.order_by(Metric.step, Metric.global_step, Metric.split, Metric.measure)).all()


def series_names(session: Session, job_id: str) -> dict[str, list[str]]:
    """The names of the training series there are, by step."""
    names: dict[str, list[str]] = {}
    found = _first_name(session, job_id, "", "")
    while found is not None:  # by leaps along the key: there may be a hundred thousand points of each
        names.setdefault(found[0], []).append(found[1])
        found = _first_name(session, job_id, *found)
    return names


def _first_name(session: Session, job_id: str, step: str, name: str) -> tuple[str, str] | None:
    of_job = select(Point.step, Point.name).where(Point.job_id == job_id)
    in_step = of_job.where(Point.step == step, Point.name > name).order_by(Point.name).limit(1)
    in_next = of_job.where(Point.step > step).order_by(Point.step, Point.name).limit(1)
    found = session.execute(in_step).one_or_none() or session.execute(in_next).one_or_none()
    return None if found is None else (found[0], found[1])


def series(
    session: Session,
    job_id: str,
    step: str,
    name: str,
    from_step: int | None = None,
    to_step: int | None = None,
    points: int | None = None,
) -> tuple[list[int], list[float]]:
    """(updates, values), thinned to at most about `points` such that each stretch keeps its lowest and highest value."""
    within = (0 if from_step is None else from_step, MOST_UPDATES if to_step is None else to_step)
    return thinning.series(session, job_id, step, name, within, points)


def behind(
    session: Session, job_id: str, step: str, told: Mapping[str, int], after: int, limit: int
) -> dict[str, tuple[list[int], list[float]]]:
    """By name, (updates, values) of each series of the step that has any behind the update told of it, or behind `after`."""
    found = {}
    for name in series_names(session, job_id).get(step, ()):
        wanted = select(Point.global_step, Point.value).where(Point.job_id == job_id, Point.step == step, Point.name == name)
        newer = wanted.where(Point.global_step > told.get(name, after)).order_by(Point.global_step).limit(limit)
        if rows := session.execute(newer).all():
            found[name] = ([at for at, _ in rows], [value for _, value in rows])
    return found
