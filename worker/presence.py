"""That this worker is there: registered under its name with its slots, heard of again and again, and gone when it ends."""

import logging
import os
import secrets
import socket
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import psutil
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from service.specs.version import READABLE
from service.store import workers
from service.store.errors import WorkerIsThere
from service.store.session import Database
from service.store.tables import Worker
from service.store.workers import Identity, Orders, Report, SlotReport
from worker import extras
from worker.gpus import Gpus
from worker.settings import WorkerSettings

logger = logging.getLogger(__name__)

# How far two readings of when one process started may differ: the boot that they are counted from is told in whole seconds.
SAME_START_SECONDS = 5.0


class Presence:
    """This process as the store knows it."""

    def __init__(self, database: Database, settings: WorkerSettings, gpus: Gpus):
        self.me = Identity(settings.name, secrets.token_hex(8))
        self._database = database
        self._gpus = gpus
        cpus = [SlotReport()] * settings.concurrency
        self._report = _report(self.me, settings, [*gpus.slots, *cpus])

    def enter(self, look_seconds: float = 0.5) -> None:
        """Registers, in the place of an earlier self that is gone. Raises WorkerIsThere when another one is there.

        One that says nothing may have died with its host: it is waited for until it is heard of, or its lease has run out. A
        database that is away is waited for, too.
        """
        heard_at: float | None = None
        while True:
            try:
                with self._database.transaction() as session:
                    return self.register(session)
            except OperationalError as error:  # it went away since it was asked whether it is current
                logger.warning("the database does not answer, and is asked again in %g s: %s", look_seconds, error.orig)
            except IntegrityError:  # another of the name registered at the same moment, and is there to be seen now
                pass
            except WorkerIsThere as error:
                if heard_at is not None and error.heard_at > heard_at:
                    raise
                if heard_at is None:
                    logger.info("waiting to see whether it is still there: %s", error)
                    heard_at = error.heard_at
            time.sleep(look_seconds)

    def register(self, session: Session) -> None:
        """Raises WorkerIsThere."""
        workers.register(session, self._report, is_dead)

    def heartbeat(self) -> Orders:
        """Raises WorkerReplaced."""
        readings = self._gpus.readings()
        with self._database.transaction() as session:
            return workers.heartbeat(session, self.me, readings)

    def leave(self) -> None:
        with self._database.transaction() as session:
            workers.leave(session, self.me)


def is_dead(rival: Worker) -> bool:
    """Whether a worker's process is known to have ended: only one of this machine can be asked for."""
    if rival.machine != machine():
        return False
    try:
        process = psutil.Process(rival.pid)
        is_the_same = abs(started_at(process) - rival.process_started_at) < SAME_START_SECONDS
        return not is_the_same or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def started_at(process: psutil.Process) -> float:
    """Seconds after the host's boot, which do not change when its clock is set."""
    return float(process.create_time() - psutil.boot_time())


def machine() -> str:
    """One boot of one host, and the space of process ids that this process sees."""
    boot, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    if boot.is_file() and space.is_symlink():
        return f"{boot.read_text().strip()} {space.readlink()}"
    return f"{socket.gethostname()} {psutil.boot_time():.0f}"


def _report(me: Identity, settings: WorkerSettings, slots: Sequence[SlotReport]) -> Report:
    return Report(
        me,
        host=socket.gethostname(),
        pid=os.getpid(),
        machine=machine(),
        process_started_at=started_at(psutil.Process()),
        software=version("finebits"),
        spec_versions=READABLE,
        queues=settings.queue_names,
        slots=slots,
        sharing=settings.gpu_sharing,
        extras=extras.installed(),
        lease_seconds=settings.lease_seconds,
    )
