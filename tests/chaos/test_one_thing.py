"""What the chaos does at random, done once where an exact outcome can be said."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import update

from service.store.tables import Job
from tests.chaos.clients import document
from tests.chaos.history import violations
from tests.chaos.stub_work import HOLD
from tests.chaos.world import World, stock

pytestmark = pytest.mark.slow

LEASE_SECONDS = 300.0  # none is lost but by what a test does


@pytest.fixture
def make_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., World]]:
    worlds = []

    def make(*options: tuple[str, ...]) -> World:
        """On SQLite, with a worker for each tuple of options."""
        home = Path(tmp_path_factory.mktemp("w"), "h")
        stock(home)
        worlds.append(world := World(home, "sqlite", options or ((),), lease_seconds=LEASE_SECONDS))
        world.start()
        return world

    yield make
    for world in worlds:
        world.stop()


def submit(world: World, key: str, n_updates: int) -> str:
    with world.client() as client:
        return client.submit(document(key, n_updates))["id"]


def wait(world: World, job_id: str, holds: Callable[[Job], object], seconds: float = 120) -> Job:
    deadline = time.monotonic() + seconds
    while True:
        with world.database.reading() as session:
            job = session.get_one(Job, job_id)
        if holds(job):
            return job
        logs = "\n".join(seat.log()[-2000:] for seat in world.workers)
        assert time.monotonic() < deadline, f"{job.state} {job.sentence} {job.progress}\n{logs}"
        time.sleep(0.05)


@contextmanager
def held(world: World) -> Iterator[None]:
    """No job comes beyond its first updates, however late a busy machine lets the test look at it."""
    world.artifacts.mkdir(exist_ok=True)
    (world.artifacts / HOLD).touch()
    yield
    (world.artifacts / HOLD).unlink()


def has_ended(job: Job) -> bool:
    return job.finished_at is not None


def is_training(job: Job) -> bool:
    return job.state == "running" and (job.progress or {}).get("global_step", 0) >= 5


def test_the_death_of_the_fork_server_costs_no_attempt(make_world: Callable[..., World]) -> None:
    world = make_world()
    with held(world):
        jobs = {"0": submit(world, "0", 60)}
        wait(world, jobs["0"], is_training)
        server = world.workers[0].fork_server()
        assert server is not None
        server.kill()
    # its child trains on, and is seen to end; the next job has another server
    assert wait(world, jobs["0"], has_ended).attempt == 1
    jobs["1"] = submit(world, "1", 10)
    assert wait(world, jobs["1"], has_ended).attempt == 1
    assert violations(world.database, world.artifacts, jobs) == []


def test_a_child_without_a_fork_server_is_still_the_worker_s_to_stop(make_world: Callable[..., World]) -> None:
    world = make_world()
    with held(world):
        jobs = {"0": submit(world, "0", 60)}
        wait(world, jobs["0"], is_training)
        server, (child,) = world.workers[0].fork_server(), world.workers[0].children()
        assert server is not None
        server.kill()
        child.kill()  # nobody is left who could say how it ended
        lost = wait(world, jobs["0"], lambda job: job.attempt == 2)
        assert lost.lost == 1
        with world.client() as client:
            client.cancel(jobs["0"])
        assert wait(world, jobs["0"], has_ended).state == "cancelled"
    assert violations(world.database, world.artifacts, jobs, set(jobs.values())) == []


def test_clocks_that_differ_by_an_hour_are_nobody_s_concern(make_world: Callable[..., World]) -> None:
    """Leases and times are the database's: a worker that is ahead rescues nothing, one that is behind is not rescued."""
    world = make_world(("--clock-ahead", "3600"), ("--clock-ahead", "-3600"))
    began_at = time.time()
    jobs = {str(key): submit(world, str(key), 60) for key in range(2)}
    ended = [wait(world, job_id, has_ended) for job_id in jobs.values()]
    assert [(job.state, job.attempt, job.lost) for job in ended] == [("succeeded", 1, 0)] * 2
    assert all(began_at - 5 < (job.started_at or 0) < (job.finished_at or 0) < time.time() + 5 for job in ended)
    # and what is lost is rescued when its lease has passed, not an hour later
    with held(world):
        jobs["2"] = submit(world, "2", 60)
        wait(world, jobs["2"], is_training)
        (busy,) = [seat for seat in world.workers if seat.children()]
        busy.kill()
    with world.database.transaction() as session:
        session.execute(update(Job).where(Job.id == jobs["2"]).values(lease_until=Job.lease_until - LEASE_SECONDS))
    assert wait(world, jobs["2"], has_ended).attempt == 2
    assert violations(world.database, world.artifacts, jobs) == []
