"""What is done to the world, one function a fault. Each answers how it is healed and after how many seconds, or that it found
nothing to hurt."""

import random
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import psutil

from tests.chaos.world import LEASE_SECONDS, Seat, World

REALLY = 0.05
SMALL_FILE_BYTES = 20_000  # less than a checkpoint takes


@dataclass(frozen=True)
class Healing:
    """What ends a fault."""

    seconds: float
    heal: Callable[[], bool]  # False: it is to be tried again in a moment


Fault = Callable[[World, random.Random], Healing | None]


def kill_worker(world: World, draw: random.Random) -> Healing | None:
    seat = _one_of(world.workers, draw)
    return seat and _down(seat, seat.kill, draw.uniform(0, 1.5))


def terminate_worker(world: World, draw: random.Random) -> Healing | None:
    seat = _one_of(world.workers, draw)
    return seat and _down(seat, partial(seat.send, signal.SIGTERM), draw.uniform(1, 2))


def stop_worker(world: World, draw: random.Random) -> Healing | None:
    """The worker alone, for longer than its lease: its child ends, another takes the job, and then it wakes."""
    seat = _busy(world, draw)
    return seat and _stopped(seat, [psutil.Process(seat.process.pid)], draw)  # type: ignore[union-attr]


def stop_worker_and_children(world: World, draw: random.Random) -> Healing | None:
    """As a host that sleeps: when it wakes, worker and child both believe that they hold the job."""
    seat = _busy(world, draw)
    return seat and _stopped(seat, [psutil.Process(seat.process.pid), *seat.below()], draw)  # type: ignore[union-attr]


def kill_child(world: World, draw: random.Random) -> Healing | None:
    seat = _busy(world, draw)
    return _killed(seat.children()) if seat else None


def kill_fork_server(world: World, draw: random.Random) -> Healing | None:
    seat = _busy(world, draw)
    server = seat.fork_server() if seat else None
    return _killed([server]) if server else None


def fill_disk(world: World, draw: random.Random) -> Healing | None:
    """The next checkpoint does not fit: no file of the child may grow beyond what it needs."""
    seat = _busy(world, draw)
    children = seat.children() if seat else []
    with suppress(psutil.NoSuchProcess):
        for child in children:
            child.rlimit(psutil.RLIMIT_FSIZE, (SMALL_FILE_BYTES, psutil.RLIM_INFINITY))
        return _over() if children else None
    return None


def fill_disk_of_database(world: World, draw: random.Random) -> Healing | None:
    """SQLite's files are the worker's to write, and for a moment they may not grow."""
    seat = _one_of(world.workers, draw) if world.postgresql is None else None
    if seat is None or seat.process is None:
        return None
    worker = psutil.Process(seat.process.pid)
    seat.is_hurt = seat.may_end = True
    worker.rlimit(psutil.RLIMIT_FSIZE, (SMALL_FILE_BYTES, psutil.RLIM_INFINITY))

    def heal() -> bool:
        for process in (worker, *seat.below()):  # a fork server that began meanwhile has the limit from it
            with suppress(psutil.NoSuchProcess):
                process.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
        seat.is_hurt = False
        return True

    return Healing(draw.uniform(0.2, LEASE_SECONDS + 1), heal)


def stop_child(world: World, draw: random.Random) -> Healing | None:
    seat = _busy(world, draw)
    return _asleep(seat.children(), draw) if seat else None


def stop_broker(world: World, draw: random.Random) -> Healing | None:
    if world.broker is None or world.broker.poll() is not None:
        return None
    return _asleep([psutil.Process(world.broker.pid)], draw)


def stop_postgresql(world: World, draw: random.Random) -> Healing | None:
    """The whole server, as on a host that swaps: nothing is refused, nothing is answered."""
    if world.postgresql is None or not world.postgresql.is_up:
        return None
    return _asleep(world.postgresql.processes(), draw)


def kill_api(world: World, draw: random.Random) -> Healing | None:
    seat = _one_of([world.api], draw)
    return seat and _down(seat, seat.kill, draw.uniform(0, 1))


def terminate_api(world: World, draw: random.Random) -> Healing | None:
    seat = _one_of([world.api], draw)
    return seat and _down(seat, partial(seat.send, signal.SIGTERM), draw.uniform(1, 2))


