"""Reads what is left when all is over, and says what is wrong with it. It believes nothing but the database and the files.

A check is one function that is given the story of one job and yields a sentence for each thing that may not be.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.specs.job import ResolvedStep
from service.store import jobs
from service.store.session import Database
from service.store.states import ENDED, State
from service.store.tables import Artifact, Attempt, Checkpoint, Event, Job, Metric, Point, Slot, StepResult, TakenSlot
from tests.chaos import stub_work
from tests.chaos.clients import KEY, REAL
from worker import checkpoints

# What an event says of the state: from which, to which.
MOVES: dict[str, tuple[tuple[str | None, ...], str]] = {
    "submitted": ((None,), "queued"),
    "started": (("queued",), "running"),
    "released": (("running",), "queued"),
    "lease_lost": (("running",), "queued"),
    "retry_scheduled": (("running",), "queued"),
    "paused": (("queued", "running"), "paused"),
    "resume_requested": (("paused",), "queued"),
    "retried": (("failed", "cancelled"), "queued"),
    "succeeded": (("running",), "succeeded"),
    "failed": (("running",), "failed"),
    "cancelled": (("queued", "paused", "running"), "cancelled"),
}
# What only an attempt that holds the job may tell. ("notice" is told at submission too.)
OF_ATTEMPTS = {"step_started", "resumed", "checkpoint_saved", "measured", "step_finished"}


@dataclass(frozen=True)
class Story:
    """All that is known of one job."""

    job: Job
    events: list[Event]
    attempts: list[Attempt]
    points: list[Point]
    checkpoints: list[Checkpoint]
    artifacts: list[Artifact]
    results: list[StepResult]
    metrics: list[Metric]
    folder: Path  # where artifacts lie
    is_wished_over: bool  # its client asked for its end
    may_fail: frozenset[str]  # reasons

    @cached_property
    def steps(self) -> list[ResolvedStep]:
        return list(jobs.resolved(self.job).steps)

    @cached_property
    def state_before(self) -> dict[int, str | None]:
        """The state in which each event found the job, by the event's number."""
        state, before = None, {}
        for event in self.events:
            before[event.number] = state
            state = MOVES[event.kind][1] if event.kind in MOVES else state
        return before

    @cached_property
    def window(self) -> dict[int, tuple[float, float]]:
        """When each attempt held the job."""
        return {attempt.number: (attempt.started_at, attempt.finished_at or float("inf")) for attempt in self.attempts}

    def states_of(self, step: ResolvedStep) -> list[stub_work.State]:
        return stub_work.states(step.training.seed, step.name, step.training.max_steps)


Complaints = Iterator[str]


def violations(
    database: Database,
    artifacts: Path,
    acknowledged: Mapping[str, str],
    wished: set[str] = frozenset(),  # type: ignore[assignment]
    may_fail: frozenset[str] = frozenset(),
) -> list[str]:
    """Everything that is wrong. `acknowledged`: Idempotency-Key to job; `wished`: jobs whose end was asked for."""
    with database.reading() as session:
        found = list(one_job_a_key(session, acknowledged))
        for job in session.scalars(select(Job).order_by(Job.created_at)).all():
            story = _story(session, job, artifacts, job.id in wished, may_fail)
            for check in OF_ALL if job.queue == REAL else (*OF_ALL, *OF_KNOWN_WORK):
                found += [f"{job.id}: {check.__name__}: {complaint}" for complaint in check(story)]
        found += real_jobs_learned_the_same(session)
        found += slots_are_held_by_what_runs(session)
    return found


def one_job_a_key(session: Session, acknowledged: Mapping[str, str]) -> Complaints:
    """What was acknowledged is there, and what was asked for twice is there once."""
    made = [(labels.get(KEY), job_id) for labels, job_id in session.execute(select(Job.labels, Job.id)).all()]
    counted = Counter(key for key, _ in made)
    for key, job_id in acknowledged.items():
        if (key, job_id) not in made:
            yield f"{job_id} was acknowledged for key {key} and is not there"
        if counted[key] != 1:
            yield f"key {key} made {counted[key]} jobs"


def ended_once(story: Story) -> Complaints:
    if story.job.state not in ENDED:
        yield f"it never ended: {story.job.state}"
    ends = [event.kind for event in story.events if event.kind in (*ENDED, "retried")]
    if ends[-1:] != [story.job.state] or any(kind != "retried" for kind in ends[1::2]):
        yield f"it is {story.job.state}, and its ends were {ends}"
    if story.job.state == "cancelled" and not story.is_wished_over:
        yield "it was cancelled and nobody asked"
    if story.job.state == "failed" and story.job.reason not in story.may_fail:
        yield f"it failed: {story.job.reason}, {story.job.sentence}"


