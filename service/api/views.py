"""What clients see of jobs and of what jobs made. Times are ISO 8601 in UTC."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import orjson
from pydantic import BaseModel, Field

from service.specs.alerts import BY_NAME as ALERTS
from service.specs.measures import BY_NAME, measure_of
from service.store.place import Place
from service.store.states import State
from service.store.tables import AlertTest, Artifact, Checkpoint, Event, Job, Metric, StepResult


class NoticeView(BaseModel):
    pointer: str
    detail: str


class StepView(BaseModel):
    name: str
    do: str = Field(description="train, measure, inspect or evaluate.")
    stage: str
    finetuning_type: str
    finished_at: str | None = Field(description="Null while the step is still to do.")
    output: str | None = Field(description="What @name stands for in later steps.")


class JobView(BaseModel):
    """A job: what was asked for, and how far it is."""

    id: str
    owner: str = Field(description="Whose key made it.")
    name: str | None
    labels: dict[str, str]
    state: State
    reason: str | None = Field(description="Why it failed, for programs.")
    sentence: str | None = Field(description="Why it ended, for people.")
    details: dict[str, Any] | None = Field(description="Where it failed: file, row, column, as far as they are known.")
    queue: str
    priority: int
    attempt: int = Field(description="How many attempts have begun.")
    lost: int = Field(description="How many attempts lost their worker.")
    progress: dict[str, Any] | None
    cancel_requested: bool
    pause_requested: bool = Field(description="It runs still, and will be paused.")
    retries: int = Field(description="How often it was tried again after a failure that may pass.")
    not_before: str | None = Field(description="No attempt begins sooner: what may pass is given time.")
    created_at: str
    started_at: str | None
    finished_at: str | None
    changed_at: str
    spec: dict[str, Any] = Field(description="The document as it came.")
    resolved: dict[str, Any] = Field(description="The job as it runs: every argument of every step.")
    notices: list[NoticeView]
    steps: list[StepView]
    links: dict[str, str]
    position: int | None = Field(
        default=None, description="Of a job that waits its turn: 1 goes next in its queue. Only where one job is asked for."
    )
    estimated_start: str | None = Field(default=None, description="When it may begin, from the progress of those that run.")
    place_unknown: str | None = Field(default=None, description="Why position or estimated_start is not known.")


class JobPage(BaseModel):
    data: list[JobView]
    has_more: bool
    next_after: str | None = Field(description="`after` of the next page; null where there is none.")


class EventView(BaseModel):
    number: int = Field(description="Counts a job's events without gaps.")
    at: str
    attempt: int
    kind: str
    message: str
    data: dict[str, Any]


class EventPage(BaseModel):
    data: list[EventView]
    has_more: bool
    next_after: int = Field(description="`after` of the next page, or of the next look.")


class FileView(BaseModel):
    name: str
    size: int
    sha256: str
    url: str


class RankView(BaseModel):
    """A checkpoint's place by a measure: 1 is the one to choose, the earliest within one standard error of the best."""

    place: int
    measure: str
    split: str
    value: float
    within_one_standard_error: bool
    versus_leader: dict[str, Any] | None = Field(description="How far from the best, paired by document; null for the best.")


class CheckpointView(BaseModel):
    step: str
    global_step: int
    epoch: float
    train_loss: float | None
    size: int
    attempt: int
    created_at: str
    removed_at: str | None = Field(description="When its files were given up; there are none then.")
    files: list[FileView]
    metrics: dict[str, float | None] = Field(description="Each measure's value; GET /jobs/{id}/metrics has the rest.")
    pareto: bool | None = Field(description="Whether it is on its step's front; null where gain or drift was not measured.")
    rank: RankView | None = Field(default=None, description="Where rank_by asks for it, and the measure has a value.")


class FrontView(BaseModel):
    """A checkpoint on its step's front: no other gains as much with as little drift."""

    step: str
    global_step: int
    gain: float = Field(description="Cross-entropy of the base − the checkpoint's, in bits per token of the task's text.")
    drift: float = Field(description="kl_from_base in bits per token, on the anchor corpus where there is one.")
    drift_split: str


class MeasuredModel(BaseModel):
    """What a step that measures has measured, by the number that it has there."""

    job_id: str | None = Field(description="The job that made the checkpoint; null where it is a model of the models folder.")
    step: str | None
    checkpoint: int | None = Field(description="Its number of updates; null while its step is not done.")
    model: str | None = Field(description="The model, where it is no checkpoint.")


class MeasuredCheckpointView(BaseModel):
    step: str
    number: int = Field(description="Its place in the list that the step measures, from 1.")
    of: MeasuredModel
    metrics: dict[str, float | None] = Field(description="Each measure's value; GET /jobs/{id}/metrics has the rest.")
    pareto: bool | None = Field(description="Whether it is on its step's front; null where gain or drift was not measured.")
    rank: RankView | None = Field(default=None, description="Where rank_by asks for it, and the measure has a value.")


class CheckpointList(BaseModel):
    data: list[CheckpointView]
    measured: list[MeasuredCheckpointView] = Field(description="What steps that measure took, in the order of their lists.")
    front: list[FrontView] = Field(description="Gain against drift, of each step, the least drift first.")


class ArtifactView(BaseModel):
    name: str
    size: int
    sha256: str
    attempt: int
    created_at: str
    url: str


