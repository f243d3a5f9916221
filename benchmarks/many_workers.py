"""Fifty workers that take jobs from one queue at once: whether one is ever taken twice, and how many are taken a second.

    python benchmarks/many_workers.py [--workers 50] [--jobs 1000] [--only sqlite|postgresql]

Each worker is a process of its own with the worker's real claim (its turn, look, room on the disk, slots, lease), renewal and
end; its training is a stub of no time. A job that is taken twice has two attempts, or two that hold it at once: both are counted,
and must be 0. Beside it, one worker alone does a tenth of as many; and on PostgreSQL the same workers do so without turns, each
looking whenever it likes. Looks in vain are claims that found the job taken. What the processor did for a job, the workers' and
PostgreSQL's together, says more than the clock on a machine that is busy.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402
from sqlalchemy import func, select, text  # noqa: E402

from service.specs.read import read_job  # noqa: E402
from service.store import jobs, leases, scheduling, schema, turns, workers  # noqa: E402
from service.store.session import Database  # noqa: E402
from service.store.tables import Attempt, Event, Job, Slot  # noqa: E402
from tests import servers  # noqa: E402
from tests.service.store.staffed import a_report  # noqa: E402
from worker import supervise  # noqa: E402
from worker.disk import Disk  # noqa: E402
from worker.settings import WorkerSettings  # noqa: E402

EXAMPLES = ROOT / "examples"
MODELS = EXAMPLES / "models"
TELL_SECONDS = 15
JOB = json.loads((EXAMPLES / "sft-lora.json").read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--only", choices=("sqlite", "postgresql"), help="one of the databases")
    asked = parser.parse_args()
    for kind in (asked.only,) if asked.only else ("sqlite", "postgresql"):
        few = max(20, asked.jobs // 10)
        alone = tell(kind, 1, few, "turns")
        if kind == "postgresql":
            tell(kind, asked.workers, few, "no turns", alone)
        tell(kind, asked.workers, asked.jobs, "turns", alone)


class Measured(NamedTuple):
    jobs_a_second: float
    ms_of_processor: float  # a job
    doubles: int
    in_vain: int


def tell(kind: str, n_workers: int, n_jobs: int, how: str, alone: Measured | None = None) -> Measured:
    found = measured(kind, n_workers, n_jobs, how)
    print(
        f"{kind:10} {n_workers:3} workers, {how}, {n_jobs:,} jobs: {found.doubles} doubles, {found.in_vain} looks in vain;",
        end=" ",
    )
    print(f"{found.jobs_a_second:.1f} jobs/s, {found.ms_of_processor:.0f} ms of processor a job", flush=True)
    if alone is not None:
        faster, dearer = found.jobs_a_second / alone.jobs_a_second, found.ms_of_processor / alone.ms_of_processor
        print(f"{'':10} over one worker: {faster:.2f} of its jobs/s, {dearer:.2f} of its processor's time", flush=True)
    return found


def measured(kind: str, n_workers: int, n_jobs: int, how: str) -> Measured:
    with ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="fb-many-"))
        server = servers.postgresql(fsync=True) if kind == "postgresql" else nullcontext(f"sqlite:///{home}/finebits.db")
        url = stack.enter_context(server)
        schema.upgrade(database := Database(url))
        with database.transaction() as session:
            for number in range(n_jobs):
                jobs.create(session, f"owner-{number % 3}", JOB, read_job(JOB))
            for number in range(n_workers):
                own = JOB | {"resources": {"queue": f"worker-{number}"}}
                jobs.create(session, "owner-0", own, read_job(own))
        postmaster = None if database.is_sqlite else postmaster_of(database)
        database.close()  # what is open would be open in the workers, too
        seconds, cpu, in_vain = run(home, url, n_workers, how, postmaster)
        stack.callback((database := Database(url)).close)
        return Measured(n_jobs / seconds, 1000 * cpu / n_jobs, count_doubles(database, n_jobs + n_workers), in_vain)


def postmaster_of(database: Database) -> psutil.Process:
    with database.engine.connect() as connection:
        parent = psutil.Process(connection.scalar(text("SELECT pg_backend_pid()"))).parent()
    assert parent is not None
    return parent


def cpu_seconds(postmaster: psutil.Process | None) -> float:
    """Of those of its children that have ended."""
    return 0.0 if postmaster is None else sum(postmaster.cpu_times()[2:4])


def run(home: str, url: str, n_workers: int, how: str, postmaster: psutil.Process | None) -> tuple[float, float, int]:
    """Seconds from the start of all, who wait for each other, to the last one's end; the processor's; and looks in vain."""
    forks = multiprocessing.get_context("fork")
    all_there, worked, in_vain = forks.Barrier(n_workers + 1), forks.Value("d", 0), forks.Value("i", 0)
    told = (all_there, worked, in_vain)
    there = [forks.Process(target=work, args=(f"worker-{number}", home, url, how, *told)) for number in range(n_workers)]
    for process in there:
        process.start()
    all_there.wait()
    began, before = time.perf_counter(), cpu_seconds(postmaster)
    told_at = began
    while any(process.is_alive() for process in there):
        there[-1].join(0.05)
        if time.perf_counter() - told_at > TELL_SECONDS:
            told_at = time.perf_counter()
            print(f"{'':10} {n_workers} workers, {how}, for {told_at - began:.0f} s so far", flush=True)
    seconds = time.perf_counter() - began
    if any(codes := [process.exitcode for process in there]):
        raise SystemExit(f"workers ended with {codes}")
    time.sleep(1)  # the server takes leave of the last of them
    return seconds, worked.value + cpu_seconds(postmaster) - before, in_vain.value


def work(name: str, home: str, url: str, how: str, all_there: Any, worked: Any, in_vain: Any) -> None:
    """First the one job of its own queue, which is not timed: a process's first claim takes thrice as long as any other."""
    database, disk = Database(url), Disk(Path(home), 0)
    if how == "no turns":
        turns.turn = lambda *_: nullcontext()  # type: ignore[assignment]
    work_off(database, disk, Path(home), name, name)
    database.close()
    looks = count_looks_in_vain()
    all_there.wait()
    began = time.process_time()
    work_off(database, disk, Path(home), name, "default")
    database.close()
    with worked.get_lock(), in_vain.get_lock():
        worked.value += time.process_time() - began
        in_vain.value += len(looks)


