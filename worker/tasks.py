"""What a worker does when the bell rings, and what it does unasked: sweep, and stop."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterable
from typing import Any

from celery import Celery, signals

from service.dispatch import TASK
from service.store import (
    counters,
    datasets,
    files,
    generations,
    idempotency,
    leases,
    limits,
    refusals,
    retention,
    scheduling,
    uploads,
    workers,
)
from service.store.errors import WorkerIsThere, WorkerReplaced
from service.store.session import Database
from service.store.workers import Orders
from service.tracing import tracing
from worker import supervise, warm
from worker.clean_up import CleanUp
from worker.disk import Disk
from worker.presence import Presence
from worker.row_counts import RowCounts
from worker.settings import WorkerSettings

logger = logging.getLogger(__name__)


class Worker:
    """One host's worker: its looks for work, its sweep, its heartbeat, and its wish to stop."""

    def __init__(self, app: Celery, settings: WorkerSettings, database: Database, presence: Presence):
        self._app = app
        self._settings = settings
        self._database = database
        self._presence = presence
        self._traces = tracing("finebits-worker", settings.traces_url)
        self._disk = Disk(settings.artifacts_root, settings.min_free_bytes)
        self._clean_up = CleanUp(settings)
        self._stopping = threading.Event()
        self._row_counts = RowCounts(settings, self._stopping)
        self._orders = Orders(draining=False, stop_jobs=False)

    def start(self, **_: Any) -> None:
        warm.warm_up()
        threading.Thread(target=self._sweep_regularly, daemon=True, name="sweep").start()
        threading.Thread(target=self._clean_up_regularly, daemon=True, name="clean-up").start()
        threading.Thread(target=self._count_rows_regularly, daemon=True, name="row-counts").start()
        threading.Thread(target=self._be_heard, daemon=True, name="heartbeat").start()
        logger.info("worker %s takes jobs from %s", self._settings.name, ", ".join(self._settings.queue_names))

    def stop(self, **_: Any) -> None:
        """The jobs that run save a checkpoint and are given back; Celery waits for their threads."""
        self._stopping.set()

    def ended(self, **_: Any) -> None:
        """After the last of its threads."""
        self._traces.close()

    def look(self) -> None:
        """Works as long as there is work: a bell that rang while all slots were taken is not missed.

        Each job that begins rings for the next: what ended may have left room for several, and each has a thread of its own.
        """
        while not self._stopping.is_set():
            warm.wait_until_warm()
            try:
                if not supervise.run_next(
                    self._database,
                    self._settings,
                    self._disk,
                    self._presence.me,
                    self._gives_back,
                    self._ring_again,
                    self._traces,
                ):
                    return
            except WorkerReplaced as error:
                return self._register_again(error)

    def sweep(self) -> None:
        """Takes back jobs whose worker is gone, ends those whose time is over or that nobody reads, keeps workers for those that
        need much, and rings for lost bells."""
        queues = self._settings.queue_names
        with self._database.transaction() as session:
            leases.rescue(session, retry_seconds=self._settings.retry_seconds)
            limits.end_late(session)
            retention.expire(session)
            files.expire(session)
            uploads.expire(session)
            generations.forget(session)
            datasets.expire_uploads(session)
            idempotency.forget(session)
            counters.fold(session)
            refusals.forget(session)
            unheard = leases.unheard(session, queues, 3 * self._settings.sweep_seconds)
        with self._database.transaction() as session:
            scheduling.tell_why_held(session, queues, self._settings.quota)
            workers.forget(session)
            scheduling.reserve(session, queues, self._settings.reserve_after_seconds, self._settings.quota)
        self._ring(unheard)
        self._tell_health()

    def _clean_up_regularly(self) -> None:
        """Apart from the sweep, which must not wait for an artifact store that is slow."""
        while not self._stopping.is_set():
            self._attempt(lambda: self._clean_up.once(self._database))
            self._stopping.wait(self._settings.sweep_seconds)

    def _count_rows_regularly(self) -> None:
        """Apart from both: a file of gigabytes takes minutes."""
        while not self._stopping.is_set():
            self._attempt(lambda: self._row_counts.once(self._database))
            self._stopping.wait(self._settings.sweep_seconds)

    def be_heard(self) -> None:
        """One heartbeat; what it brings back is obeyed."""
        before = self._orders
        try:
            self._orders = self._presence.heartbeat()
        except WorkerReplaced as error:
            return self._register_again(error)
        if before.draining and not self._orders.draining:
            self._ring(self._settings.queue_names)

    def _gives_back(self) -> bool:
        return self._stopping.is_set() or self._orders.stop_jobs

    def _ring_again(self) -> None:
        self._attempt(lambda: self._ring(self._settings.queue_names))

    def _register_again(self, error: WorkerReplaced) -> None:
        """Forgotten while it was away, or another is in its place: then it ends, and the fence lets it write nothing."""
        logger.warning("%s", error)
        try:
            with self._database.transaction() as session:
                self._presence.register(session)
        except WorkerIsThere as rival:
            logger.error("this worker ends: %s", rival)
            self._stopping.set()
            os.kill(os.getpid(), signal.SIGTERM)

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

    def _be_heard(self) -> None:
        while not self._stopping.wait(self._settings.heartbeat_seconds):
            self._attempt(self.be_heard)

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            logger.warning("the sweep, the clean-up or the heartbeat failed and will be tried again: %s", error)


def connect(app: Celery, settings: WorkerSettings, database: Database, presence: Presence) -> Worker:
    """Gives the bell's task and the worker's signals to a Worker."""
    worker = Worker(app, settings, database, presence)
    app.task(name=TASK, ignore_result=True)(worker.look)
    signals.worker_ready.connect(worker.start, weak=False)
    signals.worker_shutting_down.connect(worker.stop, weak=False)
    signals.worker_shutdown.connect(worker.ended, weak=False)
    return worker
