"""What the service answers, field by field. Times are ISO 8601 in UTC.

Written from the service's OpenAPI document by `python -m docs.generate_client`; do not edit it here.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict


class Progress(TypedDict, total=False):
    """Where a running job is. A value that is not known yet is null."""

    step: str
    position: int  # of the step among `steps`, from 1
    steps: int
    global_step: int
    max_steps: int
    epoch: float
    loss: float
    tokens_per_second: float
    eta_seconds: float
    phase: str
    held: str  # why no worker takes it now


class LogLines(TypedDict):
    """Lines of a log, whole ones, and which attempt wrote them."""

    attempt: int
    text: str


class Points(TypedDict):
    """Points of a training series as columns: `step` counts the updates."""

    step: list[int]
    value: list[float]


class Grown(TypedDict):
    """By how much the series of a pipeline's step have grown, by their names."""

    pipeline_step: str
    series: dict[str, Points]


class Job(TypedDict):
    """A job: what was asked for, and how far it is."""

    id: str
    owner: str  # Whose key made it.
    name: str | None
    labels: dict[str, str]
    state: Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]
    reason: str | None  # Why it failed, for programs.
    sentence: str | None  # Why it ended, for people.
    details: dict[str, Any] | None  # Where it failed: file, row, column, as far as they are known.
    queue: str
    priority: int
    attempt: int  # How many attempts have begun.
    lost: int  # How many attempts lost their worker.
    progress: Progress | None
    cancel_requested: bool
    pause_requested: bool  # It runs still, and will be paused.
    retries: int  # How often it was tried again after a failure that may pass.
    not_before: str | None  # No attempt begins sooner: what may pass is given time.
    created_at: str
    started_at: str | None
    finished_at: str | None
    changed_at: str
    spec: dict[str, Any]  # The document as it came.
    resolved: dict[str, Any]  # The job as it runs: every argument of every step.
    notices: list[Notice]
    steps: list[Step]
    links: dict[str, str]
    position: int | None  # Of a job that waits its turn: 1 goes next in its queue. Only where one job is asked for.
    estimated_start: str | None  # When it may begin, from the progress of those that run.
    place_unknown: str | None  # Why position or estimated_start is not known.


class Notice(TypedDict):
    pointer: str
    detail: str


class Step(TypedDict):
    name: str
    do: str  # train, measure, inspect or evaluate.
    stage: str
    finetuning_type: str
    finished_at: str | None  # Null while the step is still to do.
    output: str | None  # What @name stands for in later steps.


class DryRun(TypedDict):
    """A job that would be accepted, and what it would do."""

    resolved: dict[str, Any]
    notices: list[Notice]
    steps: list[PlannedStep]


class PlannedStep(TypedDict):
    """A step's numbers, as far as they are known without a tokenizer or a model."""

    name: str
    do: str
    stage: str
    finetuning_type: str
    rows: int | None  # The rows that are read: of each data set the first max_samples.
    training_rows: int | None
    validation_rows: int | None
    measured_rows: int | None  # The rows of the text of a step that measures, the questions of one that evaluates.
    updates: int | None  # Optimiser steps.
    parameters: int | None  # The model's, without adapters.
    trainable_parameters: int | None
    beside: dict[str, int]  # Parameters of the whole models that are asked beside it, ref and reward, where they are known.
    memory: Memory | None  # Of one GPU at its peak, estimated; null where it is not known.
    why_unknown: dict[str, str]  # For each number that is null, why it is not known.


class Memory(TypedDict):
    """Bytes, part by part; with texts of cutoff_len tokens."""

    weights: int
    beside: int  # The weights of the models that are asked beside it: a reference, a reward model.
    gradients: int
    optimiser: int
    activations: int
    logits: int
    context: int  # A process that uses CUDA at all.
    peak: int  # All of it.
    least: int  # What it takes with texts of any length; a job is refused where no GPU has that.


class Event(TypedDict):
    number: int  # Counts a job's events without gaps.
    at: str
    attempt: int
    kind: str
    message: str
    data: dict[str, Any]


class MetricsView(TypedDict):
    job_id: str
    data: list[Measured]


class Measured(TypedDict):
    """The measures of one checkpoint on one text, the alerts that fired, and every test that was made."""

    step: str
    checkpoint: int | Literal["base"]  # A number of updates; in a step that measures, of the list's places.
    of: MeasuredModel | None  # In a step that measures or predicts, which checkpoint this is.
    split: str
    measures: dict[str, Value]
    alerts: list[AlertTest]
    tests: list[AlertTest]


