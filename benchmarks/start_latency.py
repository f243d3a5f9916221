"""How fast a job starts: from the 201 to the worker's attempt, and from there to the first training step, cold and warm.

    python benchmarks/start_latency.py [--jobs 5] [--stubs 200]

Before that, with training that is a stub of no time (stub_worker.py): from the 201 to the attempt's begin by the database's
clock, over the way of a bare Celery task through the same broker to the same process, in turn; median and 99th percentile. The
worker has a thread to spare. Without one (--threads 1) it listens to the broker again as much as a second after its last job:
both sides then wait for that, and 200 of each take six minutes.

Cold: the first job, posted as soon as the service answers, which waits while the worker's fork server imports the stack. Warm:
the jobs after it, each posted to an idle worker. All are the same short LoRA job on the example model, over HTTP.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import redis
from celery import Celery

from service.client import Client
from service.embedded import running
from service.settings import Settings

TELL_SECONDS = 10
EXAMPLES = Path(__file__).parent.parent / "examples"
JOB = {
    "model": {"model_name_or_path": "tiny-llama"},
    "data": {"dataset": "instructions", "template": "alpaca", "cutoff_len": 256, "val_size": 20},
    "training": {"per_device_train_batch_size": 4, "max_steps": 3, "logging_steps": 1},
    "resources": {"gpus": 0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=5, help="warm jobs; medians are printed")
    parser.add_argument("--stubs", type=int, default=200, help="jobs, and bare tasks, of no time")
    parser.add_argument("--threads", type=int, default=4, help="of the worker with stubs: how many jobs it may have at once")
    asked = parser.parse_args()
    n_jobs = asked.jobs
    if asked.stubs:
        beside_bare_celery(asked.stubs, asked.threads)
    if not n_jobs:
        return
    os.environ |= {"FINEBITS_FLUSH_SECONDS": "0.01", "OMP_NUM_THREADS": "1"}  # what a job says is written at once
    with tempfile.TemporaryDirectory(prefix="fb-bench-") as home:
        settings = Settings(home=home, models_root=EXAMPLES / "models", datasets_root=EXAMPLES, port=0)
        with running(settings) as service, Client(service.url) as client:
            cold = sum(measured(client))
            jobs = [measured(client) for _ in range(n_jobs)]
    to_attempt = statistics.median(job[0] for job in jobs)
    to_step = statistics.median(job[1] for job in jobs)
    warm = statistics.median(sum(job) for job in jobs)
    print(f"from the 201 to the attempt, warm:             {1000 * to_attempt:8.0f} ms  (median of {n_jobs})")
    print(f"from the attempt to the first update, warm:    {1000 * to_step:8.0f} ms  (median of {n_jobs})")
    print(f"from the 201 to the first update, warm:        {1000 * warm:8.0f} ms  (median of {n_jobs})")
    print(f"from the 201 to the first update, cold:        {1000 * cold:8.0f} ms  (the one first job)")
    print(f"cold / warm:                                   {cold / warm:8.1f}")


def beside_bare_celery(n: int, n_threads: int) -> None:
    stub = [sys.executable, str(Path(__file__).with_name("stub_worker.py"))]
    os.environ |= {"PYTHONPATH": str(EXAMPLES.parent), "FINEBITS_CONCURRENCY": str(n_threads)}
    with tempfile.TemporaryDirectory(prefix="fb-bench-") as home:
        settings = Settings(home=home, models_root=EXAMPLES / "models", datasets_root=EXAMPLES, port=0)
        with running(settings, worker=stub) as service, Client(service.url) as client:
            broker_url = service.settings.broker_url
            server, app = redis.Redis.from_url(broker_url.replace("redis+socket://", "unix://")), Celery(broker=broker_url)
            ours, bare = [], []
            told_at = time.monotonic()
            for number in range(n + 5):  # the first five make connections
                ours.append(begun_after(client))
                app.send_task("bare", [time.time()], queue="finebits.default", ignore_result=True)
                bare.append(float(server.blpop("bare", 30)[1]))
                if time.monotonic() - told_at > TELL_SECONDS:
                    told_at = time.monotonic()
                    print(f"{number + 1} of {n + 5} jobs and tasks are done", flush=True)
    ours, bare = ours[5:], bare[5:]
    del os.environ["FINEBITS_CONCURRENCY"]
    for name, at in {"median": 50, "99th percentile": 99}.items():
        us, them = (1000 * statistics.quantiles(side, n=100)[at - 1] for side in (ours, bare))
        print(f"201 to begin, {name:15}  {us:8.1f} ms over {them:8.1f} ms of bare Celery = {us / them:.1f}  (of {n})")


def begun_after(client: Client) -> float:
    """Seconds from the answer of the POST to the attempt's begin; less than none where that came first."""
    job = client.submit(JOB)
    posted_at = time.time()
    while job["state"] != "succeeded":
        time.sleep(0.005)
        job = client.job(job["id"])
    return datetime.fromisoformat(job["started_at"]).timestamp() - posted_at


def measured(client: Client) -> tuple[float, float]:
    """Seconds from the answer of the POST to the attempt, and from the attempt to the end of the first update."""
    job = client.submit(JOB)
    posted_at = time.time()
    started_at = first_step_at = 0.0
    while not first_step_at:
        job = client.job(job["id"])
        if job["state"] == "failed":
            raise SystemExit(f"{job['reason']}: {job['sentence']}")
        if not started_at and job["state"] == "running":
            started_at = time.time()
        if ((job["progress"] or {}).get("global_step") or 0) >= 1:
            first_step_at = time.time()
        time.sleep(0.002)
    while client.job(job["id"])["state"] in ("queued", "running"):
        time.sleep(0.05)
    time.sleep(2)  # the worker is idle again
    return started_at - posted_at, first_step_at - started_at


if __name__ == "__main__":
    main()