def events_are_in_order(story: Story) -> Complaints:
    numbers = [event.number for event in story.events]
    if numbers != list(range(1, story.job.event_count + 1)):
        yield f"{story.job.event_count} events, and their numbers are {numbers}"
    times = [event.at for event in story.events]
    if times != sorted(times):
        yield "its events go back in time"


def states_follow_the_table(story: Story) -> Complaints:
    for event in story.events:
        before = story.state_before[event.number]
        if event.kind in MOVES and before not in MOVES[event.kind][0]:
            yield f"event {event.number}, {event.kind}, while it was {before}"
        if _is_of_an_attempt(event) and before != "running":
            yield f"event {event.number}, {event.kind} of attempt {event.data.get('attempt')}, while it was {before}"


def attempts_write_one_at_a_time(story: Story) -> Complaints:
    started = [event.attempt for event in story.events if event.kind == "started"]
    if started != [attempt.number for attempt in story.attempts] or started != list(range(1, story.job.attempt + 1)):
        yield f"attempt {story.job.attempt}; began {started}; kept {[attempt.number for attempt in story.attempts]}"
    for attempt in story.attempts:
        if attempt.outcome is None or attempt.finished_at is None:
            yield f"attempt {attempt.number} never ended"
    for one, next_one in zip(story.attempts, story.attempts[1:], strict=False):
        if (one.finished_at or 0) > next_one.started_at:
            yield f"attempt {next_one.number} began before {one.number} had ended"
    for event in story.events:
        writer = event.data.get("attempt")
        if writer is not None and writer != event.attempt:
            yield f"event {event.number}, {event.kind}: attempt {writer} wrote it while {event.attempt} held the job"


def rows_lie_between_claim_and_end(story: Story) -> Complaints:
    rows = [(f"checkpoint {row.step}/{row.global_step}", row.attempt, row.created_at) for row in story.checkpoints]
    rows += [(f"artifact {row.name}", row.attempt, row.created_at) for row in story.artifacts]
    rows += [(f"step {row.name}", row.attempt, row.finished_at) for row in story.results]
    for what, attempt, at in rows:
        begin, end = story.window.get(attempt, (0.0, 0.0))
        if not begin <= at <= end:
            yield f"{what}: attempt {attempt} wrote it at {at}, and held the job from {begin} to {end}"


def nothing_is_told_twice(story: Story) -> Complaints:
    """A message that was written by a commit whose answer was lost is not written again."""
    told = Counter(
        (event.attempt, event.kind, event.data.get("step"), event.data.get("update", event.data.get("global_step")))
        for event in story.events
        if _is_of_an_attempt(event) and event.kind != "step_finished"
    )
    for (attempt, kind, step, update), n in told.items():
        if n > 1:
            yield f"attempt {attempt} told {n} times of {kind} {step} {update}"


def steps_are_neither_lost_nor_doubled(story: Story) -> Complaints:
    """Each series is the one that an undisturbed run makes, as far as the job came."""
    for step in story.steps:
        curve = {point.global_step: point.value for point in story.points if (point.step, point.name) == (step.name, "loss")}
        states = story.states_of(step)
        if sorted(curve) != list(range(1, len(curve) + 1)):
            yield f"{step.name}: points are missing: {sorted(curve)}"
        wrong = [update for update, value in curve.items() if update >= len(states) or value != states[update].loss]
        if wrong:
            yield f"{step.name}: the losses of updates {wrong} are not those of an undisturbed run"
        if story.job.state == "succeeded" and len(curve) != step.training.max_steps:
            yield f"{step.name}: {len(curve)} points of {step.training.max_steps}"


def points_are_of_the_attempt_that_came_last(story: Story) -> Complaints:
    """Of a job that went its whole way: from where an attempt went on, all that follows is its own or a later one's."""
    for step in story.steps if story.job.state == "succeeded" else ():
        by = {p.global_step: int(p.value) for p in story.points if (p.step, p.name) == (step.name, "attempt")}
        writers = [by[update] for update in sorted(by)]
        if writers != sorted(writers):
            yield f"{step.name}: its points were written by the attempts {writers}"


