"""A run: clients ask, faults fall, all is healed, and the history is read. `python -m tests.chaos.run` runs one by hand."""

import argparse
import heapq
import itertools
import math
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from sqlalchemy import func, select

from service.client import Problem
from service.store.clock import now
from service.store.tables import Attempt, Event, Job
from tests.chaos.clients import REAL, Clients
from tests.chaos.faults import FAULTS, Fault, stop_worker
from tests.chaos.history import violations
from tests.chaos.world import World, stock

_REFUSED = re.compile(r"attempt (\d+) of (job-\w+) lost its lease")
PAUSE_SECONDS = (0.0, 1.2)  # between one fault and the next
STOP_SECONDS = 60.0  # within which a process that is told to stop has ended, its grace of 10 s included


@dataclass(frozen=True)
class Plan:
    """How much of what."""

    seed: int
    database: str
    n_jobs: int = 200
    n_faults: int = 300
    without_fence: bool = False
    n_real: int = 0  # jobs that really train
    n_workers: int = 3
    settle_seconds: float = 120.0


@dataclass
class Report:
    """What happened, and what was wrong with it."""

    plan: Plan
    home: Path
    n_jobs: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    n_attempts: int = 0
    n_lost_leases: int = 0
    n_fenced_writes: int = 0
    n_unknown_answers: int = 0
    n_ended_of_a_full_disk: int = 0
    longest_pick_up_seconds: float = 0.0
    wall_seconds: float = 0.0
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        by_kind = ", ".join(f"{name} {n}" for name, n in sorted(self.faults.items()))
        fence = "WITHOUT the fence" if self.plan.without_fence else "with the fence"
        lines = [
            f"seed {self.plan.seed}, {self.plan.database}, {fence}: {self.n_jobs} jobs ({dict(self.states)}), "
            f"{self.n_attempts} attempts",
            f"{self.faults.total()} faults: {by_kind}",
            f"lost leases {self.n_lost_leases}, fenced writes {self.n_fenced_writes}, answers lost {self.n_unknown_answers}, "
            f"workers that ended of a full disk {self.n_ended_of_a_full_disk}, "
            f"longest pick-up {self.longest_pick_up_seconds:.1f} s, wall {self.wall_seconds:.0f} s",
            f"{len(self.violations)} violations" + (f"; all that is left is in {self.home}" if self.violations else ""),
            *self.violations[:20],
        ]
        return "\n".join(lines)


def run(plan: Plan, home: Path | None = None) -> Report:
    """The whole of it, in a folder that stays where one is given or something is wrong."""
    folder = home or Path(tempfile.mkdtemp(prefix="fb-chaos-"), "home")
    stock(folder)
    options = ("--without-fence",) if plan.without_fence else ()
    world = World(folder, plan.database, (options,) * plan.n_workers, real_model=plan.n_real > 0)
    report = Report(plan, folder)
    try:
        world.start()
        _run(plan, world, report)
    finally:
        world.stop()
    if home is None and not report.violations:
        shutil.rmtree(folder.parent)
    return report


def _run(plan: Plan, world: World, report: Report) -> None:
    began_at = time.monotonic()
    clients = Clients(world, random.Random(plan.seed + 1), n_real=plan.n_real)
    clients.start()
    try:
        _hurt(plan, world, clients, report)
    finally:
        clients.stop()
    _settle(plan, world, clients, report)
    report.violations += violations(
        world.database, world.artifacts, clients.acknowledged, clients.wished, frozenset({"out_of_disk"})
    )
    _count(world, clients, report)
    report.wall_seconds = time.monotonic() - began_at


# -- faults ------------------------------------------------------------------------------------------------------------


