"""The newest migrations, run on a database of version 1 while that version's worker and API are at work on it."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from service.api.views import job_view
from service.store import events, jobs, leases, metrics, schema, steps, wishes
from service.store.scheduling import Placement
from service.store.session import Database
from tests.service.store.staffed import assert_slots_add_up, enter, place
from tests.service.store.stored import attempts_of, events_of, job_of, rescue
from tests.service.store.version_1 import Version1, opened
from worker import supervise
from worker.settings import WorkerSettings

RELEASED = Path(__file__).parents[2] / "specs" / "released"
RESOLVED = json.loads((RELEASED / "0.1.0.dev1-sft-lora.json").read_text(encoding="utf-8"))


@dataclass
class Old:
    """A database at migration 0001 with jobs in every state, and version 1 at work on one that runs."""

    database: Database
    verbs: Version1
    process: "subprocess.Popen[str]"
    told: dict[str, Any] = field(default_factory=dict)

    def wait_for_updates(self, more: int = 15, seconds: float = 180) -> None:
        until = self.updates() + more
        wait(lambda: self.updates() >= until or self.process.poll() is not None, seconds)
        assert self.process.poll() is None

    def updates(self) -> int:
        with self.database.reading() as session:
            return int(session.execute(text("SELECT count(*) FROM series WHERE job_id = 'job-running'")).scalar_one())

    def stop(self) -> None:
        """What it did is in `told` then."""
        out, _ = self.process.communicate(timeout=180)
        self.told = json.loads(out)


@pytest.fixture
def old(database: Database) -> Iterator[Old]:
    schema.downgrade(database, "0001")
    verbs = opened(database.url)
    resolved = RESOLVED | {"resources": RESOLVED["resources"] | {"gpus": 0}}
    for name in ("running", "waiting", "released", "succeeded", "failed"):
        verbs.create(f"job-{name}", resolved)
    for name in ("released", "succeeded", "failed"):
        attempt = verbs.claim(f"job-{name}")
        for update in range(1, 11):
            verbs.update(f"job-{name}", attempt, update)
        verbs.end(f"job-{name}", attempt, name)
    attempt = verbs.claim("job-running")
    command = [sys.executable, "-m", "tests.service.store.version_1"]
    words = [database.engine.url.render_as_string(hide_password=False), "job-running", str(attempt), json.dumps(resolved)]
    with subprocess.Popen([*command, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        at_work = Old(database, verbs, process)
        try:
            at_work.wait_for_updates()
            yield at_work
        finally:
            process.kill()
            verbs.engine.dispose()


def wait(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_no_statement_of_version_1_fails_during_the_upgrade_or_after_it(old: Old) -> None:
    schema.upgrade(old.database)
    assert schema.is_current(old.database)
    old.wait_for_updates()
    old.stop()
    assert old.told["failures"] == []
    with old.database.reading() as session:
        assert metrics.series(session, "job-running", "sft", "loss")[0] == list(range(1, old.told["updates"] + 1))
    numbers = [event.number for event in events_of(old.database, "job-running")]
    assert numbers == list(range(1, len(numbers) + 1))
    assert all(job_of(old.database, job_id).state in ("succeeded", "queued") for job_id in old.told["made"])


def test_todays_code_goes_on_with_every_job_that_version_1_left(old: Old) -> None:
    schema.upgrade(old.database)
    old.wait_for_updates()
    old.stop()
    before = job_of(old.database, "job-running")
    assert (before.gpus, job_of(old.database, "job-waiting").gpus) == (0, 0), "what it asked for is in its column"
    with old.database.transaction() as session:
        session.execute(text("UPDATE jobs SET lease_until = 1 WHERE id = 'job-running'"))
    assert [it.job_id for it in rescue(old.database)] == ["job-running"]
    with old.database.transaction() as session:
        wishes.retry(session, "ann", "job-failed")
        old_names = {"job-running", "job-waiting", "job-released", "job-failed"}
    waiting = old_names | {job_id for job_id in old.told["made"] if "left" in job_id}
    me = enter(old.database, cpus=50)
    begun = {}
    while (placed := place(old.database, me)) is not None:
        begun[placed.held.job_id] = placed
        finish(old.database, placed)
    assert begun.keys() == waiting
    assert {job_of(old.database, job_id).state for job_id in [*waiting, "job-succeeded"]} == {"succeeded"}
    assert attempts_of(old.database, "job-running") == [(1, "lost"), (2, "succeeded")]
    assert attempts_of(old.database, "job-failed") == [(1, "failed"), (2, "succeeded")]
    with old.database.transaction() as session:
        assert_slots_add_up(session)
        found, values = metrics.series(session, "job-running", "sft", "loss")
        assert found == list(range(1, old.told["updates"] + 2))
        assert values[:3] == [1.0, 1 / 2, 1 / 3]
        wishes.delete(session, "ann", "job-succeeded")


def finish(database: Database, placed: Placement) -> None:
    """As today's worker does: it reads all that its child needs, goes on from the last checkpoint, and ends."""
    held = placed.held
    with database.transaction() as session:
        work = supervise._work(session, WorkerSettings(), placed)
        assert work.resolved.steps[0].name == "sft"
        last = max((one["global_step"] for one in work.checkpoints.get("sft", [])), default=0)
        measured = [row["global_step"] for row in work.measurements.get("sft", [])]
        assert sorted(measured) == sorted(one["global_step"] for one in work.checkpoints.get("sft", []))
        leases.renew(session, held, 60, {"step": "sft", "global_step": last + 1}, more=True)
        points = metrics.series(session, held.job_id, "sft", "loss")[0]
        metrics.record_points(session, held, "sft", (points[-1] if points else 0) + 1, {"loss": 0.5})
        events.add(session, held.job_id, events.Kind.RESUMED, "It goes on.")
        steps.finish(session, held, 0, "sft", f"{held.job_id}/{held.attempt}/sft", {})
        leases.succeed(session, held)
        assert job_view(jobs.get(session, "ann", held.job_id)).state == "succeeded"


@contextmanager
def upgrading(database: Database) -> Iterator[list[BaseException]]:
    """An upgrade beside the block, which is over at its end; what it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            schema.upgrade(database)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield raised
    finally:
        thread.join(180)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_somebody_who_reads_for_long_holds_up_the_upgrade_and_nobody_else(old: Old) -> None:
    with old.database.reading() as reader:
        reader.execute(text("SELECT count(*) FROM jobs"))
        with upgrading(old.database) as raised:
            wait(lambda: waits_for(old.database, "jobs"))
            old.wait_for_updates(50)
            assert schema.revision(old.database) == "0001"
            reader.rollback()
    assert raised == []
    assert schema.is_current(old.database)
    old.stop()
    assert old.told["failures"] == []


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_one_who_reads_tables_in_another_order_is_no_victim_of_a_deadlock(old: Old) -> None:
    with old.database.reading() as reader:
        reader.execute(text("SELECT count(*) FROM metrics"))
        with upgrading(old.database) as raised:
            wait(lambda: waits_for(old.database, "metrics"))  # jobs is locked by then
            assert reader.execute(text("SELECT count(*) FROM jobs")).scalar_one() > 0
            reader.rollback()
    assert raised == []
    assert schema.is_current(old.database)


def waits_for(database: Database, table: str) -> bool:
    """Whether the upgrade is in line for a table at this moment."""
    waiting = (
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock' AND relation = CAST(:table AS regclass)"
    )
    with database.reading() as session:
        return bool(session.execute(text(waiting), {"table": table}).scalar_one())