def kill_broker(world: World, draw: random.Random) -> Healing | None:
    if world.broker is None or world.broker.poll() is not None:
        return None
    world.kill_broker()
    return Healing(draw.uniform(0, 2), _by(world.start_broker))


def flush_broker(world: World, draw: random.Random) -> Healing | None:
    world.flush_broker()
    return _over()


def kill_postgresql(world: World, draw: random.Random) -> Healing | None:
    if world.postgresql is None or not world.postgresql.is_up:
        return None
    world.postgresql.kill()
    return Healing(draw.uniform(0, 2), _by(world.postgresql.start))


def freeze_database_link(world: World, draw: random.Random) -> Healing | None:
    """A worker that lives and trains, and cannot say so."""
    seat = _one_of(world.workers, draw)
    if seat is None or seat.database_link is None:
        return None
    seat.database_link.freeze()
    return Healing(draw.uniform(0.2, 2 * LEASE_SECONDS), _by(seat.database_link.thaw))


def reset_database_link(world: World, draw: random.Random) -> Healing | None:
    link = draw.choice(world.seats).database_link
    if link is None:
        return None
    link.reset()
    return _over()


def freeze_broker_link(world: World, draw: random.Random) -> Healing | None:
    link = draw.choice(world.seats).broker_link
    link.freeze()
    return Healing(draw.uniform(0.2, LEASE_SECONDS), _by(link.thaw))


def reset_broker_link(world: World, draw: random.Random) -> Healing | None:
    draw.choice(world.seats).broker_link.reset()
    return _over()


def silence_broker_link(world: World, draw: random.Random) -> Healing | None:
    draw.choice(world.workers).broker_link.silence()
    return _over()


# How often each is drawn, in comparison with the others.
FAULTS: dict[Fault, int] = {
    kill_worker: 3,
    kill_child: 5,
    kill_fork_server: 2,
    kill_api: 2,
    kill_broker: 2,
    kill_postgresql: 2,
    stop_worker: 4,
    stop_worker_and_children: 4,
    stop_child: 1,
    stop_broker: 1,
    stop_postgresql: 1,
    terminate_worker: 2,
    terminate_api: 1,
    fill_disk: 1,
    fill_disk_of_database: 2,
    flush_broker: 2,
    freeze_database_link: 3,
    reset_database_link: 3,
    freeze_broker_link: 1,
    reset_broker_link: 1,
    silence_broker_link: 1,
}


def _one_of(seats: Sequence[Seat], draw: random.Random) -> Seat | None:
    well = [seat for seat in seats if seat.is_up and not seat.is_hurt]
    return draw.choice(well) if well else None


def _busy(world: World, draw: random.Random) -> Seat | None:
    """One that trains. What really trains takes long to come as far as before, and is hurt less often."""
    among = world.trainers if draw.random() < REALLY else world.workers
    return _one_of([seat for seat in among if seat.is_up and not seat.is_hurt and seat.children()], draw)


def _down(seat: Seat, how: Callable[[], None], seconds: float) -> Healing:
    seat.is_hurt = True
    how()

    def heal() -> bool:
        if seat.is_up:
            return False  # one that was told to stop first lets go of its job
        seat.start()
        seat.is_hurt = False
        return True

    return Healing(seconds, heal)


def _stopped(seat: Seat, processes: list[psutil.Process], draw: random.Random) -> Healing:
    seat.is_hurt = True
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.suspend()

    def heal() -> bool:
        draw.shuffle(processes)
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()
        seat.is_hurt = False
        return True

    return Healing(LEASE_SECONDS + draw.uniform(1, 3), heal)


def _asleep(processes: list[psutil.Process], draw: random.Random) -> Healing | None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.suspend()

    def heal() -> None:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()

    return Healing(draw.uniform(0.5, LEASE_SECONDS + 1), _by(heal)) if processes else None


def _killed(processes: list[psutil.Process]) -> Healing | None:
    with suppress(psutil.NoSuchProcess):
        for process in processes:
            process.kill()
        return _over() if processes else None
    return None


def _over() -> Healing:
    return Healing(0, lambda: True)


def _by(heal: Callable[[], None]) -> Callable[[], bool]:
    def healed() -> bool:
        heal()
        return True

    return healed
