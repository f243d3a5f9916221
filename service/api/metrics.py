"""What was measured at a job's checkpoints, its training series, and the catalogue of measures."""

from collections.abc import Sequence
from itertools import groupby
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from service.api.errors import BadParameter, NoSuchThing
from service.api.looking import looking
from service.api.problems import declared
from service.api.views import MeasuredModel, alert_test_view, measure_view
from service.specs import measures as catalogue
from service.specs.alerts import ALERTS, Alert
from service.specs.catalogue.measure import Measure
from service.specs.nearest import no_such
from service.store import alerts, jobs, measured_models, metrics
from service.store.session import session_of
from service.store.tables import AlertTest, Metric

router = APIRouter(tags=["metrics"])


class MeasuredValue(BaseModel):
    """One measure, with its interval where something was sampled. `versus_*` are differences, paired by document."""

    value: float | None
    unit: str
    on: str | None = Field(description="What it was taken on; null of a measure that this service does not know.")
    standard_error: float | None
    interval: list[float] | None
    interval_reason: str | None
    n_documents: int
    n_tokens: int
    estimator: str
    versus_base: dict[str, Any] | None
    versus_best: dict[str, Any] | None
    versus_leader: dict[str, Any] | None = Field(description="From the checkpoint that is best by this measure.")


class AlertTestView(BaseModel):
    """One alert's test of one checkpoint: it fires where the bound passes the threshold."""

    alert: str
    fires: bool | None = Field(description="Null where it could not be tested; `reason` says why.")
    statistic: float | None
    bound: float | None = Field(description="The statistic's one-sided bound at alpha.")
    threshold: float
    unit: str
    k: int = Field(description="This is the step's k-th measured checkpoint.")
    alpha: float = Field(description="Spent on this test: 0.01 · 6/(π²k²), in all at most 0.01 for each alert and step.")
    n_documents: int
    reason: str | None
    suggests: str | None


class Measured(BaseModel):
    """The measures of one checkpoint on one text, the alerts that fired, and every test that was made."""

    step: str
    checkpoint: int | Literal["base"] = Field(description="A number of updates; in a step that measures, of the list's places.")
    of: MeasuredModel | None = Field(description="In a step that measures or predicts, which checkpoint this is.")
    split: str
    measures: dict[str, MeasuredValue]
    alerts: list[AlertTestView]
    tests: list[AlertTestView]


class MetricsView(BaseModel):
    job_id: str
    data: list[Measured]


class SeriesView(BaseModel):
    """A training series as columns: `step` counts the updates within `pipeline_step`."""

    name: str
    pipeline_step: str
    step: list[int]
    value: list[float]


class StepSeries(BaseModel):
    pipeline_step: str
    names: list[str]


class SeriesNames(BaseModel):
    """The series there are, where none is named."""

    job_id: str
    data: list[StepSeries]


class Catalogue(BaseModel):
    data: list[Measure] = Field(description="Names, units, definitions and sources.")
    alerts: list[Alert] = Field(description="What is tested of each checkpoint, at which threshold, and what it suggests.")


# Metrics are written out by hand and not through their models, which are for the documentation: many times faster.


@router.get("/jobs/{job_id}/metrics", response_model=MetricsView, responses=declared(404, 422))
def get_metrics(
    job_id: str,
    request: Request,
    step: Annotated[str | None, Query(description="A step of the job.")] = None,
    checkpoint: Annotated[str | None, Query(pattern=r"^(base|[0-9]{1,9})$", description="A number of updates, or base.")] = None,
    measure: Annotated[str | None, Query(description="A name of GET /measures, with all its places, or name:place.")] = None,
    split: Annotated[str | None, Query(description="validation, dataset, train, anchor or test.")] = None,
) -> Response:
    """Each checkpoint's measures, the base first in every step."""
    if measure is not None and catalogue.measure_of(measure) not in catalogue.KNOWN:
        raise BadParameter("/query/measure", no_such("measure", measure, catalogue.BY_NAME))
    global_step = metrics.BASE if checkpoint == "base" else None if checkpoint is None else int(checkpoint)
    owner, database, rendered, _ = looking(request)
    with database.glancing() as connection:
        version = jobs.version(connection, owner, job_id)

        def made() -> bytes:
            with session_of(connection) as session:
                steps = jobs.step_names(session, job_id)
                _refuse_unknown_step(steps, step)
                of = measured_models.of_job(session, job_id)
                found = metrics.of_job(session, job_id, step, global_step, measure, split)
                tested = alerts.of_job(session, job_id, step, global_step, split)
                return orjson.dumps({"job_id": job_id, "data": _measured(steps, found, tested, of)})

        body = rendered.of(("metrics", job_id, step, global_step, measure, split), version, made)
    return Response(body, media_type="application/json")