class _Healings:
    """What is still to be healed, by when."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, float, Callable[[], bool]]] = []
        self._number = itertools.count()

    def add(self, seconds: float, heal: Callable[[], bool], gives_up_at: float = math.inf) -> None:
        at = time.monotonic() + seconds
        heapq.heappush(self._due, (at, next(self._number), min(gives_up_at, at + STOP_SECONDS), heal))

    def wait(self, seconds: float) -> None:
        """Heals what is due, for so long."""
        until = time.monotonic() + seconds
        while self._due and self._due[0][0] < until:
            at, _, gives_up_at, heal = heapq.heappop(self._due)
            time.sleep(max(0.0, at - time.monotonic()))
            if heal():
                continue
            if time.monotonic() > gives_up_at:
                raise RuntimeError(f"a process that was told to stop has not in {STOP_SECONDS} s")
            self.add(0.2, heal, gives_up_at)
        time.sleep(max(0.0, until - time.monotonic()))

    def heal_all(self) -> None:
        while self._due:
            self.wait(max(0.0, self._due[0][0] - time.monotonic()) + 0.01)


def _hurt(plan: Plan, world: World, clients: Clients, report: Report) -> None:
    draw, healings = random.Random(plan.seed), _Healings()
    kinds, weights = list(FAULTS), list(FAULTS.values())
    while report.faults.total() < plan.n_faults or len(clients.acknowledged) < plan.n_jobs:
        _look_after(world, clients, report)
        if not _fall(draw.choices(kinds, weights)[0], world, draw, healings, report):
            healings.wait(0.05)
            continue
        healings.wait(draw.uniform(*PAUSE_SECONDS))
        while len(clients.acknowledged) * plan.n_faults < (report.faults.total() - 10) * plan.n_jobs:
            healings.wait(0.1)  # jobs and faults come in the proportion that was asked for
            _look_after(world, clients, report)
    healings.heal_all()
    _force_a_zombie(world, draw, healings, report)
    _look_after(world, clients, report)


def _fall(fault: Fault, world: World, draw: random.Random, healings: _Healings, report: Report) -> bool:
    healing = fault(world, draw)
    if healing is None:
        return False
    report.faults[fault.__name__] += 1
    healings.add(healing.seconds, healing.heal)
    return True


def _force_a_zombie(world: World, draw: random.Random, healings: _Healings, report: Report) -> None:
    """A run in which no worker woke up to find the fence proves nothing of it. It may have been killed before it said so."""
    for _ in range(5):
        if report.faults[stop_worker.__name__] and _refused_writes(world):
            return
        _until(partial(_fall, stop_worker, world, draw, healings, report), 60)
        healings.heal_all()
        _until(lambda: _refused_writes(world) > 0, 20)


def _refused_writes(world: World) -> int:
    """Of attempts that had lost their lease. A worker that ended a job and never heard of it says the same when it asks again."""
    with world.database.reading() as session:
        rows = session.execute(select(Attempt.number, Attempt.job_id).where(Attempt.reason == "worker_lost")).all()
    lost = {tuple(row) for row in rows}
    refused = [found for seat in world.trainers for found in _REFUSED.findall(seat.log())]
    return sum((int(number), job_id) in lost for number, job_id in refused)


def _look_after(world: World, clients: Clients, report: Report) -> None:
    """What nobody hurt has to live."""
    if clients.failure is not None:
        raise clients.failure
    for seat in world.seats:
        if seat.is_up or seat.is_hurt:
            continue
        if seat.may_end:
            report.n_ended_of_a_full_disk += 1
        else:
            report.violations.append(f"{seat.name} ended by itself: {seat.log()[-1000:]}")
        seat.start()


# -- afterwards --------------------------------------------------------------------------------------------------------


def _settle(plan: Plan, world: World, clients: Clients, report: Report) -> None:
    """Waits for the ends of all jobs, then for every slot to prove that it is there, then for every process to go."""
    with world.database.reading() as session:
        healed_at = session.scalar(select(now())) or 0.0
        waiting = session.scalars(select(Job.id).where(Job.state == "queued", Job.queue == "default")).all()
    _until(lambda: _n_in(world, "queued", "running") == 0, plan.settle_seconds)
    _until(lambda: _n_in(world, "queued", "running", queue=REAL) == 0, 2 * plan.settle_seconds)
    with world.database.reading() as session:
        first = select(func.min(Event.at)).where(Event.kind == "started", Event.at >= healed_at)
        starts = [session.scalar(first.where(Event.job_id == job_id)) for job_id in waiting]
    report.longest_pick_up_seconds = max((at - healed_at for at in starts if at is not None), default=0.0)
    report.violations += _leaked_slots(world, clients, plan.settle_seconds)
    if not _until(lambda: not world.orphans(), 60):
        report.violations += [f"orphan: {process.pid} {' '.join(process.cmdline())}" for process in world.orphans()]
    for seat in world.seats:
        if seat.process is not None:
            seat.process.terminate()
    if not _until(lambda: not world.marked(), 90):
        report.violations += [f"still there: {process.pid} {' '.join(process.cmdline())}" for process in world.marked()]


def _leaked_slots(world: World, clients: Clients, seconds: float) -> list[str]:
    """As many jobs as there are slots, at once: all must run at the same time."""
    n_slots = len(world.workers)
    clients.n_updates = 20_000  # until they are cancelled: a worker whose broker went silent needs a while to notice
    with world.client() as client:
        last = [clients.submit(client) for _ in range(n_slots)]
        all_run = _until(lambda: _n_in(world, "running") == n_slots, seconds)
        for job_id in last:
            clients.wished.add(job_id)
            with suppress(Problem):  # one that has ended meanwhile
                client.cancel(job_id)
    _until(lambda: _n_in(world, "queued", "running") == 0, seconds)
    return [] if all_run else [f"a slot leaked: {n_slots} jobs never ran at once"]


def _n_in(world: World, *states: str, queue: str = "default") -> int:
    with world.database.reading() as session:
        return session.scalar(select(func.count()).where(Job.state.in_(states), Job.queue == queue)) or 0


def _until(holds: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _count(world: World, clients: Clients, report: Report) -> None:
    report.n_jobs, report.n_unknown_answers = len(clients.acknowledged), clients.n_unknown
    with world.database.reading() as session:
        report.states = Counter(session.scalars(select(Job.state)).all())
        report.n_attempts = session.scalar(select(func.count()).select_from(Attempt)) or 0
        lost = select(func.count()).select_from(Attempt).where(Attempt.reason == "worker_lost")
        report.n_lost_leases = session.scalar(lost) or 0
    report.n_fenced_writes = _refused_writes(world)


def main() -> None:
    parser = argparse.ArgumentParser(description="One chaos run.")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="postgresql")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--faults", type=int, default=300)
    parser.add_argument("--real", type=int, default=0)
    parser.add_argument("--without-fence", action="store_true")
    parser.add_argument("--home", type=Path, help="keep everything there")
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    plan = Plan(asked.seed, asked.database, asked.jobs, asked.faults, asked.without_fence, asked.real)
    report = run(plan, asked.home)
    print(report)
    sys.exit(bool(report.violations))


if __name__ == "__main__":
    main()