class ArtifactList(BaseModel):
    data: list[ArtifactView]


def job_view(job: Job, done: Sequence[StepResult] = ()) -> JobView:
    base = f"/jobs/{job.id}"
    parts = ("events", "metrics", "checkpoints", "artifacts", "logs", "cancel", "pause", "resume", "retry")
    return JobView(
        id=job.id,
        owner=job.owner,
        name=job.name,
        labels=job.labels,
        state=State(job.state),
        reason=job.reason,
        sentence=job.sentence,
        details=job.details,
        queue=job.queue,
        priority=job.priority,
        attempt=job.attempt,
        lost=job.lost,
        progress=job.progress,
        cancel_requested=job.cancel_requested_at is not None,
        pause_requested=job.pause_requested_at is not None,
        retries=job.retries,
        not_before=iso_or_none(job.not_before),
        created_at=iso(job.created_at),
        started_at=iso_or_none(job.started_at),
        finished_at=iso_or_none(job.finished_at),
        changed_at=iso(job.changed_at),
        spec=job.document,
        resolved=job.resolved,
        notices=[NoticeView(**notice) for notice in job.notices],
        steps=_steps(job, done),
        links={"self": base, **{part: f"{base}/{part}" for part in parts}},
    )


# How a job's view ends without a place: places change without the job's version, so they are put in when one is asked for.
_NO_PLACE = b'"position":null,"estimated_start":null,"place_unknown":null}'


def with_place(body: bytes, place: Place) -> bytes:
    """A rendered job with where it stands."""
    if not body.endswith(_NO_PLACE):
        raise ValueError("A job's view ends with its place.")
    said = {"position": place.position, "estimated_start": iso_or_none(place.starts_at), "place_unknown": place.why_unknown}
    return body.removesuffix(_NO_PLACE) + orjson.dumps(said)[1:]


def event_view(event: Event) -> EventView:
    return EventView(
        number=event.number,
        at=iso(event.at),
        attempt=event.attempt,
        kind=event.kind,
        message=event.message,
        data=event.data,
    )


def checkpoint_view(
    checkpoint: Checkpoint, metrics: dict[str, float | None], pareto: bool | None, rank: RankView | None
) -> CheckpointView:
    folder = f"{checkpoint.step}/checkpoint-{checkpoint.global_step}"
    return CheckpointView(
        step=checkpoint.step,
        global_step=checkpoint.global_step,
        epoch=checkpoint.epoch,
        train_loss=checkpoint.train_loss,
        size=checkpoint.size,
        attempt=checkpoint.attempt,
        created_at=iso(checkpoint.created_at),
        removed_at=iso_or_none(checkpoint.removed_at),
        files=[
            FileView(
                name=file["name"],
                size=file["size"],
                sha256=file["sha256"],
                url=artifact_url(checkpoint.job_id, f"{folder}/{file['name']}"),
            )
            for file in checkpoint.manifest["files"]
            if checkpoint.removed_at is None
        ],
        metrics=metrics,
        pareto=pareto,
        rank=rank,
    )


def artifact_view(artifact: Artifact) -> ArtifactView:
    return ArtifactView(
        name=artifact.name,
        size=artifact.size,
        sha256=artifact.sha256,
        attempt=artifact.attempt,
        created_at=iso(artifact.created_at),
        url=artifact_url(artifact.job_id, artifact.name),
    )


def measure_view(metric: Metric) -> dict[str, Any]:
    """A plain dictionary: there may be thousands of these."""
    measure = BY_NAME.get(measure_of(metric.measure))
    return {
        "value": metric.value,
        "unit": metric.unit,
        "on": measure and measure.on,
        "standard_error": metric.standard_error,
        "interval": metric.interval,
        "interval_reason": metric.interval_reason,
        "n_documents": metric.n_documents,
        "n_tokens": metric.n_tokens,
        "estimator": metric.estimator,
        "versus_base": metric.versus_base,
        "versus_best": metric.versus_best,
        "versus_leader": metric.versus_leader,
    }


def alert_test_view(test: AlertTest) -> dict[str, Any]:
    return {
        "alert": test.alert,
        "fires": test.fires,
        "statistic": test.statistic,
        "bound": test.bound,
        "threshold": test.threshold,
        "unit": test.unit,
        "k": test.k,
        "alpha": test.alpha,
        "n_documents": test.n_documents,
        "reason": test.reason,
        "suggests": ALERTS[test.alert].suggests if test.fires and test.alert in ALERTS else None,
    }


def artifact_url(job_id: str, name: str) -> str:
    return f"/jobs/{job_id}/artifacts/{quote(name)}"


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def iso_or_none(seconds: float | None) -> str | None:
    return None if seconds is None else iso(seconds)


def _steps(job: Job, done: Sequence[StepResult]) -> list[StepView]:
    results = {result.name: result for result in done}
    return [_step(step, results.get(step["name"])) for step in job.resolved["steps"]]


def _step(step: dict[str, Any], result: StepResult | None) -> StepView:
    return StepView(
        name=step["name"],
        do=step.get("do", "train"),
        stage=step["finetuning"]["stage"],
        finetuning_type=step["finetuning"]["finetuning_type"],
        finished_at=iso(result.finished_at) if result else None,
        output=result.output if result else None,
    )
