"""The checker itself: it finds nothing in a good history, and each of its checks finds what it is there for."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import orjson
import pytest
from sqlalchemy import text

from service.specs.read import read_job
from service.store import artifacts, events, jobs, leases, schema
from service.store.leases import Claim
from service.store.scheduling import Placement
from service.store.session import Database
from tests.chaos import history, stub_work
from tests.chaos.clients import document
from worker import supervise
from worker.run import Run, Stopped
from worker.settings import WorkerSettings


class Pipe:
    """Keeps what the child says; at the n-th update it is told to stop."""

    def __init__(self, stops_at: int | None):
        self.messages: list[dict[str, object]] = []
        self.run: Run | None = None
        self._stops_at = stops_at

    def send_bytes(self, buf: bytes) -> None:
        message = orjson.loads(buf)
        self.messages.append(message)
        if message["message"] == "points" and message["global_step"] == self._stops_at:
            assert self.run is not None
            self.run.wish = "stop"


class Past:
    """A job of one step that was given back once, in the middle, and then succeeded."""

    def __init__(self, folder: Path):
        self.settings = WorkerSettings(home=folder)
        self.database = Database(self.settings.database_url)
        self.acknowledged: dict[str, str] = {}

    @property
    def job_id(self) -> str:
        return self.acknowledged["0"]

    def happen(self) -> None:
        schema.upgrade(self.database)
        asked = document("0", 30)
        with self.database.transaction() as session:
            self.acknowledged["0"] = jobs.create(session, "local", asked, read_job(asked)).id
        self._attempt(stops_at=13)
        self._attempt(stops_at=None)

    def _attempt(self, stops_at: int | None) -> None:
        with self.database.transaction() as session:
            held = leases.claim(session, ["default"], "worker-1", 60)
            assert held is not None
            work = supervise._work(session, self.settings, Placement(held, (), 1.0))
        pipe = Pipe(stops_at)
        pipe.run = Run(pipe, self.settings.artifacts_root)
        with suppress(Stopped):
            stub_work.run(work, pipe.run)
        with self.database.transaction() as session:
            for message in pipe.messages:
                supervise.WRITERS[str(message["message"])](session, held, message)
            if stops_at is None:
                leases.succeed(session, held)
            else:
                leases.give_back(session, held, "it stops")

    def execute(self, statement: str) -> None:
        with self.database.transaction() as session:
            assert session.connection().execute(text(statement)).rowcount > 0

    def file(self, pattern: str) -> Path:
        return next(self.settings.artifacts_root.glob(pattern))

    def complaints(self) -> list[str]:
        return history.violations(self.database, self.settings.artifacts_root, self.acknowledged)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Past:
    past = Past(tmp_path_factory.mktemp("past"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stub_work, "UPDATE_SECONDS", 0)
        past.happen()
    past.database.close()
    return past


@pytest.fixture
def past(whole: Past, tmp_path: Path) -> Iterator[Past]:
    """One of its own, to damage."""
    copy = Past(shutil.copytree(whole.settings.home, tmp_path / "home"))
    copy.acknowledged = dict(whole.acknowledged)
    yield copy
    copy.database.close()


def test_a_good_history_is_good(past: Past) -> None:
    assert past.complaints() == []
    with past.database.reading() as session:
        kinds = [event.kind for event in events.after(session, past.job_id, 0, 1000)]
    assert kinds.count("started") == 2
    assert kinds.count("resumed") == 1


def acknowledged_and_gone(past: Past) -> None:
    past.acknowledged["1"] = "job-0"


def made_twice(past: Past) -> None:
    asked = document("0", 30)
    with past.database.transaction() as session:
        jobs.create(session, "local", asked, read_job(asked))


def a_zombie_s_word(past: Past) -> None:
    """As if the first attempt had come back while the second held the job."""
    past.execute("""UPDATE events SET data = '{"attempt": 1}' WHERE kind = 'notice' AND attempt = 2""")


def a_word_after_the_end(past: Past) -> None:
    with past.database.transaction() as session:
        events.add(session, past.job_id, "notice", "update 30", {"attempt": 2})


def a_late_artifact(past: Past) -> None:
    with past.database.transaction() as session:
        artifacts.record(session, Claim(past.job_id, 1, "worker-1"), "late", "late", 1, "")


def a_flipped_byte(past: Past) -> None:
    file = past.file(f"*/2/sft/checkpoint-20/{stub_work.WEIGHTS}")
    file.write_bytes(b"x" + file.read_bytes()[1:])


def another_curve(past: Past) -> None:
    past.file(f"*/2/sft/{stub_work.CURVE}").write_text("0.5")


# What is done to a good history, and which check sees it.
DAMAGES: list[tuple[Callable[[Past], None] | str, str]] = [
    (acknowledged_and_gone, "was acknowledged for key 1 and is not there"),
    (made_twice, "key 0 made 2 jobs"),
    (made_twice, "ended_once"),
    ("UPDATE jobs SET state = 'failed', reason = 'killed'", "ended_once"),
    ("UPDATE events SET kind = 'cancelled' WHERE kind = 'succeeded'", "ended_once"),
    ("DELETE FROM events WHERE number = 9", "events_are_in_order"),
    ("UPDATE events SET at = at - 1000 WHERE number = 9", "events_are_in_order"),
    ("UPDATE events SET kind = 'started' WHERE kind = 'released'", "states_follow_the_table"),
    (a_word_after_the_end, "states_follow_the_table"),
    (a_zombie_s_word, "attempts_write_one_at_a_time"),
    ("UPDATE attempts SET outcome = NULL, finished_at = NULL WHERE number = 1", "attempts_write_one_at_a_time"),
    ("UPDATE attempts SET finished_at = finished_at + 1000 WHERE number = 1", "attempts_write_one_at_a_time"),
    ("DELETE FROM attempts WHERE number = 1", "attempts_write_one_at_a_time"),
    (a_late_artifact, "rows_lie_between_claim_and_end"),
    ("UPDATE checkpoints SET attempt = 1 WHERE global_step = 30", "rows_lie_between_claim_and_end"),
    ("UPDATE steps SET attempt = 1", "rows_lie_between_claim_and_end"),
    (
        """UPDATE events SET data = json_set(data, '$.update', 3) WHERE json_extract(data, '$.update') = 6""",
        "nothing_is_told_twice",
    ),
    ("DELETE FROM series WHERE name = 'loss' AND global_step = 17", "steps_are_neither_lost_nor_doubled"),
    ("DELETE FROM series WHERE name = 'loss' AND global_step = 30", "steps_are_neither_lost_nor_doubled"),
    ("UPDATE series SET value = 0.5 WHERE name = 'loss' AND global_step = 17", "steps_are_neither_lost_nor_doubled"),
    ("UPDATE series SET value = 1 WHERE name = 'attempt' AND global_step = 17", "points_are_of_the_attempt_that_came_last"),
    ("DELETE FROM checkpoints WHERE global_step = 20", "checkpoints_are_whole"),
    ("UPDATE metrics SET value = 0.5 WHERE global_step = 20", "checkpoints_are_whole"),
    (a_flipped_byte, "checkpoints_are_whole"),
    (another_curve, "artifacts_are_what_is_said"),
    ("DELETE FROM steps", "artifacts_are_what_is_said"),
    (f"DELETE FROM artifacts WHERE name = 'sft/{stub_work.CURVE}'", "artifacts_are_what_is_said"),
]


@pytest.mark.parametrize(("damage", "seen_by"), DAMAGES)
def test_what_may_not_be_is_seen(past: Past, damage: Callable[[Past], None] | str, seen_by: str) -> None:
    past.execute(damage) if isinstance(damage, str) else damage(past)
    assert any(seen_by in complaint for complaint in past.complaints())


def test_every_check_has_seen_something() -> None:
    assert {check.__name__ for check in (*history.OF_ALL, *history.OF_KNOWN_WORK)} <= {seen_by for _, seen_by in DAMAGES}


def test_a_slot_that_is_taken_by_what_is_over_is_seen(past: Past) -> None:
    past.execute(
        "INSERT INTO workers (name, instance, host, pid, machine, process_started_at, software, spec_versions, queues, sharing, "
        "lease_seconds, started_at, heartbeat_at, draining, stop_jobs) "
        "VALUES ('w', 'i', 'h', 1, 'm', 0, '0', '[]', '[]', 0, 3, 0, 0, 0, 0)"
    )
    past.execute("INSERT INTO slots (worker, position, used_permille) VALUES ('w', 0, 1000)")
    past.execute(f"INSERT INTO taken_slots (job_id, worker, position, permille) VALUES ('{past.job_id}', 'w', 0, 900)")
    assert [complaint.partition(":")[0] if "its slot" in complaint else complaint for complaint in past.complaints()] == [
        past.job_id,
        "slot 0 of w counts 1000 thousandths as used, and 900 are taken",
    ]
