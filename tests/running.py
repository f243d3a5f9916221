"""A service without its API, for tests of what workers do: a database, a broker, folders with a tiny model and data, and real
worker processes that can be killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import redis

from service.dispatch import Doorbell
from service.specs.read import read_job
from service.store import events, jobs, metrics, wishes
from service.store.session import Database
from service.store.tables import Job

OWNER = "local"
ENDS = ("succeeded", "failed", "cancelled")
QUICK = {
    "FINEBITS_HEARTBEAT_SECONDS": "0.25",
    "FINEBITS_FLUSH_SECONDS": "0.1",
    "FINEBITS_RETRY_SECONDS": "0.1",
}


@dataclass
class Running:
    """The parts, and verbs to use them as a client and as a saboteur."""

    home: Path
    database: Database
    broker_url: str
    workers: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def artifacts(self) -> Path:
        return self.home / "artifacts"

    def start_worker(self, **settings: str) -> "subprocess.Popen[bytes]":
        """Its lease is longer than a busy machine keeps a worker from its heartbeat: see `forget_the_dead`."""
        ours = {"FINEBITS_LEASE_SECONDS": "120", "FINEBITS_SWEEP_SECONDS": "0.5", "FINEBITS_THREADS": "1"}
        environment = os.environ | QUICK | ours | settings | self._places()
        with Path(self.home, f"worker-{len(self.workers)}.log").open("wb") as log:
            worker = subprocess.Popen([sys.executable, "-m", "worker"], env=environment, stdout=log, stderr=log)
        self.workers.append(worker)
        return worker

    def submit(self, document: dict[str, Any], ring: bool = True) -> str:
        with self.database.transaction() as session:
            job = jobs.create(session, OWNER, document, read_job(document))
        if ring:
            bell = Doorbell(self.broker_url)
            bell.ring(job.queue)
            bell.close()
        return job.id

    def suspend(self, worker: "subprocess.Popen[bytes]") -> None:
        """While it writes nothing: one that sleeps within a transaction of SQLite's keeps everybody out."""
        with self.database.transaction() as session:
            session.connection().exec_driver_sql("UPDATE jobs SET priority = priority")
            worker.send_signal(signal.SIGSTOP)

    def forget_the_dead(self) -> None:
        """The time passes in which a worker that is no more would have been heard of."""
        with self.database.transaction() as session:
            session.connection().exec_driver_sql("UPDATE jobs SET lease_until = 0 WHERE state = 'running'")

    def wipe_broker(self) -> None:
        with redis.Redis.from_url(self.broker_url.replace("redis+socket://", "unix://")) as server:
            server.flushall()

    def job(self, job_id: str) -> Job:
        with self.database.reading() as session:
            return jobs.get(session, OWNER, job_id)

    def cancel(self, job_id: str) -> None:
        with self.database.transaction() as session:
            wishes.cancel(session, OWNER, job_id)

    def wish(self, verb: str, job_id: str) -> None:
        """pause, resume or retry."""
        with self.database.transaction() as session:
            getattr(wishes, verb)(session, OWNER, job_id)

    def kinds(self, job_id: str) -> list[str]:
        with self.database.reading() as session:
            return [event.kind for event in events.after(session, job_id, 0, 10_000)]

    def series(self, job_id: str, step: str = "sft", name: str = "loss") -> dict[int, float]:
        with self.database.reading() as session:
            return dict(zip(*metrics.series(session, job_id, step, name), strict=True))

    def cross_entropies(self, job_id: str) -> dict[int, float | None]:
        with self.database.reading() as session:
            rows = metrics.of_job(session, job_id, measure="cross_entropy")
        return {row.global_step: row.value for row in rows}

    def wait(self, job_id: str, holds: Callable[[Job], bool], seconds: float = 240) -> Job:
        """Until something holds of the job; of one that ends without it, or takes too long, the log is shown."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            job = self.job(job_id)
            if holds(job):
                return job
            if job.state in ENDS:
                break
            time.sleep(0.02)
        logs = "\n".join(path.read_text()[-3000:] for path in sorted(self.home.glob("worker-*.log")))
        raise AssertionError(
            f"not in {seconds} s, or not before its end; {job.state} {job.sentence} {job.progress}; {self.kinds(job_id)}\n{logs}"
        )

    def wait_for_end(self, job_id: str, seconds: float = 240) -> Job:
        return self.wait(job_id, lambda job: job.state in ENDS, seconds)

    def wait_for_update(self, job_id: str, update: int) -> Job:
        return self.wait(job_id, lambda job: job.state == "running" and ((job.progress or {}).get("global_step") or 0) >= update)

    def children(self, worker: "subprocess.Popen[bytes]") -> list[psutil.Process]:
        """The training processes of a worker, which lead a session of their own."""
        return [process for process in psutil.Process(worker.pid).children(recursive=True) if leads_a_session(process)]

    def wait_until_ended(self, processes: list[psutil.Process], seconds: float = 120) -> None:
        """Until none runs. One that has ended stays a zombie while its fork server, which ends after its worker, is at it."""
        deadline = time.monotonic() + seconds
        while any(is_alive(process) for process in processes):
            assert time.monotonic() < deadline, processes
            time.sleep(0.05)

    def log(self, job_id: str, attempt: int) -> str:
        return Path(self.artifacts, job_id, str(attempt), "log.txt").read_text()

    def stop(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGCONT)
                worker.kill()
            worker.wait(120)

    def _places(self) -> dict[str, str]:
        return {
            "FINEBITS_HOME": str(self.home),
            "FINEBITS_DATABASE_URL": self.database.engine.url.render_as_string(hide_password=False),
            "FINEBITS_BROKER_URL": self.broker_url,
        }


def leads_a_session(process: psutil.Process) -> bool:
    try:
        return os.getsid(process.pid) == process.pid
    except ProcessLookupError:
        return False  # it has ended since it was listed


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def job(**groups: Any) -> dict[str, Any]:
    """A LoRA SFT on the tiny model that takes a few seconds; groups are merged over its own."""
    document: dict[str, Any] = {
        "model": {"model_name_or_path": "tiny", "disable_gradient_checkpointing": True},
        "data": {"dataset": "sums", "template": "alpaca", "cutoff_len": 64, "val_size": 20},
        "finetuning": {"lora_rank": 4},
        "training": {
            "per_device_train_batch_size": 4,
            "learning_rate": 1e-2,
            "max_steps": 60,
            "save_steps": 10,
            "logging_steps": 7,
        },
        "resources": {"gpus": 0},
    }
    for group, values in groups.items():
        document[group] = document.get(group, {}) | values if isinstance(values, dict) else values
    return document


def write_datasets(folder: Path) -> None:
    """sums: good rows. Each of the others is bad in its own way."""
    folder.mkdir(parents=True)
    rows = [{"instruction": f"Add {a} and {b}.", "input": "", "output": str(a + b)} for a in range(12) for b in range(10)]
    (folder / "sums.json").write_text(json.dumps(rows))
    (folder / "no_output.json").write_text(json.dumps([*rows[:30], {"instruction": "Add 1 and 2."}, *rows[30:]]))
    (folder / "latin1.json").write_bytes(json.dumps(rows[:2]).encode().replace(b"Add 0", "Für 0".encode("latin-1")))
    (folder / "gone.json").write_text(json.dumps(rows))
    names = ("sums", "no_output", "latin1", "gone")
    (folder / "dataset_info.json").write_text(json.dumps({name: {"file_name": f"{name}.json"} for name in names}))


def add_texts(folder: Path, rows: int) -> None:
    """texts: of some thousands of tokens each, for pt, beside the others."""
    (folder / "texts.json").write_text(json.dumps([{"text": "the quick brown fox jumps over the lazy dog " * 400}] * rows))
    info = json.loads((folder / "dataset_info.json").read_text())
    info["texts"] = {"file_name": "texts.json", "columns": {"prompt": "text"}}
    (folder / "dataset_info.json").write_text(json.dumps(info))