class MeasuredModel(TypedDict):
    """What a step that measures has measured, by the number that it has there."""

    job_id: str | None  # The job that made the checkpoint; null where it is a model of the models folder.
    step: str | None
    checkpoint: int | None  # Its number of updates; null while its step is not done.
    model: str | None  # The model, where it is no checkpoint.


class Value(TypedDict):
    """One measure, with its interval where something was sampled. `versus_*` are differences, paired by document."""

    value: float | None
    unit: str
    on: str | None  # What it was taken on; null of a measure that this service does not know.
    standard_error: float | None
    interval: list[float] | None
    interval_reason: str | None
    n_documents: int
    n_tokens: int
    estimator: str
    versus_base: dict[str, Any] | None
    versus_best: dict[str, Any] | None
    versus_leader: dict[str, Any] | None  # From the checkpoint that is best by this measure.


class AlertTest(TypedDict):
    """One alert's test of one checkpoint: it fires where the bound passes the threshold."""

    alert: str
    fires: bool | None  # Null where it could not be tested; `reason` says why.
    statistic: float | None
    bound: float | None  # The statistic's one-sided bound at alpha.
    threshold: float
    unit: str
    k: int  # This is the step's k-th measured checkpoint.
    alpha: float  # Spent on this test: 0.01 · 6/(π²k²), in all at most 0.01 for each alert and step.
    n_documents: int
    reason: str | None
    suggests: str | None


class Series(TypedDict):
    """A training series as columns: `step` counts the updates within `pipeline_step`."""

    name: str
    pipeline_step: str
    step: list[int]
    value: list[float]


class SeriesNames(TypedDict):
    """The series there are, where none is named."""

    job_id: str
    data: list[StepSeries]


class StepSeries(TypedDict):
    pipeline_step: str
    names: list[str]


class Surprisal(TypedDict):
    job_id: str
    data: list[ShownStep]


class ShownStep(TypedDict):
    step: str
    split: str
    texts: list[ShownText]
    checkpoints: list[ShownBits]  # The base first.


class ShownText(TypedDict):
    tokens: list[str]  # Each token by itself; a part of a letter is shown as a replacement character.
    scored: list[int]  # The places in tokens of those that are predicted and scored, from 0.


class ShownBits(TypedDict):
    checkpoint: int | Literal["base"]
    bits: list[list[float | None]]  # Of each text, −lg p of each scored token; null where it is no number.


class Versus(TypedDict):
    one: Side
    other: Side
    paired: bool  # Whether both were measured on the very same tokens.
    why_not: str | None
    data: list[PairedDifference]


class Side(TypedDict):
    job_id: str
    step: str
    checkpoint: int | Literal["base"]
    split: str


class PairedDifference(TypedDict):
    """This job's checkpoint less the other's; below 0 this one has less of it."""

    measure: str
    unit: str
    value: float | None
    standard_error: float | None
    interval: list[float] | None  # 95 %, clustered by document.
    n_documents: int
    n_tokens: int


class CheckpointList(TypedDict):
    data: list[Checkpoint]
    measured: list[dict[str, Any]]  # What steps that measure took, in the order of their lists.
    front: list[FrontPoint]  # Gain against drift, of each step, the least drift first.


class Checkpoint(TypedDict):
    step: str
    global_step: int
    epoch: float
    train_loss: float | None
    size: int
    attempt: int
    created_at: str
    removed_at: str | None  # When its files were given up; there are none then.
    files: list[CheckpointFile]
    metrics: dict[str, float | None]  # Each measure's value; GET /jobs/{id}/metrics has the rest.
    pareto: bool | None  # Whether it is on its step's front; null where gain or drift was not measured.
    rank: Rank | None  # Where rank_by asks for it, and the measure has a value.


class CheckpointFile(TypedDict):
    name: str
    size: int
    sha256: str
    url: str


class Rank(TypedDict):
    """A checkpoint's place by a measure: 1 is the one to choose, the earliest within one standard error of the best."""

    place: int
    measure: str
    split: str
    value: float
    within_one_standard_error: bool
    versus_leader: dict[str, Any] | None  # How far from the best, paired by document; null for the best.


