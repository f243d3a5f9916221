"""A run that logs 100,000 updates: the memory of the worker that keeps it, and the series endpoint for 1,000 points of them.

    python benchmarks/long_series.py [--updates 100000] [--only sqlite|postgresql]

The child is a stand-in that says as fast as the pipe takes it what a training process says at each update; what listens, renews
and writes is the worker's own. Its memory (RSS) after all updates is compared with that after a tenth of them. The series is
asked for over HTTP, a new version of the job each time, so that nothing is kept rendered; beside it, a request for none of it. Of
the time, so much was this process on the processor (on SQLite that is all there is to do): on a busy machine the rest is waiting.
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from contextlib import ExitStack, nullcontext
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import orjson  # noqa: E402
import psutil  # noqa: E402
from sqlalchemy import update  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402

from service.api.access import LOCAL  # noqa: E402
from service.app import create_app  # noqa: E402
from service.dispatch import Dispatch  # noqa: E402
from service.settings import Settings  # noqa: E402
from service.store import leases, schema  # noqa: E402
from service.store.session import Database  # noqa: E402
from service.store.tables import Job  # noqa: E402
from tests import servers  # noqa: E402
from tests.service.store.stored import submit  # noqa: E402
from worker import supervise  # noqa: E402
from worker.settings import WorkerSettings  # noqa: E402
from worker.warm import Child  # noqa: E402

POINTS, ASKED, AIM_MS = 1000, 9, 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=100_000)
    parser.add_argument("--only", choices=("sqlite", "postgresql"), help="one of the databases")
    asked = parser.parse_args()
    for kind in (asked.only,) if asked.only else ("sqlite", "postgresql"):
        with ExitStack() as stack:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fb-long-")))
            server = servers.postgresql() if kind == "postgresql" else nullcontext(f"sqlite:///{home}/finebits.db")
            database = Database(stack.enter_context(server))
            stack.callback(database.close)
            schema.upgrade(database)
            print(kind)
            job_id = keep_a_long_run(database, home, asked.updates)
            ask_for_its_series(database, home, job_id)


def keep_a_long_run(database: Database, home: Path, updates: int) -> str:
    settings = WorkerSettings(home=home, name="one")
    job_id = submit(database)
    with database.transaction() as session:
        held = leases.claim(session, settings.queue_names, "one", settings.lease_seconds)
    assert held is not None
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=say, args=(theirs, updates))
    process.start()
    theirs.close()
    child = StandIn(process, ours)
    attempt = supervise._Attempt(held, child, time.monotonic() + settings.lease_seconds)
    began = time.perf_counter()
    supervise._keep(database, settings, attempt, lambda: child.note())
    seconds = time.perf_counter() - began
    early, late = child.rss_at(0.1), child.rss_at(1.0)
    print(
        f"  {updates:,} updates in {seconds:.0f} s; the supervisor's memory after them {late:.1f} MB over {early:.1f} MB", end=" "
    )
    print(f"after a tenth = {late / early:.2f}", flush=True)
    return job_id


class StandIn(Child):
    """A child of which the supervisor's own memory is noted whenever it looks."""

    def __init__(self, process: Any, pipe: Connection):
        super().__init__(process, pipe)
        self._noted: list[tuple[float, float]] = []
        self._began = time.monotonic()

    def note(self) -> bool:
        self._noted.append((time.monotonic() - self._began, psutil.Process().memory_info().rss / 1e6))
        return False

    def rss_at(self, part: float) -> float:
        until = part * self._noted[-1][0]
        return [rss for at, rss in self._noted if at <= until or part == 1.0][-1]


def say(pipe: Connection, updates: int) -> None:
    """What worker/run.py says of each update; it waits as a step would, a thousandth of it, so that the pipe has its turn."""
    for global_step in range(1, updates + 1):
        values = {"loss": 2.0 + (global_step * 7919 % 1000) / 1000, "learning_rate": 1e-4, "grad_norm": 0.5}
        progress = {"step": "sft", "position": 1, "steps": 1, "global_step": global_step, "of": updates}
        pipe.send_bytes(orjson.dumps({"message": "points", "step": "sft", "global_step": global_step, "values": values}))
        pipe.send_bytes(orjson.dumps({"message": "progress", "progress": progress}))
    pipe.send_bytes(orjson.dumps({"message": "outcome", "outcome": "succeeded"}))


def ask_for_its_series(database: Database, home: Path, job_id: str) -> None:
    with database.transaction() as session:
        session.execute(update(Job).values(owner=LOCAL))
    with TestClient(create_app(Settings(home=home), database, Silent()), base_url="http://127.0.0.1") as client:
        path = f"/jobs/{job_id}/metrics/series"
        thinned, cpu = asked_for(database, client, f"{path}?name=loss&points={POINTS}")
        nothing, _ = asked_for(database, client, f"{path}?name=loss&points={POINTS}&from_step=2000000000")
    verdict = "" if thinned <= AIM_MS else f"   more than {AIM_MS} ms"
    print(f"  {POINTS:,} points of the series {thinned:.1f} ms, {cpu:.1f} ms of them on the processor,", end=" ")
    print(f"over {nothing:.1f} ms of none = {thinned / nothing:.1f}{verdict}", flush=True)


class Silent(Dispatch):
    def ring(self, queue: str) -> None:
        """Nobody listens."""

    def answers(self) -> bool:
        return False


def asked_for(database: Database, client: TestClient, path: str) -> tuple[float, float]:
    """Milliseconds by the clock, and of this process; the fewest, since other work of the machine makes it only slower."""
    taken, worked = [], []
    for _ in range(ASKED):
        with database.transaction() as session:
            session.execute(update(Job).values(version=Job.version + 1))
        began, began_work = time.perf_counter(), time.process_time()
        answer = client.get(path)
        worked.append(1000 * (time.process_time() - began_work))
        taken.append(1000 * (time.perf_counter() - began))
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["step"]) <= POINTS
    return min(taken), min(worked)


if __name__ == "__main__":
    main()