def work_off(database: Database, disk: Disk, home: Path, name: str, queue: str) -> None:
    settings = WorkerSettings(worker_name=name, home=home, models_root=MODELS, datasets_root=EXAMPLES, queues=queue)
    report = a_report(name, queues=(queue,))
    with database.transaction() as session:
        workers.register(session, report)
    while (claimed := supervise._claim(database, settings, disk, report.me)) is not None:
        held = claimed[0]
        for progress in ({"global_step": 1}, {"global_step": 2}):
            with database.transaction() as session:
                leases.renew(session, held, settings.lease_seconds, progress)
        with database.transaction() as session:
            leases.succeed(session, held)
        disk.done(held.job_id)


def count_looks_in_vain() -> list[None]:
    """Grows by one with each."""
    in_vain: list[None] = []
    claim = scheduling.claim

    def counted(*asked: Any) -> Any:
        placed = claim(*asked)
        in_vain.extend([None] * (placed is None))
        return placed

    scheduling.claim = counted
    return in_vain


def count_doubles(database: Database, n_jobs: int) -> int:
    """Attempts and starts beyond one a job, jobs that did not succeed, and slots that leaked."""
    with database.reading() as session:
        attempts = session.scalar(select(func.count()).select_from(Attempt)) or 0
        started = session.scalar(select(func.count()).select_from(Event).where(Event.kind == "started")) or 0
        done = session.scalar(select(func.count()).select_from(Job).where(Job.state == "succeeded", Job.attempt == 1)) or 0
        leaked = session.scalar(select(func.count()).select_from(Slot).where(Slot.used_permille != 0)) or 0
    return abs(attempts - n_jobs) + abs(started - n_jobs) + (n_jobs - done) + leaked


if __name__ == "__main__":
    main()