class FrontPoint(TypedDict):
    """A checkpoint on its step's front: no other gains as much with as little drift."""

    step: str
    global_step: int
    gain: float  # Cross-entropy of the base − the checkpoint's, in bits per token of the task's text.
    drift: float  # kl_from_base in bits per token, on the anchor corpus where there is one.
    drift_split: str


class Artifact(TypedDict):
    name: str
    size: int
    sha256: str
    attempt: int
    created_at: str
    url: str


class Dataset(TypedDict):
    """A data set as its entry in dataset_info.json has it. Where it cannot be used, `trouble` says why."""

    name: str
    formatting: str | None
    holds: str | None  # texts, conversations, pairs or labels.
    files: list[str]
    rows: int | None  # Null where only a worker can count them: of what was uploaded, until it has.
    trouble: str | None
    version: str | None  # The newest of one that was uploaded; null of the operator's.


class DatasetVersion(TypedDict):
    """A version of an uploaded data set. `name@version` is always this one."""

    name: str
    version: str  # Made of the content: the same file read in the same way has the same.
    file: str  # The file's id: GET /v1/files/{file}, and what a job's resolved form calls the data set.
    file_name: str
    entry: dict[str, Any]  # How its rows read, as in dataset_info.json.
    rows: int | None  # Null until a worker has counted them, of a large file.
    size: int
    sha256: str
    created_at: str
    url: str  # Where its bytes are.


class Upload(TypedDict):
    id: str
    name: str
    size: int
    offset: int  # How much has come: the next piece begins there.
    url: str


class Validation(TypedDict):
    name: str
    rows: int  # That were read.
    is_whole: bool  # Whether all were: it stops where there are too many faults.
    faults: list[Fault]


class Fault(TypedDict):
    """One thing that is wrong. What is null is not known, or not to blame."""

    file: str
    row: int | None  # From 1: lines as an editor numbers them; of CSV without the line of names.
    column: str | None
    line: int | None
    detail: str


class FirstRows(TypedDict):
    data: list[DataRow]


class DataRow(TypedDict):
    file: str
    row: int  # From 1: lines as an editor numbers them; of CSV without the line of names.
    values: dict[str, Any]


class ModelNames(TypedDict):
    data: list[str]  # What model_name_or_path may be, of the operator's folder.


class Overview(TypedDict):
    """One moment, of all owners together."""

    queues: list[Queue]
    ended: dict[str, int]  # Of the last hour, by state.
    reasons: dict[str, int]  # Why jobs failed in the last hour.
    tokens_per_second: float  # Of all running jobs that have said how fast they train.
    workers: dict[str, int]  # By status, of the last week.
    slots: int  # Places for jobs on workers that are up or draining.
    slots_used: float  # How many of them are taken; a part of one counts as that part.
    slots_in_trouble: int


class Queue(TypedDict):
    """The jobs of one queue that have not ended."""

    queue: str
    queued: int
    running: int
    paused: int
    oldest_queued_seconds: float | None  # How long the one that came first has waited; null where none waits.


class Worker(TypedDict):
    name: str
    # up, draining (takes no new jobs), stopped, or lost (not heard of within its lease).
    status: Literal["up", "draining", "stopped", "lost"]
    healthy: bool  # Whether it is there and no slot of it is in trouble.
    draining: bool
    host: str
    pid: int
    software: str
    spec_versions: list[int]  # The versions of the language of jobs that it reads.
    queues: list[str]
    extras: list[str] | None  # What is installed there beside what every worker has; null: it did not say.
    sharing: bool  # Whether jobs may share its GPUs.
    reserved_for: str | None  # The job that its GPUs are kept for, as they come free.
    started_at: str
    heartbeat_at: str
    stopped_at: str | None
    slots: list[Slot]


class Slot(TypedDict):
    """A place for a job. What is read of a GPU is null where its host has no NVML."""

    position: int
    kind: str  # gpu or cpu.
    gpu: str | None  # The GPU's UUID.
    name: str | None
    memory_bytes: int | None
    memory_used_bytes: int | None
    temperature_celsius: float | None
    utilization_percent: float | None
    trouble: str | None  # Why no job is put here now.
    used: float  # How much of it is taken: 1 is all.
    jobs: list[SlotJob]


class SlotJob(TypedDict):
    job: str
    fraction: float  # Of the slot.


