"""What was measured at a job's checkpoints, and the catalogue of measures."""

from collections.abc import Sequence
from itertools import groupby
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from service.api.errors import BadParameter
from service.api.looking import looking
from service.api.problems import declared
from service.api.series import refuse_unknown_step
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
                refuse_unknown_step(steps, step)
                of = measured_models.of_job(session, job_id)
                found = metrics.of_job(session, job_id, step, global_step, measure, split)
                tested = alerts.of_job(session, job_id, step, global_step, split)
                return orjson.dumps({"job_id": job_id, "data": _measured(steps, found, tested, of)})

        body = rendered.of(("metrics", job_id, step, global_step, measure, split), version, made)
    return Response(body, media_type="application/json")


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
