"""Clients that ask for jobs over HTTP, and now and then pause, resume, retry or cancel one while the service keeps dying."""

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx2
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from service.client import Client, Problem, Unreachable
from service.store.tables import Job
from tests.chaos.world import World

KEY = "asked"  # the label by which a job is found again
REAL = "real"  # the queue of the worker that really trains
CANCELLED, PAUSED, RETRIED = 0.1, 0.15, 0.5  # the shares of jobs that are cancelled, paused, and tried again once cancelled


@dataclass
class Clients:
    """Keeps a few jobs more in the queue than there are workers, until it is told to stop. It answers for each that it asked."""

    world: World
    draw: random.Random
    n_real: int = 0  # jobs that really train, one after another
    n_updates: int = 30
    acknowledged: dict[str, str] = field(default_factory=dict)  # key to job
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)  # key to what was asked
    wished: set[str] = field(default_factory=set)  # jobs whose end by their client was asked for
    paused: set[str] = field(default_factory=set)  # jobs that are still to be resumed
    n_unknown: int = 0  # submissions whose first answer never came
    failure: BaseException | None = None

    def __post_init__(self) -> None:
        self._stopping = threading.Event()
        self._due: list[tuple[float, Callable[[Client], None]]] = []
        self._thread = threading.Thread(target=self._run, name="clients")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when every job that was asked for is acknowledged and none is paused: its client does not let go before."""
        self._stopping.set()
        self._thread.join(120)
        if self._thread.is_alive():
            raise RuntimeError("a client still waits for its answer")
        if self.failure is not None:
            raise self.failure

    def submit(self, client: Client, **groups: Any) -> str:
        """Until it is acknowledged, however often the answer is lost; always with the same key."""
        key = f"{len(self.documents)}"
        asked = self.documents[key] = document(key, self.n_updates) | groups
        while True:
            try:
                answer = client.submit(asked, idempotency_key=key)
            except (Unreachable, Problem) as error:
                if isinstance(error, Problem) and not error.is_passing:
                    raise
                self.n_unknown += 1
                time.sleep(0.1)
            else:
                self.acknowledged[key] = answer["id"]
                return answer["id"]

    def _run(self) -> None:
        try:
            with self.world.client() as client:
                for _ in range(self.n_real):
                    self.submit(client, **real_groups())
                while not self._stopping.is_set() or self._due or self.paused:
                    if not self._stopping.is_set() and self._n_unfinished("default") < len(self.world.workers) + 2:
                        self._ask(client)
                    self._do_what_is_due(client)
                    time.sleep(0.05)
        except BaseException as error:
            self.failure = error

    def _ask(self, client: Client) -> None:
        more: dict[str, Any] = {}
        if self.draw.random() < 0.2:
            more["steps"] = [{"name": "one"}, {"name": "two"}]
        job_id = self.submit(client, **more) if self.draw.random() < 0.8 else self._submit_without_a_key(more)
        if job_id is None:
            return
        if self.draw.random() < CANCELLED:
            self._later(partial(self._cancel, job_id))
        elif self.draw.random() < PAUSED:
            self.paused.add(job_id)
            self._later(partial(self._wish, Client.pause, job_id))
            self._later(partial(self._resume, job_id), 2.0)

    def _submit_without_a_key(self, groups: dict[str, Any]) -> str | None:
        """Once. What is not acknowledged may be there or not; what is must be."""
        key = f"{len(self.documents)}"
        self.documents[key] = asked = document(key, self.n_updates) | groups
        try:
            answer = httpx2.post(f"{self.world.url}/jobs", json=asked, timeout=10, trust_env=False)
        except httpx2.TransportError:
            answer = None
        if answer is None or answer.status_code == 503:
            self.n_unknown += 1
            return None
        assert answer.status_code == 201, answer.text
        self.acknowledged[key] = answer.json()["id"]
        return self.acknowledged[key]

    def _later(self, action: Callable[[Client], None], at_least_seconds: float = 0.0) -> None:
        self._due.append((time.monotonic() + at_least_seconds + self.draw.uniform(0, 2), action))

    def _do_what_is_due(self, client: Client) -> None:
        due = [entry for entry in self._due if entry[0] < time.monotonic()]
        for entry in due:
            self._due.remove(entry)
            entry[1](client)

    def _cancel(self, job_id: str, client: Client) -> None:
        self.wished.add(job_id)
        self._wish(Client.cancel, job_id, client)
        if self.draw.random() < RETRIED:
            self._later(partial(self._wish, Client.retry, job_id))

    def _resume(self, job_id: str, client: Client) -> None:
        """Until the wish is heard: a job that stays paused would never end."""
        try:
            client.resume(job_id)
        except (Unreachable, Problem) as error:
            if isinstance(error, Problem) and not error.is_passing:
                self.paused.discard(job_id)  # it has ended
                return
            self._later(partial(self._resume, job_id))
        else:
            self.paused.discard(job_id)

    def _wish(self, wish: Callable[[Client, str], object], job_id: str, client: Client) -> None:
        with suppress(Unreachable, Problem):  # one that has ended is refused; one that was not heard runs on
            wish(client, job_id)

    def _n_unfinished(self, queue: str) -> int:
        with suppress(DBAPIError), self.world.database.reading() as session:
            wanted = select(func.count()).where(Job.state.in_(("queued", "running")), Job.queue == queue)
            return session.scalar(wanted) or 0
        return 1_000_000


def document(key: str, n_updates: int) -> dict[str, Any]:
    return {
        "labels": {KEY: key},
        "model": {"model_name_or_path": "tiny"},
        "data": {"dataset": "letters", "template": "alpaca"},
        "training": {"max_steps": n_updates, "save_steps": 5, "seed": int(key)},
        "resources": {"gpus": 0, "max_lost": 1000},
    }


def real_groups() -> dict[str, Any]:
    """A job that really trains, always the same: any two must learn the same."""
    return {
        "model": {"model_name_or_path": "tiny-llama"},
        "data": {"dataset": "instructions", "dataset_dir": "examples", "template": "alpaca", "cutoff_len": 64, "val_size": 20},
        "finetuning": {"lora_rank": 4},
        "training": {"per_device_train_batch_size": 4, "max_steps": 60, "save_steps": 10, "logging_steps": 7},
        "resources": {"gpus": 0, "max_lost": 1000, "queue": REAL},
    }