class Key(TypedDict):
    id: str  # It stands in the key, too, and may be seen.
    owner: str
    scopes: list[Literal["read", "submit", "admin"]]
    name: str | None
    created_at: str
    expires_at: str | None
    last_used_at: str | None  # To the minute.
    revoked_at: str | None


class ShownKey(TypedDict):
    """The only answer that has the key itself."""

    id: str  # It stands in the key, too, and may be seen.
    owner: str
    scopes: list[Literal["read", "submit", "admin"]]
    name: str | None
    created_at: str
    expires_at: str | None
    last_used_at: str | None  # To the minute.
    revoked_at: str | None
    key: str


class Owner(TypedDict):
    owner: str
    quota: Quota  # With the settings' for what was not set; null: any.
    usage: Usage


class Quota(TypedDict):
    """None: as much as there is."""

    queued: int | None  # Jobs that wait, paused ones among them.
    running: int | None  # Jobs that run.
    gpu_hours: float | None  # Hours of whole GPUs in a calendar month, UTC.


class Usage(TypedDict):
    """What counts against the quota now."""

    queued: int
    running: int
    gpu_hours: float  # Used in this calendar month, UTC.
    gpu_hours_held: float  # What the jobs that run may use besides: max_seconds, or an hour.


class AuditEntry(TypedDict):
    id: int
    at: str
    owner: str  # Of the key.
    key: str  # The key's id; operator for FINEBITS_API_KEY, open where the door is, command for the CLI.
    action: str  # The operation, by its id in this document.
    subject: str  # What it was done to.
    client: str  # The address that the request came from.
    request_id: str


class Refusal(TypedDict):
    """Requests of one day that were alike and were refused alike."""

    id: int
    first_at: str
    last_at: str
    times: int
    owner: str  # Of the key; empty where it is none of the service's.
    key: str  # The key's id; of one that was revoked or has expired, too.
    action: str  # The operation that was asked for, by its id in this document.
    client: str  # The address; empty where they came from more than are told apart.
    status: int
    code: str  # Of the problem that it was answered with.
    subject: str  # What it would have been done to, of the last.
    request_id: str  # Of the last.


class Webhook(TypedDict):
    id: str
    url: str  # With stars for what may be a credential: values of a query, long words of a path.
    events: list[str]
    description: str | None
    enabled: bool
    disabled_at: str | None
    disabled_why: str | None
    created_at: str
    earlier_secret_until: str | None  # Until when the secret before signs too, after a rotation.


class NewWebhook(TypedDict):
    id: str
    url: str  # With stars for what may be a credential: values of a query, long words of a path.
    events: list[str]
    description: str | None
    enabled: bool
    disabled_at: str | None
    disabled_why: str | None
    created_at: str
    earlier_secret_until: str | None  # Until when the secret before signs too, after a rotation.
    secret: str  # What signs the messages. Shown this once.


class Delivery(TypedDict):
    """A message to a webhook. `id` is what the receiver sees as webhook-id, the same at every try."""

    id: str
    event: str
    status: str  # pending, delivered, or given_up (after a day, or when the webhook was disabled).
    data: dict[str, Any]
    created_at: str
    delivered_at: str | None
    next_at: str | None  # When it is tried next, or again where it is being tried now.
    tries: list[Try]  # Oldest first; of very many the first and the last.


class Try(TypedDict):
    at: str
    status: int | None  # Of the receiver's answer; null where there was none.
    detail: str
    seconds: float


class Measure(TypedDict):
    """One row: `GET /measures` serves it as it stands, and the reference page is made of it."""

    name: str
    unit: str
    definition: str
    source: str
    computed_on: str
    row: int | None
    aliases: list[str]
    notebook: NotebookPlace | None
    estimator: str
    function: str | None
    on: (
        Literal[
            "tokens",
            "prompts",
            "systems",
            "hidden",
            "attention",
            "adapter",
            "weights",
            "gradient",
            "membership",
            "generations",
            "task",
            "data",
            "series",
            "rows",
            "predictions",
            "questions",
        ]
        | None
    )
    in_jobs: bool
    default: bool
    better: Literal["lower", "higher"] | None
    formula: str | None  # In LaTeX; null of a measure that words say better.


class NotebookPlace(TypedDict):
    """What the notebook that this project began with wrote, and whether it was right."""

    formula: str
    verdict: Literal["correct", "incomplete", "wrong", "named only", "duplicate"]
    why: str
