"""The life of jobs as a state machine: any order of verbs by anybody, compared with a model after each."""

import itertools
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
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

from service.specs.reasons import Reason
from service.store import jobs, leases, metrics, wishes
from service.store.clock import now
from service.store.errors import LeaseLost, StateConflict
from service.store.leases import Claim
from service.store.session import Database
from service.store.states import ENDED, TRANSITIONS, State
from service.store.tables import Attempt, Event, Job, Point
from tests.service.store.stored import a_document, a_read_job

# What each event says of the state that the job then is in; the others leave it where it is.
STATE_AFTER = {
    "submitted": State.QUEUED,
    "started": State.RUNNING,
    "released": State.QUEUED,
    "lease_lost": State.QUEUED,
    "succeeded": State.SUCCEEDED,
    "failed": State.FAILED,
    "cancelled": State.CANCELLED,
}

STOPS: dict[str, Callable[[Session, Claim], object]] = {
    "succeed": leases.succeed,
    "fail": lambda session, held: leases.fail(session, held, Reason.KILLED, "Killed."),
    "give back": lambda session, held: leases.give_back(session, held, "Draining."),
    "lose": lambda session, held: leases.lose(session, held, Reason.KILLED, "Its process was killed."),
}


@dataclass
class Modelled:
    """A job as it should be."""

    owner: str
    priority: int
    max_lost: int
    state: State = State.QUEUED
    attempt: int = 0
    holder: Claim | None = None
    expired: bool = False
    wish: bool = False
    lost: int = 0
    progress: dict[str, Any] | None = None
    points: dict[int, float] = field(default_factory=dict)

    def leave(self, state: State) -> None:
        self.state, self.holder, self.expired = state, None, False

    def lose(self) -> None:
        self.lost += 1
        self.leave(State.CANCELLED if self.wish else State.FAILED if self.lost > self.max_lost else State.QUEUED)


class Life(RuleBasedStateMachine):
    claims = Bundle("claims")

    def __init__(self, migrated_file: Path):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="fb-life-"))
        shutil.copy(migrated_file, self.folder / "finebits.db")
        self.database = Database(f"sqlite:///{self.folder}/finebits.db")
        self.model: dict[str, Modelled] = {}
        self.updates = 0

    def teardown(self) -> None:
        self.database.close()
        shutil.rmtree(self.folder)

    # Clients

    @initialize()
    def begin_with_a_job(self) -> None:
        self.store("ann", priority=0, max_lost=1)

    @rule(owner=st.sampled_from(["ann", "bob"]), priority=st.integers(0, 1), max_lost=st.integers(0, 2))
    def submit(self, owner: str, priority: int, max_lost: int) -> None:
        self.store(owner, priority, max_lost)

    def store(self, owner: str, priority: int, max_lost: int) -> None:
        document = a_document(resources={"priority": priority, "max_lost": max_lost})
        with self.database.transaction() as session:
            job = jobs.create(session, owner, document, a_read_job(**document))
        self.model[job.id] = Modelled(owner, priority, max_lost)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job_id, job = data.draw(st.sampled_from(list(self.model.items())))
        try:
            with self.database.transaction() as session:
                wishes.cancel(session, job.owner, job_id)
        except StateConflict:
            assert job.state in ENDED - {State.CANCELLED}
            return
        assert job.state not in ENDED - {State.CANCELLED}
        if job.state == State.QUEUED:
            job.leave(State.CANCELLED)
        elif job.state == State.RUNNING:
            job.wish = True

    # Workers

    @rule(target=claims, worker=st.sampled_from(["worker-1", "worker-2"]))
    def claim(self, worker: str) -> Any:
        with self.database.transaction() as session:
            held = leases.claim(session, ["default"], worker, 60)
        waiting = {job_id: job for job_id, job in self.model.items() if job.state == State.QUEUED}
        if held is None:
            assert not waiting
            return multiple()
        job = waiting[held.job_id]
        assert self.rank(job) == min(map(self.rank, waiting.values()))
        job.state, job.attempt, job.holder = State.RUNNING, job.attempt + 1, held
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
        heard: list[bool] = []
        job = self.attempted(held, lambda session: heard.append(leases.renew(session, held, 60, progress)))
        if job is not None:
            assert heard == [job.wish]
            job.expired = False
            job.progress = progress or job.progress

    @rule(held=claims, verb=st.sampled_from(["succeed", "fail", "give back", "lose"]))
    def stop(self, held: Claim, verb: str) -> None:
        job = self.attempted(held, lambda session: STOPS[verb](session, held))
        if job is None:
            return
        if verb == "succeed":
            job.leave(State.SUCCEEDED)
        elif verb == "fail":
            job.leave(State.FAILED)
        elif verb == "give back":
            job.leave(State.CANCELLED if job.wish else State.QUEUED)
        else:
            job.lose()

    @rule(held=claims)
    def renew_in_the_name_of_another(self, held: Claim) -> None:
        for other in (Claim(held.job_id, held.attempt, "worker-3"), Claim(held.job_id, held.attempt + 1, held.worker)):
            if self.model[held.job_id].holder != other:
                assert self.attempted(other, lambda session, other=other: leases.renew(session, other, 60)) is None

    def attempted(self, held: Claim, write: Callable[[Session], object]) -> Modelled | None:
        """The job, if the write was let through, as it must be exactly for its holder; a point of the series goes with it."""
        self.updates += 1
        job = self.model[held.job_id]
        try:
            with self.database.transaction() as session:
                metrics.record_points(session, held, "sft", self.updates, {"loss": held.attempt})
                write(session)
        except LeaseLost:
            assert job.holder != held, "A holder was refused."
            return None
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
    def rescue(self) -> None:
        self.sweep()

    def sweep(self) -> None:
        with self.database.transaction() as session:
            rescued = {saved.job_id: saved.state for saved in leases.rescue(session)}
        lost = {job_id: job for job_id, job in self.model.items() if job.expired}
        for job in lost.values():
            job.lose()
        assert rescued == {job_id: job.state for job_id, job in lost.items()}

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
                assert source not in ENDED  # no verb tries a job again yet


def in_store(job: Job, points: dict[int, float]) -> tuple[Any, ...]:
    wish = job.cancel_requested_at is not None
    return (job.state, job.attempt, job.worker, wish, job.lost, job.progress, points)


def in_model(job: Modelled) -> tuple[Any, ...]:
    worker = job.holder.worker if job.holder else None
    return (job.state, job.attempt, worker, job.wish, job.lost, job.progress, job.points)


def live(migrated_file: Path, lives: int, phases: tuple[Phase, ...]) -> None:
    run_state_machine_as_test(
        lambda: Life(migrated_file),
        settings=settings(
            max_examples=lives,
            stateful_step_count=30,
            phases=phases,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_whatever_happens_jobs_live_by_the_table_and_zombies_change_nothing(migrated_file: Path) -> None:
    live(migrated_file, lives=20, phases=(Phase.generate, Phase.shrink))


def test_without_the_fence_the_machine_finds_a_fault(migrated_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_fence(held: Claim) -> tuple[ColumnElement[bool], ...]:
        return (Job.id == held.job_id,)

    monkeypatch.setattr(leases, "_fence", no_fence)
    with pytest.raises(AssertionError, match="A zombie wrote"):
        live(migrated_file, lives=20, phases=(Phase.generate,))
