"""What a worker does when the bell rings, and what it does unasked: sweep, and stop."""

import logging
import queue
import threading
from collections.abc import Callable, Iterable
from typing import Any

from celery import Celery, signals

from service.dispatch import TASK
from service.store import leases, limits, retention
from service.store.session import Database
from worker import supervise, warm
from worker.clean_up import CleanUp
from worker.disk import Disk
from worker.settings import WorkerSettings

logger = logging.getLogger(__name__)


class Worker:
    """One host's worker: its slots, its sweep, and its wish to stop."""

    def __init__(self, app: Celery, settings: WorkerSettings, database: Database):
        self._app = app
        self._settings = settings
        self._database = database
        self._disk = Disk(settings.artifacts_root, settings.min_free_bytes)
        self._clean_up = CleanUp(settings)
        self._stopping = threading.Event()
        self._slots: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        gpus = settings.gpus
        for index in range(settings.concurrency):
            self._slots.put(gpus[index % len(gpus)] if gpus else None)

    def start(self, **_: Any) -> None:
        warm.warm_up()
        threading.Thread(target=self._sweep_regularly, daemon=True, name="sweep").start()
        logger.info("worker %s takes jobs from %s", self._settings.name, ", ".join(self._settings.queue_names))

    def stop(self, **_: Any) -> None:
        """The jobs that run save a checkpoint and are given back; Celery waits for their threads."""
        self._stopping.set()

    def look(self) -> None:
        """Works as long as there is work: a bell that rang while all slots were taken is not missed."""
        device = self._slots.get()
        try:
            while not self._stopping.is_set():
                warm.wait_until_warm()
                if not supervise.run_next(self._database, self._settings, self._disk, device, self._stopping):
                    return
        finally:
            self._slots.put(device)

    def sweep(self) -> None:
        """Takes back jobs whose worker is gone, ends those whose time is over, rings for lost bells, and cleans up."""
        with self._database.transaction() as session:
            leases.rescue(session, retry_seconds=self._settings.retry_seconds)
            limits.end_late(session)
            retention.expire(session)
            unheard = leases.unheard(session, self._settings.queue_names, 3 * self._settings.sweep_seconds)
        self._ring(unheard)
        self._tell_health()
        self._clean_up.once(self._database)

    def _tell_health(self) -> None:
        if self._settings.health_file is None:
            return
        with self._app.connection_for_write() as connection:  # a sweep with no bell to ring has not asked the broker
            connection.ensure_connection(max_retries=0, timeout=3)
        self._settings.health_file.touch()

    def _ring(self, queues: Iterable[str]) -> None:
        for name in queues:
            self._app.send_task(TASK, queue=f"finebits.{name}", ignore_result=True)

    def _sweep_regularly(self) -> None:
        self._attempt(lambda: self._ring(self._settings.queue_names))  # for what was queued while no worker was here
        while not self._stopping.is_set():
            self._attempt(self.sweep)
            self._stopping.wait(self._settings.sweep_seconds)

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            logger.warning("the sweep failed and will be tried again: %s", error)


def connect(app: Celery, settings: WorkerSettings, database: Database) -> Worker:
    """Gives the bell's task and the worker's signals to a Worker."""
    worker = Worker(app, settings, database)
    app.task(name=TASK, ignore_result=True)(worker.look)
    signals.worker_ready.connect(worker.start, weak=False)
    signals.worker_shutting_down.connect(worker.stop, weak=False)
    return worker
