"""What Prometheus reads: this process's requests, and the service as the database has it.

Workers need no port: what they report goes through the database. So every API process answers the same of queues, jobs and
workers, and each its own of requests.
"""

import threading
import time
from collections.abc import Iterable, Iterator
from importlib.metadata import version

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.collaborators import TheWatching
from service.api.problems import declared
from service.specs.reasons import Reason
from service.store.counters import Counts, Tally
from service.store.overview import Overview, overview
from service.store.session import Database
from service.store.states import ENDED, State
from service.store.tables import Slot
from service.store.workers import Status

router = APIRouter(tags=["health"])

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# How long one look at the database serves: several may scrape, and none should be able to load it.
CACHED_SECONDS = 5.0

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


@router.get("/metrics", responses={200: {"content": {"text/plain": {}}}, **declared()}, response_class=Response)
async def get_prometheus_metrics(request: Request, watching: TheWatching) -> Response:
    """Requests, queues, jobs, attempts, workers, GPUs and webhooks, in Prometheus's text format."""
    exposition: Exposition = request.app.state.exposition
    written = await to_thread.run_sync(generate_latest, exposition.registry, limiter=watching)
    return Response(written, media_type=MEDIA_TYPE)


class Exposition:
    """The metrics of one application."""

    def __init__(self, database: Database):
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which says when it began
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "finebits_http_requests",
            "Requests, by what they asked for and how they were answered.",
            ["method", "route", "code"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "finebits_http_request_seconds",
            "From a request's first line to its answer's last byte.",
            ["route"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.registry.register(_OfTheDatabase(database))


class Counted:
    """ASGI middleware: counts requests by their route, never by their path, of which there is no end."""

    def __init__(self, app: ASGIApp, exposition: Exposition):
        self.app = app
        self._requests = exposition.requests
        self._seconds = exposition.seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began_at = time.perf_counter()
        code = 500  # of an application that raises before it has answered

        async def send_noted(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_noted)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._requests.labels(method, route, str(code)).inc()
            self._seconds.labels(route).observe(time.perf_counter() - began_at)


_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class _OfTheDatabase(Collector):
    """Looked at when it is scraped, and then not again for a while."""

    def __init__(self, database: Database):
        self._database = database
        self._lock = threading.Lock()
        self._looked_at = float("-inf")
        self._seen: Overview | None = None

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing: else the registry would look at the database when it is made."""
        return []

    def collect(self) -> Iterator[Metric]:
        seen = self._look()
        yield _gauge("finebits_build", "The version of the service.", ["version"], [((version("finebits"),), 1.0)])
        yield _gauge("finebits_database_up", "Whether the database answered.", [], [((), float(seen is not None))])
        if seen is not None:
            yield from _of_jobs(seen)
            yield from _of_counts(seen.counts)
            yield from _of_workers(seen)
            yield from _of_slots(seen.slots)
            yield from _of_webhooks(seen)

    def _look(self) -> Overview | None:
        with self._lock:
            if time.monotonic() - self._looked_at < CACHED_SECONDS:
                return self._seen
            try:
                with self._database.reading() as session:
                    self._seen = overview(session)
            except SQLAlchemyError:
                self._seen = None
            self._looked_at = time.monotonic()
            return self._seen


Values = Iterable[tuple[tuple[str, ...], float]]


def _gauge(name: str, documentation: str, labels: list[str], values: Values) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, documentation, labels=labels)
    for label_values, value in values:
        family.add_metric(list(label_values), value)
    return family


def _counter(name: str, documentation: str, labels: list[str], values: Values) -> CounterMetricFamily:
    """Its samples are called `name`_total."""
    family = CounterMetricFamily(name, documentation, labels=labels)
    for label_values, value in values:
        family.add_metric(list(label_values), value)
    return family


def _of_jobs(seen: Overview) -> Iterator[GaugeMetricFamily]:
    queued = [live for live in seen.live if live.state == State.QUEUED]
    by_state = {str(state): 0 for state in State if state not in ENDED}
    for live in seen.live:
        by_state[live.state] += live.n
    yield _gauge("finebits_jobs", "Jobs that have not ended.", ["state"], [((state,), n) for state, n in by_state.items()])
    yield _gauge("finebits_queue_depth", "Jobs that wait.", ["queue"], [((live.queue,), live.n) for live in queued])
    yield _gauge(
        "finebits_queue_oldest_wait_seconds",
        "Since the oldest job that waits was submitted.",
        ["queue"],
        [((live.queue,), live.oldest_seconds) for live in queued],
    )


def _of_counts(counts: dict[str, Counts]) -> Iterator[Metric]:
    """With the noughts: what was never seen before it rose from 0 is no rise to Prometheus."""
    failures = dict.fromkeys(((str(State.FAILED), str(reason)) for reason in Reason), 0)
    ends = {(str(State.SUCCEEDED), ""): 0, (str(State.CANCELLED), ""): 0, **failures} | counts[Tally.JOBS_ENDED]
    yield _counter("finebits_jobs_ended", "Jobs that ended.", ["state", "reason"], sorted(ends.items()))
    begun, waited = counts[Tally.JOBS_BEGUN], counts[Tally.SECONDS_WAITED]
    waits = SummaryMetricFamily("finebits_queue_wait_seconds", "What jobs waited until they began first.", labels=["queue"])
    for place, n in sorted(begun.items()):
        waits.add_metric([place[0]], count_value=n, sum_value=waited.get(place, 0))
    yield waits
    outcomes = {outcome: 0 for outcome in (*map(str, ENDED), "released", "lost")}
    outcomes |= {outcome: n for (outcome, _), n in counts[Tally.ATTEMPTS_ENDED].items()}
    told = "Attempts that ended; lost: a lease ran out, or the training process was killed."
    yield _counter("finebits_attempts_ended", told, ["outcome"], [((name,), n) for name, n in sorted(outcomes.items())])
    lost, fenced = (sum(counts[what].values()) for what in (Tally.LEASES_LOST, Tally.WRITES_FENCED))
    yield _counter("finebits_leases_lost", "Leases of workers that were not heard of in time.", [], [((), lost)])
    told = "Writes of workers that no longer held their job: nothing was written."
    yield _counter("finebits_writes_fenced", told, [], [((), fenced)])


def _of_workers(seen: Overview) -> Iterator[GaugeMetricFamily]:
    by_status = {str(status): 0 for status in Status}
    for status in seen.workers.values():
        by_status[status] += 1
    yield _gauge("finebits_workers", "Workers that have reported.", ["status"], [((name,), n) for name, n in by_status.items()])
    there = [name for name, status in seen.workers.items() if status != Status.STOPPED]
    yield _gauge(
        "finebits_worker_unheard_seconds",
        "Since a worker that did not stop was heard of.",
        ["worker"],
        [((name,), seen.unheard_seconds[name]) for name in there],
    )
    jobs, speeds = dict.fromkeys(there, 0), dict.fromkeys(there, 0.0)
    for running in seen.running:
        jobs[running.worker] = jobs.get(running.worker, 0) + 1
        speeds[running.worker] = speeds.get(running.worker, 0.0) + (running.tokens_per_second or 0.0)
    yield _gauge("finebits_worker_jobs", "Jobs that a worker runs.", ["worker"], [((name,), n) for name, n in jobs.items()])
    yield _gauge(
        "finebits_worker_tokens_per_second",
        "What the jobs of a worker train together, as they last said.",
        ["worker"],
        [((name,), speed) for name, speed in speeds.items()],
    )


# Of a GPU, by what its readings call it: the metric, and what it is.
_READINGS = {
    "utilization_percent": ("finebits_gpu_utilization_percent", "How busy a GPU is, as NVML has it."),
    "memory_used_bytes": ("finebits_gpu_memory_used_bytes", "Memory of a GPU that is taken, by anybody."),
    "temperature_celsius": ("finebits_gpu_temperature_celsius", "How warm a GPU is."),
}


def _of_slots(slots: Iterable[Slot]) -> Iterator[GaugeMetricFamily]:
    slots = list(slots)
    used = [((slot.worker, str(slot.position), _kind(slot)), slot.used_permille / 1000) for slot in slots]
    yield _gauge("finebits_slot_used", "How much of a slot jobs have taken: 1 is all.", ["worker", "position", "kind"], used)
    trouble = [((slot.worker, str(slot.position), _kind(slot)), float(slot.trouble is not None)) for slot in slots]
    yield _gauge("finebits_slot_trouble", "Whether no job is put there now.", ["worker", "position", "kind"], trouble)
    gpus = [(slot, (slot.worker, str(slot.position), slot.gpu_name or "")) for slot in slots if slot.device is not None]
    labels = ["worker", "position", "gpu"]
    for reading, (name, documentation) in _READINGS.items():
        read = [(place, (slot.readings or {}).get(reading)) for slot, place in gpus]
        yield _gauge(name, documentation, labels, [(place, float(value)) for place, value in read if value is not None])
    sizes = [(place, float(slot.memory_bytes)) for slot, place in gpus if slot.memory_bytes is not None]
    yield _gauge("finebits_gpu_memory_bytes", "Memory that a GPU has.", labels, sizes)


def _kind(slot: Slot) -> str:
    return "cpu" if slot.device is None else "gpu"


def _of_webhooks(seen: Overview) -> Iterator[GaugeMetricFamily]:
    yield _gauge("finebits_webhooks_pending", "Messages on their way to webhooks.", [], [((), seen.webhooks_waiting)])
    oldest = [((), seen.webhooks_oldest_seconds)]
    yield _gauge("finebits_webhooks_oldest_seconds", "Since the oldest of them was put on its way.", [], oldest)
