"""How fast a job starts: from the 201 to the worker's attempt, and from there to the first training step, cold and warm.

    python benchmarks/start_latency.py [--jobs 5]

Cold: the first job, posted as soon as the service answers, which waits while the worker's fork server imports the stack. Warm:
the jobs after it, each posted to an idle worker. All are the same short LoRA job on the example model, over HTTP.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from service.client import Client
from service.embedded import running
from service.settings import Settings

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
    n_jobs = parser.parse_args().jobs
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