def checkpoints_are_whole(story: Story) -> Complaints:
    for row in story.checkpoints:
        folder = story.folder / row.path
        step = next(step for step in story.steps if step.name == row.step)
        expected = story.states_of(step)[row.global_step]
        if not checkpoints.is_complete(folder):
            yield f"checkpoint {row.path} is torn"
        elif json.loads((folder / stub_work.STATE).read_text())["digest"] != expected.digest:
            yield f"checkpoint {row.path} holds another state"
    measured = {(row.step, row.global_step): row.value for row in story.metrics}
    for step in story.steps if story.job.state == "succeeded" else ():
        due = {*range(step.training.save_steps, step.training.max_steps + 1, step.training.save_steps), step.training.max_steps}
        saved = {row.global_step for row in story.checkpoints if row.step == step.name}
        if not due <= saved:
            yield f"{step.name}: checkpoints {sorted(due - saved)} are missing"
        states = story.states_of(step)
        wrong = [update for update in due if measured.get((step.name, update)) != states[update].loss]
        if wrong:
            yield f"{step.name}: the measures of {wrong} are missing or another's"


def artifacts_are_what_is_said(story: Story) -> Complaints:
    for row in story.artifacts:
        file = story.folder / row.path
        if not file.is_file() or checkpoints.describe(file.parent, file)["sha256"] != row.sha256:
            yield f"artifact {row.name} is not what was stored"
    names = {row.name for row in story.artifacts}
    for position, step in enumerate(story.steps if story.job.state == "succeeded" else ()):
        if f"{step.name}/{stub_work.CURVE}" not in names:
            yield f"{step.name} has no curve"
        if [row.position for row in story.results if row.name == step.name] != [position]:
            yield f"{step.name} was not done, and the job succeeded"


def slots_are_held_by_what_runs(session: Session) -> Complaints:
    """A slot counts what is taken of it, and nothing that has ended takes any."""
    over = select(TakenSlot.job_id).join(Job, Job.id == TakenSlot.job_id).where(Job.state != State.RUNNING)
    for job_id in session.scalars(over):
        yield f"{job_id}: its slot is still taken, and it does not run"
    taken = func.coalesce(func.sum(TakenSlot.permille), 0)
    here = (TakenSlot.worker == Slot.worker) & (TakenSlot.position == Slot.position)
    counted = (
        select(Slot.worker, Slot.position, Slot.used_permille, taken)
        .outerjoin(TakenSlot, here)
        .group_by(Slot.worker, Slot.position)
    )
    for worker, position, used, held in session.execute(counted):
        if used != held:
            yield f"slot {position} of {worker} counts {used} thousandths as used, and {held} are taken"


def real_jobs_learned_the_same(session: Session) -> Complaints:
    """Of jobs that really train nobody knows the numbers beforehand; but all were asked for the same."""
    done = list(session.scalars(select(Job.id).where(Job.queue == REAL, Job.state == "succeeded")).all())
    curves = {}
    for job_id in done:
        points = session.scalars(select(Point).where(Point.job_id == job_id, Point.name == "loss")).all()
        measured = session.scalars(select(Metric).where(Metric.job_id == job_id, Metric.measure == "cross_entropy")).all()
        curves[job_id] = {("loss", point.global_step): point.value for point in points}
        curves[job_id] |= {("cross_entropy", row.global_step): row.value or math.nan for row in measured}
    for job_id in done[1:]:
        one, other = curves[done[0]], curves[job_id]
        if one.keys() != other.keys():
            yield f"{job_id} has not the points of {done[0]}: {sorted(one.keys() ^ other.keys())}"
        elif not all(math.isclose(one[at], other[at], rel_tol=1e-6) for at in one):
            yield f"{job_id} learned otherwise than {done[0]}"


OF_ALL: tuple[Callable[[Story], Complaints], ...] = (
    ended_once,
    events_are_in_order,
    states_follow_the_table,
    attempts_write_one_at_a_time,
    rows_lie_between_claim_and_end,
)
OF_KNOWN_WORK: tuple[Callable[[Story], Complaints], ...] = (
    nothing_is_told_twice,
    steps_are_neither_lost_nor_doubled,
    points_are_of_the_attempt_that_came_last,
    checkpoints_are_whole,
    artifacts_are_what_is_said,
)


def _is_of_an_attempt(event: Event) -> bool:
    return event.kind in OF_ATTEMPTS or "attempt" in event.data


def _story(session: Session, job: Job, folder: Path, is_wished_over: bool, may_fail: frozenset[str]) -> Story:
    def rows(table: type, *order: str) -> list:  # type: ignore[type-arg]
        return list(
            session.scalars(select(table).where(table.job_id == job.id).order_by(*(getattr(table, name) for name in order)))
        )

    return Story(
        job=job,
        events=rows(Event, "number"),
        attempts=rows(Attempt, "number"),
        points=rows(Point, "global_step"),
        checkpoints=rows(Checkpoint, "global_step"),
        artifacts=rows(Artifact, "name"),
        results=rows(StepResult, "position"),
        metrics=rows(Metric, "global_step"),
        folder=folder,
        is_wished_over=is_wished_over,
        may_fail=may_fail,
    )
