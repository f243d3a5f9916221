"""The checkpoints that a job has saved, complete; which is best by a measure, and what each gives for what it costs."""

from collections.abc import Sequence
from itertools import groupby
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query

from service.api.access import Whose
from service.api.collaborators import TheDatabase
from service.api.errors import BadParameter
from service.api.problems import declared
from service.api.views import (
    CheckpointList,
    CheckpointView,
    FrontView,
    MeasuredCheckpointView,
    MeasuredModel,
    RankView,
    checkpoint_view,
)
from service.specs import measures as catalogue
from service.specs.nearest import no_such
from service.specs.ranking import Better, Candidate, front, ranked
from service.store import checkpoints, jobs, measured_models, metrics
from service.store.tables import Checkpoint, Metric

router = APIRouter(tags=["files"])

# Where a checkpoint was measured on several texts, its line in this list shows the first of these. The anchor comes last: a
# checkpoint is for what it was trained on.
SPLITS = ("validation", "dataset", "train", "anchor")

Place = tuple[str, int]  # a step's name, and a number of updates, or of a place in the list that it measures
AnyView = TypeVar("AnyView", CheckpointView, MeasuredCheckpointView)


@router.get("/jobs/{job_id}/checkpoints", responses=declared(404, 422))
def list_checkpoints(
    job_id: str,
    owner: Whose,
    database: TheDatabase,
    rank_by: Annotated[
        str | None, Query(description="A measure, or measure:place: the best of each step first, by the one-standard-error rule.")
    ] = None,
) -> CheckpointList:
    """Oldest first, or by rank within each step; each with its files, its measures, and whether it is on the front. `measured`
    are those of steps that measure, which may be of other jobs.
    """
    better = None if rank_by is None else _better(rank_by)
    with database.reading() as session:
        jobs.version(session, owner, job_id)
        saved = checkpoints.of_job(session, job_id)
        found = by_text(metrics.of_job(session, job_id))
        values = values_of(found)
        on_front = _fronts(found)
        ranks = _ranks(found, rank_by, better) if rank_by is not None and better is not None else {}
        views = [_view(one, values, on_front, ranks) for one in saved]
        measured = [
            _measured_view(place, of, values[place], on_front, ranks)
            for place, of in measured_models.of_job(session, job_id).items()
            if place in values
        ]
    return CheckpointList(
        data=views if rank_by is None else _in_order(views),
        measured=measured if rank_by is None else _in_order(measured),
        front=[point for point, is_on_front in on_front.values() if is_on_front],
    )


def _better(rank_by: str) -> Better:
    measure = catalogue.BY_NAME.get(catalogue.measure_of(rank_by))
    if measure is None:
        raise BadParameter("/query/rank_by", no_such("measure", rank_by, catalogue.BY_NAME))
    if measure.better is None:
        ranking = [name for name, other in catalogue.BY_NAME.items() if other.better]
        sentence = f"Neither more nor less of {rank_by} makes a checkpoint better; rank by one of {', '.join(ranking)}."
        raise BadParameter("/query/rank_by", sentence)
    return measure.better


def by_text(found: Sequence[Metric]) -> list[Metric]:
    """In the order in which a checkpoint's texts are looked for a measure."""
    order = {split: position for position, split in enumerate(SPLITS)}
    return sorted(found, key=lambda metric: order.get(metric.split, len(order)))


def values_of(found: list[Metric]) -> dict[Place, dict[str, float | None]]:
    """By checkpoint, the value of each measure."""
    values: dict[Place, dict[str, float | None]] = {}
    for metric in found:
        values.setdefault((metric.step, metric.global_step), {}).setdefault(metric.measure, metric.value)
    return values


def _ranks(found: list[Metric], measure: str, better: Better) -> dict[Place, RankView]:
    """Of each step, on the first text on which it has the measure."""
    ranks: dict[Place, RankView] = {}
    named = [metric for metric in found if metric.measure == measure and metric.global_step != metrics.BASE]
    for step, of_step in groupby(sorted(named, key=lambda metric: metric.step), lambda metric: metric.step):
        texts = list(of_step)
        split = texts[0].split
        candidates = [
            Candidate(metric.global_step, metric.value, metric.versus_leader)
            for metric in texts
            if metric.split == split and metric.value is not None
        ]
        best = (min if better == "lower" else max)((one.value for one in candidates), default=None)
        for place, one in enumerate(ranked(candidates, better), 1):
            ranks[step, one.global_step] = RankView(
                place=place,
                measure=measure,
                split=split,
                value=one.value,
                within_one_standard_error=one.is_near or one.value == best,
                versus_leader=one.versus_leader,
            )
    return ranks


def _fronts(found: list[Metric]) -> dict[Place, tuple[FrontView, bool]]:
    """Every checkpoint of which gain and drift are known, and whether it is on its step's front; the least drift first."""
    gains = {place: gain for metric in reversed(found) for place, gain in _gain(metric)}
    anchor_last = sorted(reversed(found), key=lambda metric: metric.split == "anchor")
    drifts = {place: drift for metric in anchor_last for place, drift in _drift(metric)}
    points = [
        FrontView(step=step, global_step=at, gain=gains[step, at], drift=drift, drift_split=split)
        for (step, at), (drift, split) in drifts.items()
        if (step, at) in gains
    ]
    known: dict[Place, tuple[FrontView, bool]] = {}
    for _, of_step in groupby(sorted(points, key=lambda it: (it.step, it.drift, it.global_step)), lambda it: it.step):
        one_step = list(of_step)
        for point, is_on_front in zip(one_step, front([(it.gain, it.drift) for it in one_step]), strict=True):
            known[point.step, point.global_step] = (point, is_on_front)
    return known


def _gain(metric: Metric) -> list[tuple[Place, float]]:
    """On the text of the task only."""
    if metric.measure != "cross_entropy" or metric.split == "anchor" or (metric.versus_base or {}).get("value") is None:
        return []
    return [((metric.step, metric.global_step), -(metric.versus_base or {})["value"])]


def _drift(metric: Metric) -> list[tuple[Place, tuple[float, str]]]:
    """On the anchor, which is looked at last, or on the text of the task."""
    if metric.measure != "kl_from_base" or metric.global_step == metrics.BASE or metric.value is None:
        return []
    return [((metric.step, metric.global_step), (metric.value, metric.split))]


def _view(
    one: Checkpoint,
    values: dict[Place, dict[str, float | None]],
    on_front: dict[Place, tuple[FrontView, bool]],
    ranks: dict[Place, RankView],
) -> CheckpointView:
    place = (one.step, one.global_step)
    pareto = on_front[place][1] if place in on_front else None
    return checkpoint_view(one, values.get(place, {}), pareto, ranks.get(place))


def _measured_view(
    place: Place,
    of: dict[str, Any],
    values: dict[str, float | None],
    on_front: dict[Place, tuple[FrontView, bool]],
    ranks: dict[Place, RankView],
) -> MeasuredCheckpointView:
    step, number = place
    pareto = on_front[place][1] if place in on_front else None
    of_one = MeasuredModel(**of)
    return MeasuredCheckpointView(step=step, number=number, of=of_one, metrics=values, pareto=pareto, rank=ranks.get(place))


def _in_order(views: list[AnyView]) -> list[AnyView]:
    """The steps as they came; in each the ranked first, and then what has no rank, oldest first."""
    order = {step: position for position, step in enumerate(dict.fromkeys(view.step for view in views))}
    return sorted(views, key=lambda view: (order[view.step], view.rank is None, view.rank.place if view.rank else 0))