@router.get("/jobs/{job_id}/metrics/series", response_model=SeriesView | SeriesNames, responses=declared(404, 422))
def get_series(
    job_id: str,
    request: Request,
    name: Annotated[str | None, Query(description="Such as loss; without it, the names there are.")] = None,
    step: Annotated[str | None, Query(description="A step of the job; needed where there are several.")] = None,
    from_step: Annotated[int | None, Query(ge=0, lt=2**31)] = None,
    to_step: Annotated[int | None, Query(ge=0, lt=2**31)] = None,
    points: Annotated[int | None, Query(ge=2, le=100_000, description="Thin out to about so many; extremes stay.")] = None,
) -> Response:
    """A training series as columns."""
    owner, database, rendered, _ = looking(request)
    with database.glancing() as connection:
        version = jobs.version(connection, owner, job_id)

        def made() -> bytes:
            with session_of(connection) as session:
                return orjson.dumps(_series(session, job_id, name, step, from_step, to_step, points))

        body = rendered.of(("series", job_id, name, step, from_step, to_step, points), version, made)
    return Response(body, media_type="application/json")


def _series(
    session: Session,
    job_id: str,
    name: str | None,
    step: str | None,
    from_step: int | None,
    to_step: int | None,
    points: int | None,
) -> dict[str, Any]:
    steps = jobs.step_names(session, job_id)
    _refuse_unknown_step(steps, step)
    if name is None:
        return {"job_id": job_id, "data": _names([step] if step else steps, metrics.series_names(session, job_id))}
    pipeline_step = step or _only_step(steps)
    at, values = metrics.series(session, job_id, pipeline_step, name, from_step, to_step, points)
    if not at:
        _refuse_unknown_name(metrics.series_names(session, job_id).get(pipeline_step, []), name, pipeline_step)
    return {"name": name, "pipeline_step": pipeline_step, "step": at, "value": values}


@router.get("/measures")
def list_measures(
    in_jobs: Annotated[bool | None, Query(description="Only those that a job may name, or only the others.")] = None,
) -> Catalogue:
    """The registry: every information measure that is computed here, and what it is."""
    rows = [measure for measure in catalogue.REGISTRY if in_jobs in (None, measure.in_jobs)]
    return Catalogue(data=rows, alerts=list(ALERTS))


def _measured(
    steps: list[str], found: Sequence[Metric], tested: Sequence[AlertTest], of: dict[tuple[str, int], dict[str, Any]]
) -> list[dict[str, Any]]:
    """One entry for each checkpoint and text, the steps in the job's own order."""
    tests: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for test in tested:
        tests.setdefault((test.step, test.global_step, test.split), []).append(alert_test_view(test))
    order = {name: position for position, name in enumerate(steps)}
    placed = sorted(found, key=lambda metric: (order.get(metric.step, len(order)), metric.global_step, metric.split))
    return [
        {
            "step": step,
            "checkpoint": "base" if global_step == metrics.BASE else global_step,
            "of": of.get((step, global_step)),
            "split": split,
            "measures": {metric.measure: measure_view(metric) for metric in group},
            "alerts": [test for test in tests.get((step, global_step, split), []) if test["fires"]],
            "tests": tests.get((step, global_step, split), []),
        }
        for (step, global_step, split), group in groupby(placed, lambda metric: (metric.step, metric.global_step, metric.split))
    ]


def _names(steps: list[str], known: dict[str, list[str]]) -> list[dict[str, Any]]:
    return [{"pipeline_step": name, "names": known[name]} for name in steps if name in known]


def _only_step(steps: list[str]) -> str:
    if len(steps) > 1:
        raise BadParameter("/query/step", f"The job has several steps; say which: {', '.join(steps)}.")
    return steps[0]


def _refuse_unknown_step(steps: list[str], step: str | None) -> None:
    if step is not None and step not in steps:
        raise BadParameter("/query/step", f"The job has no step {step!r}; it has {', '.join(steps)}.")


def _refuse_unknown_name(known: Sequence[str], name: str, step: str) -> None:
    """A step that has not begun has no series yet: any name is then an empty one, and no mistake."""
    if known and name not in known:
        raise NoSuchThing(f"The step {step!r} has no series {name!r}; it has {', '.join(known)}.")
