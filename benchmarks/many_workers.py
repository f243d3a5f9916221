"""Fifty workers that take jobs from one queue at once: whether one is ever taken twice, and how many are taken a second.

    python benchmarks/many_workers.py [--workers 50] [--jobs 1000] [--only sqlite|postgresql]

Each worker is a process of its own with the worker's real claim (its turn, look, room on the disk, slots, lease), renewal and
end; its training is a stub of no time. A job that is taken twice has two attempts, or two that hold it at once: both are counted,
and must be 0. Beside it, one worker alone does a tenth of as many; and on PostgreSQL the same workers do so without turns, each
looking whenever it likes. Looks in vain are claims that found the job taken.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from sqlalchemy import func, select  # noqa: E402

from service.specs.read import read_job  # noqa: E402
from service.store import jobs, leases, scheduling, schema, turns, workers  # noqa: E402
from service.store.session import Database  # noqa: E402
from service.store.tables import Attempt, Event, Job, Slot  # noqa: E402
from tests import servers  # noqa: E402
from tests.service.store.staffed import a_report  # noqa: E402
from worker import supervise  # noqa: E402
from worker.disk import Disk  # noqa: E402
from worker.settings import WorkerSettings  # noqa: E402

JOB = json.loads((ROOT / "examples" / "sft-lora.json").read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--only", choices=("sqlite", "postgresql"), help="one of the databases")
    parser.add_argument("--be", nargs=3, help=argparse.SUPPRESS)  # one worker: its name, the database's URL, with turns or not
    asked = parser.parse_args()
    if asked.be:
        return work(*asked.be)
    for kind in (asked.only,) if asked.only else ("sqlite", "postgresql"):
        few = max(20, asked.jobs // 10)
        alone = tell(kind, 1, few, "turns")
        if kind == "postgresql":
            tell(kind, asked.workers, few, "no turns", alone)
        tell(kind, asked.workers, asked.jobs, "turns", alone)


def tell(kind: str, n_workers: int, n_jobs: int, how: str, alone: float | None = None) -> float:
    """Jobs a second."""
    rate, doubles, in_vain = measured(kind, n_workers, n_jobs, how)
    beside = "" if alone is None else f" over {alone:.1f}/s of one worker = {rate / alone:.2f}"
    print(f"{kind:10} {n_workers:3} workers, {how:8} {n_jobs:6,} jobs: {doubles} doubles, {in_vain} looks in vain;", end=" ")
    print(f"{rate:.1f} jobs/s{beside}", flush=True)
    return rate


def measured(kind: str, n_workers: int, n_jobs: int, how: str) -> tuple[float, int, int]:
    """Jobs a second, doubles, and looks in vain."""
    with ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="fb-many-"))
        server = servers.postgresql(fsync=True) if kind == "postgresql" else nullcontext(f"sqlite:///{home}/finebits.db")
        url = stack.enter_context(server)
        database = Database(url)
        stack.callback(database.close)
        schema.upgrade(database)
        with database.transaction() as session:
            for number in range(n_jobs):
                jobs.create(session, f"owner-{number % 3}", JOB, read_job(JOB))
        seconds, in_vain = run(home, url, n_workers, how)
        doubles = count_doubles(database, n_jobs)
    return n_jobs / seconds, doubles, in_vain


def run(home: str, url: str, n_workers: int, how: str) -> tuple[float, int]:
    """Seconds from the start of all, who wait for each other, to the last one's end; and their looks in vain."""
    places = {"FINEBITS_MODELS_ROOT": str(ROOT / "examples" / "models"), "FINEBITS_DATASETS_ROOT": str(ROOT / "examples")}
    environment = os.environ | places | {"FINEBITS_HOME": home, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, __file__, "--be"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    there = [
        subprocess.Popen([*command, f"worker-{n}", url, how], env=environment, **pipes)  # type: ignore[call-overload]
        for n in range(n_workers)
    ]
    for process in there:
        process.stdout.readline()
    began = time.perf_counter()
    for process in there:
        process.stdin.close()
    in_vain = sum(int(process.stdout.read()) for process in there)
    codes = [process.wait() for process in there]
    if any(codes):
        raise SystemExit(f"workers ended with {codes}")
    return time.perf_counter() - began, in_vain


def work(name: str, url: str, how: str) -> None:
    database, settings = Database(url), WorkerSettings(name=name)
    settings.artifacts_root.mkdir(parents=True, exist_ok=True)
    report, disk = a_report(name), Disk(settings.artifacts_root, 0)
    with database.transaction() as session:
        workers.register(session, report)
    in_vain = count_looks_in_vain()
    if how == "no turns":
        turns.turn = lambda *_: nullcontext()  # type: ignore[assignment]
    print("ready", flush=True)
    sys.stdin.read()
    while (claimed := supervise._claim(database, settings, disk, report.me)) is not None:
        held = claimed[0]
        for progress in ({"global_step": 1}, {"global_step": 2}):
            with database.transaction() as session:
                leases.renew(session, held, settings.lease_seconds, progress)
        with database.transaction() as session:
            leases.succeed(session, held)
        disk.done(held.job_id)
    print(len(in_vain))


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
