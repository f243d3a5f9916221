"""The life of jobs as a state machine: any order of verbs by anybody, compared with a model after each."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from service.specs.changes import JobChanges
from service.specs.reasons import Reason
from service.store import jobs, leases, limits, metrics, wishes
from service.store.clock import now
from service.store.errors import LeaseLost, StateConflict
from service.store.leases import Claim, Wish
from service.store.session import Database
from service.store.states import ENDED, TRANSITIONS, State
from service.store.tables import Attempt, Event, Job, Point
from tests.databases import emptied, migrated
from tests.service.store.clocks import lever
from tests.service.store.stored import a_document, a_read_job

# What each event says of the state that the job then is in; the others leave it where it is.
STATE_AFTER = {
    "submitted": State.QUEUED,
    "started": State.RUNNING,
    "released": State.QUEUED,
    "lease_lost": State.QUEUED,
    "retry_scheduled": State.QUEUED,
    "batch_halved": State.QUEUED,
    "paused": State.PAUSED,
    "resume_requested": State.QUEUED,
    "retried": State.QUEUED,
    "succeeded": State.SUCCEEDED,
    "failed": State.FAILED,
    "cancelled": State.CANCELLED,
}

RETRY_SECONDS = 600.0  # from five minutes up to sixteen hours: never in a test's own time, and always within a day
DAY = 86_400.0
HALF_A_DAY = DAY / 2

STOPS: dict[str, Callable[[Session, Claim], object]] = {
    "succeed": leases.succeed,
    "fail": lambda session, held: leases.fail(session, held, Reason.BAD_ROW, "Row 3 has no text."),
    "fail of what may pass": lambda session, held: leases.fail(
        session, held, Reason.OUT_OF_DISK, "The disk is full.", retry_seconds=RETRY_SECONDS
    ),
    "run out of memory": lambda session, held: leases.fail(session, held, Reason.OUT_OF_MEMORY, "Not enough."),
    "give back": lambda session, held: leases.give_back(session, held, "Draining."),
    "lose": lambda session, held: leases.lose(session, held, Reason.KILLED, "Its process was killed.", RETRY_SECONDS),
}


@dataclass
class Modelled:
    """A job as it should be."""

    owner: str
    priority: int
    max_lost: int
    max_retries: int
    halves: bool
    has_deadline: bool
    has_max_seconds: bool
    state: State = State.QUEUED
    attempt: int = 0
    holder: Claim | None = None
    expired: bool = False
    cancelling: bool = False
    pausing: bool = False
    late: bool = False  # its deadline has passed
    spent: bool = False  # it ran for as long as it may
    lost: int = 0
    retries: int = 0
    batch: int = 8
    is_scheduled: bool = False  # a moment is set before which no attempt begins
    waits: bool = False  # and it has not come
    progress: dict[str, Any] | None = None
    points: dict[int, float] = field(default_factory=dict)

    def leave(self, state: State) -> None:
        self.state, self.holder, self.expired = state, None, False
        self.pausing = self.is_scheduled = self.waits = False

    def stop(self, later: bool = False) -> None:
        """Its attempt is over, and has no end of its own."""
        if self.cancelling:
            self.leave(State.CANCELLED)
        elif self.late or self.spent:
            self.leave(State.FAILED)
        elif self.pausing:
            self.leave(State.PAUSED)
        else:
            self.leave(State.QUEUED)
            self.is_scheduled = self.waits = later

    def lose(self) -> None:
        self.lost += 1
        if self.lost > self.max_lost and not (self.cancelling or self.pausing or self.late or self.spent):
            self.leave(State.FAILED)
        else:
            self.stop(later=self.lost > 1)

    def fail_of_what_may_pass(self) -> None:
        if self.retries == self.max_retries:
            self.leave(State.FAILED)
            return
        self.retries += 1
        self.stop(later=True)

    def run_out_of_memory(self) -> None:
        if not self.halves or self.batch < 8:
            self.leave(State.FAILED)
            return
        self.stop()
        self.batch = 4 if self.state in (State.QUEUED, State.PAUSED) else 8


class Life(RuleBasedStateMachine):
    claims = Bundle("claims")

    def __init__(self, database: Database):
        super().__init__()
        self.database = database
        self.let_pass = lever(database)
        self.model: dict[str, Modelled] = {}
        self.updates = 0

    def teardown(self) -> None:
        self.database.close()

    # Clients

    @initialize()
    def begin_with_a_job(self) -> None:
        self.store("ann", priority=0, max_lost=1)

    @rule(
        owner=st.sampled_from(["ann", "bob"]),
        priority=st.integers(0, 1),
        max_lost=st.integers(0, 2),
        max_retries=st.integers(0, 2),
        halves=st.booleans(),
        has_deadline=st.booleans(),
        has_max_seconds=st.booleans(),
    )
    def submit(self, **drawn: Any) -> None:
        self.store(**drawn)

    def store(
        self,
        owner: str,
        priority: int,
        max_lost: int,
        max_retries: int = 1,
        halves: bool = False,
        has_deadline: bool = False,
        has_max_seconds: bool = False,
    ) -> None:
        with self.database.reading() as session:
            at = float(session.execute(select(now())).scalar_one())
        resources: dict[str, Any] = {"priority": priority, "max_lost": max_lost, "max_retries": max_retries}
        resources |= {"on_out_of_memory": "halve_batch"} if halves else {}
        resources |= {"deadline": datetime.fromtimestamp(at + HALF_A_DAY, UTC).isoformat()} if has_deadline else {}
        resources |= {"max_seconds": HALF_A_DAY} if has_max_seconds else {}
        document = a_document(resources=resources)
        with self.database.transaction() as session:
            job = jobs.create(session, owner, document, a_read_job(**document))
        self.model[job.id] = Modelled(owner, priority, max_lost, max_retries, halves, has_deadline, has_max_seconds)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), verb=st.sampled_from(["cancel", "pause", "resume", "retry"]))
    def wish(self, data: st.DataObject, verb: str) -> None:
        job_id, job = data.draw(st.sampled_from(list(self.model.items())))
        try:
            with self.database.transaction() as session:
                getattr(wishes, verb)(session, job.owner, job_id)
        except StateConflict:
            assert not self.may_be_wished(job, verb)
            return
        assert self.may_be_wished(job, verb)
        getattr(self, f"obey_{verb}")(job)

    def may_be_wished(self, job: Modelled, verb: str) -> bool:
        if verb == "cancel":
            return job.state not in (State.SUCCEEDED, State.FAILED)
        if verb == "retry":
            return job.state in (State.FAILED, State.CANCELLED) and not job.late
        return job.state not in ENDED and not job.cancelling

    def obey_cancel(self, job: Modelled) -> None:
        if job.state in (State.QUEUED, State.PAUSED):
            job.leave(State.CANCELLED)
        elif job.state == State.RUNNING:
            job.cancelling, job.pausing = True, False

    def obey_pause(self, job: Modelled) -> None:
        if job.state == State.QUEUED:
            job.leave(State.PAUSED)
        elif job.state == State.RUNNING:
            job.pausing = True

    def obey_resume(self, job: Modelled) -> None:
        if job.state == State.PAUSED:
            job.leave(State.QUEUED)
        job.pausing = False

    def obey_retry(self, job: Modelled) -> None:
        job.leave(State.QUEUED)
        job.lost = job.retries = 0
        job.cancelling = job.spent = False

    @precondition(lambda self: self.model)
    @rule(data=st.data(), priority=st.integers(0, 1))
    def patch(self, data: st.DataObject, priority: int) -> None:
        job_id, job = data.draw(st.sampled_from(list(self.model.items())))
        try:
            with self.database.transaction() as session:
                wishes.change(session, job.owner, job_id, JobChanges(priority=priority))
        except StateConflict:
            assert job.state in ENDED
            assert priority != job.priority
            return
        assert job.state not in ENDED or priority == job.priority
        job.priority = priority

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        job_id, job = data.draw(st.sampled_from(list(self.model.items())))
        try:
            with self.database.transaction() as session:
                wishes.delete(session, job.owner, job_id)
        except StateConflict:
            assert job.state not in ENDED
            return
        assert job.state in ENDED
        del self.model[job_id]

    # Workers

    @rule(target=claims, worker=st.sampled_from(["worker-1", "worker-2"]))
    def claim(self, worker: str) -> Any:
        with self.database.transaction() as session:
            held = leases.claim(session, ["default"], worker, 60)
        waiting = {
            job_id: job
            for job_id, job in self.model.items()
            if job.state == State.QUEUED and not (job.waits or job.late or job.spent)
        }
        if held is None:
            assert not waiting
            return multiple()
        job = waiting[held.job_id]
        assert self.rank(job) == min(map(self.rank, waiting.values()))
        job.leave(State.RUNNING)
        job.attempt, job.holder = job.attempt + 1, held
        assert held == Claim(held.job_id, job.attempt, worker)
        return held

    def rank(self, job: Modelled) -> tuple[int, int]:
        """Who goes first, but for age."""
        running = sum(other.owner == job.owner and other.state == State.RUNNING for other in self.model.values())
        return (-job.priority, running)

    @rule(held=claims, note=st.booleans())
    def renew(self, held: Claim, note: bool) -> None:
        self.updates += 1
        progress = {"global_step": self.updates} if note else None
        heard: list[Wish | None] = []
        job = self.attempted(held, lambda session: heard.append(leases.renew(session, held, 60, progress)))
        if job is not None:
            limit = Wish.LIMIT if job.late or job.spent else None
            assert heard == [Wish.CANCEL if job.cancelling else limit or (Wish.PAUSE if job.pausing else None)]
            job.expired = False
            job.progress = progress or job.progress

    @rule(held=claims, verb=st.sampled_from(list(STOPS)))
    def stop(self, held: Claim, verb: str) -> None:
        job = self.attempted(held, lambda session: STOPS[verb](session, held))
        if job is None:
            return
        if verb == "succeed":
            job.leave(State.SUCCEEDED)
        elif verb == "fail":
            job.leave(State.FAILED)
        elif verb == "fail of what may pass":
            job.fail_of_what_may_pass()
        elif verb == "run out of memory":
            job.run_out_of_memory()
        elif verb == "give back":
            job.stop()
        else:
            job.lose()

    @rule(held=claims)
    def renew_in_the_name_of_another(self, held: Claim) -> None:
        for other in (Claim(held.job_id, held.attempt, "worker-3"), Claim(held.job_id, held.attempt + 1, held.worker)):
            if held.job_id not in self.model or self.model[held.job_id].holder != other:
                assert self.attempted(other, lambda session, other=other: leases.renew(session, other, 60)) is None

    def attempted(self, held: Claim, write: Callable[[Session], object]) -> Modelled | None:
        """The job, if the write was let through, as it must be exactly for its holder; a point of the series goes with it."""
        self.updates += 1
        job = self.model.get(held.job_id)
        try:
            with self.database.transaction() as session:
                if job is not None:
                    metrics.record_points(session, held, "sft", self.updates, {"loss": held.attempt})
                write(session)
        except LeaseLost:
            assert job is None or job.holder != held, "A holder was refused."
            return None
        assert job is not None, "A zombie wrote to a job that is deleted."
        assert job.holder == held, "A zombie wrote."
        job.points[self.updates] = held.attempt
        return job

    # Time, and the sweep

    @precondition(lambda self: any(job.holder for job in self.model.values()))
    @rule(data=st.data(), noticed=st.booleans())
    def let_a_lease_run_out(self, data: st.DataObject, noticed: bool) -> None:
        job_id, job = data.draw(st.sampled_from([(job_id, job) for job_id, job in self.model.items() if job.holder]))
        with self.database.transaction() as session:
            session.execute(update(Job).where(Job.id == job_id).values(lease_until=now() - 1))
        job.expired = True
        if noticed:
            self.sweep()

    @rule()
    def let_a_day_pass(self) -> None:
        self.let_pass(DAY)
        for job in self.model.values():
            job.waits = False
            job.late = job.has_deadline
            if job.state == State.RUNNING:
                job.expired, job.spent = True, job.has_max_seconds

    @rule()
    def rescue(self) -> None:
        self.sweep()

    def sweep(self) -> None:
        with self.database.transaction() as session:
            rescued = {saved.job_id: saved.state for saved in leases.rescue(session, retry_seconds=RETRY_SECONDS)}
            ended = limits.end_late(session)
        lost = {job_id: job for job_id, job in self.model.items() if job.expired}
        for job in lost.values():
            job.lose()
        assert rescued == {job_id: job.state for job_id, job in lost.items()}
        late = {job_id: job for job_id, job in self.model.items() if job.late and job.state in (State.QUEUED, State.PAUSED)}
        assert set(ended) == set(late)
        for job in late.values():
            job.leave(State.FAILED)

    # What always holds

    @invariant()
    def jobs_are_as_modelled(self) -> None:
        with self.database.reading() as session:
            stored = session.scalars(select(Job)).all()
            points: dict[str, dict[int, float]] = {job.id: {} for job in stored}
            for point in session.scalars(select(Point)):
                points[point.job_id][point.global_step] = point.value
        assert {job.id: in_store(job, points[job.id]) for job in stored} == {
            job_id: in_model(job) for job_id, job in self.model.items()
        }

    @invariant()
    def a_job_has_one_open_attempt_while_it_runs_and_else_none(self) -> None:
        with self.database.reading() as session:
            attempts = session.scalars(select(Attempt)).all()
        running = {(job_id, job.attempt) for job_id, job in self.model.items() if job.state == State.RUNNING}
        assert {(attempt.job_id, attempt.number) for attempt in attempts if attempt.outcome is None} == running
        assert len(attempts) == sum(job.attempt for job in self.model.values())

    @invariant()
    def histories_are_legal_and_end_where_the_jobs_are(self) -> None:
        with self.database.reading() as session:
            told = session.scalars(select(Event).order_by(Event.job_id, Event.number)).all()
        for job_id, job in self.model.items():
            history = [event for event in told if event.job_id == job_id]
            assert [event.number for event in history] == list(range(1, len(history) + 1))
            states = [STATE_AFTER[event.kind] for event in history if event.kind in STATE_AFTER]
            assert states[0] == State.QUEUED
            assert states[-1] == job.state
            for source, target in itertools.pairwise(states):
                assert target in TRANSITIONS[source]


def in_store(job: Job, points: dict[int, float]) -> tuple[Any, ...]:
    wishes = (job.cancel_requested_at is not None, job.pause_requested_at is not None)
    counts = (job.attempt, job.lost, job.retries, job.priority, job.not_before is not None)
    batch = job.resolved["steps"][0]["training"]["per_device_train_batch_size"]
    return (job.state, job.worker, wishes, counts, batch, job.progress, points)


def in_model(job: Modelled) -> tuple[Any, ...]:
    worker = job.holder.worker if job.holder else None
    wishes = (job.cancelling, job.pausing)
    counts = (job.attempt, job.lost, job.retries, job.priority, job.is_scheduled)
    return (job.state, worker, wishes, counts, job.batch, job.progress, job.points)


def live(open_database: Callable[[], Database], lives: int, steps: int, phases: tuple[Phase, ...]) -> None:
    run_state_machine_as_test(
        lambda: Life(open_database()),
        settings=settings(
            max_examples=lives,
            stateful_step_count=steps,
            phases=phases,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


OpenDatabase = Callable[[], Database]


@pytest.fixture(params=["sqlite", "postgresql"])
def open_database(request: pytest.FixtureRequest, tmp_path: Path) -> OpenDatabase:
    """Opens an empty database for each life."""

    def on_sqlite() -> Database:
        for file in tmp_path.glob("finebits.db*"):
            file.unlink()
        return migrated(tmp_path / "finebits.db")

    def on_postgresql() -> Database:
        return emptied(request.getfixturevalue("shared_postgresql"))

    return on_sqlite if request.param == "sqlite" else on_postgresql


ON_SQLITE = pytest.mark.parametrize("open_database", ["sqlite"], indirect=True)


def test_whatever_happens_jobs_live_by_the_table_and_zombies_change_nothing(open_database: OpenDatabase) -> None:
    live(open_database, lives=8, steps=30, phases=(Phase.generate, Phase.shrink))


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_over_many_and_long_lives_too(open_database: OpenDatabase) -> None:
    live(open_database, lives=200, steps=60, phases=(Phase.generate, Phase.shrink))


@ON_SQLITE
def test_without_the_fence_the_machine_finds_a_fault(open_database: OpenDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_fence(held: Claim) -> tuple[ColumnElement[bool], ...]:
        return (Job.id == held.job_id,)

    monkeypatch.setattr(leases, "_fence", no_fence)
    with pytest.raises(AssertionError, match="A zombie wrote"):
        live(open_database, lives=30, steps=30, phases=(Phase.generate,))
