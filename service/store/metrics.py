"""What was measured: per-document sums, the measures made of them, and the training series."""

import math
from collections.abc import Sequence
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from service.store.clock import now
from service.store.leases import Claim
from service.store.tables import Measurement, Metric, Point
from service.store.upsert import upsert

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
    found = session.execute(select(Point.step, Point.name).where(Point.job_id == job_id).distinct())
    names: dict[str, list[str]] = {}
    for step, name in sorted(tuple(row) for row in found):
        names.setdefault(step, []).append(name)
    return names


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
    wanted = select(Point.global_step, Point.value).where(Point.job_id == job_id, Point.step == step, Point.name == name)
    if from_step is not None:
        wanted = wanted.where(Point.global_step >= from_step)
    if to_step is not None:
        wanted = wanted.where(Point.global_step <= to_step)
    # the driver's own rows: SQLAlchemy would make an object of each of thousands of points
    found = session.connection().execute(wanted.order_by(Point.global_step)).cursor.fetchall()
    kept = thinned(list(found), points) if points else found
    return [at for at, _ in kept], [value for _, value in kept]


def thinned(found: list[tuple[int, float]], points: int) -> list[tuple[int, float]]:
    """First, last, and of each of (points − 2) / 2 equal stretches between them the lowest and the highest."""
    if len(found) <= points or points < 4:
        return found if len(found) <= points else [found[0], found[-1]][:points]
    inner = found[1:-1]
    stretches = (points - 2) // 2
    kept = [found[0]]
    for index in range(stretches):
        stretch = inner[index * len(inner) // stretches : (index + 1) * len(inner) // stretches]
        extremes = {min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1])}
        kept += sorted(extremes)
    return [*kept, found[-1]]
