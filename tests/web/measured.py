"""A job as a worker would have left it after some checkpoints: series, measures with intervals, alerts, texts, files, a log."""

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from service.specs.read import read_job
from service.store import alerts, events, jobs, leases, metrics
from service.store.leases import Claim
from service.store.session import Database
from service.store.tables import Point
from tests.service.api import made
from tests.specs.job_documents import a_job

OWNER = "local"
CHECKPOINTS = (100, 200, 300, 400)
N_DOCUMENTS = 30
TOKENS = ["Question", ":", " What", " is", " the", " capital", " of", " Peru", "?", "\n", "Answer", ":", " Lima", ".", "</s>"]
SCORED = [12, 13, 14]


def a_running_job(database: Database, name: str, **groups: Any) -> tuple[str, Claim]:
    document = {**a_job(**groups), "name": name}
    with database.transaction() as session:
        job_id = jobs.create(session, OWNER, document, read_job(document)).id
    held = made.claim(database)
    assert held.job_id == job_id, "nothing else waits"
    with database.transaction() as session:
        leases.renew(session, held, 600, {"step": "sft", "phase": "training", "global_step": 1, "max_steps": 400, "loss": 4.0})
    return job_id, held


def a_measured_job(
    database: Database, root: Path, name: str, gain: float = 1.0, updates: int = 400, is_over: bool = True, **groups: Any
) -> str:
    """One whose cross-entropy falls by about `gain` bits."""
    job_id, held = a_running_job(database, name, **groups)
    write_series(database, job_id, updates, gain=gain)
    measure(database, held, metrics.BASE, gain)
    for number in CHECKPOINTS:
        made.checkpoint(database, held, "sft", number, {"adapter_model.safetensors": b"\0" * 4000, "adapter_config.json": b"{}"})
        measure(database, held, number, gain)
    made.artifact(database, held, root, "inspection.json", json.dumps(INSPECTION).encode())
    log = root / job_id / "1" / "log.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("".join(f"sft {at}/{updates}: loss {4 - at / 200:.3f}\n" for at in range(0, 400, 10)))
    if is_over:
        made.finish_step(database, held, "sft")
        made.succeed(database, held)
    return job_id


def write_series(database: Database, job_id: str, updates: int, first: int = 1, gain: float = 1.0) -> None:
    """A loss that falls and a learning rate that does, too."""
    noise = random.Random(round(7 * gain))
    rows = [
        {"job_id": job_id, "step": "sft", "name": name, "global_step": at, "value": value}
        for at in range(first, updates + 1)
        for name, value in (
            ("learning_rate", 0.001 * (1 - at / (updates + 1))),
            ("loss", 3.9 - 1.5 * gain * (1 - math.exp(-5 * at / updates)) + 0.15 * noise.gauss(0, 1)),
        )
    ]
    with database.transaction() as session:
        for start in range(0, len(rows), 10_000):
            session.execute(insert(Point), rows[start : start + 10_000])


def measure(database: Database, held: Claim, number: int, gain: float) -> None:
    """The sums, the measures that come of them, and an alert at the last."""
    share = 0.0 if number == metrics.BASE else 1 - math.exp(-number / 150)
    spread = random.Random(number)
    n_tokens = [len(SCORED) + place % 5 for place in range(N_DOCUMENTS)]
    nll = [n * (6.2 - gain * share * spread.uniform(0.8, 1.2)) for n in n_tokens]
    entropy = [n * (5.5 - gain * share * spread.uniform(1.1, 1.5)) for n in n_tokens]
    kl = [n * (0.9 * gain * share**2 * spread.uniform(0.7, 1.3)) for n in n_tokens]
    shown = {"bits": [[round(max(0.04, 6.0 - gain * share * k), 3) for k in (4.2, 1.1, -0.6)]]}
    texts = {"texts": [{"tokens": TOKENS, "scored": SCORED}]} if number == metrics.BASE else {}
    sums = {"nll": nll, "entropy": entropy, "kl_from_base": kl, "n_tokens": n_tokens, "n_bytes": [4 * n for n in n_tokens]}
    tokens = sum(n_tokens)
    rows = [
        _row(number, "cross_entropy", sum(nll) / tokens, 0.05, "bits/token", -gain * share),
        _row(number, "perplexity", 2 ** (sum(nll) / tokens), 0.9, "1", None),
        _row(number, "entropy", sum(entropy) / tokens, 0.04, "bits/token", -1.3 * gain * share),
        _row(number, "kl_from_base", sum(kl) / tokens, 0.03, "bits/token", None),
    ]
    with made.behind_the_fence(database, held) as session:
        metrics.record_measurement(
            session, held, "sft", number, "validation", {**sums, "text": "same", "shown": {**texts, **shown}}
        )
        metrics.record(session, held, "sft", "validation", rows)
        if number != metrics.BASE:
            alerts.record(session, held, "sft", "validation", [_collapse(number, gain * share)])
        events.add(session, held.job_id, "measured", f"Checkpoint {number} is measured.", {"step": "sft", "global_step": number})


def _row(number: int, name: str, value: float, error: float, unit: str, versus: float | None) -> dict[str, Any]:
    half = 2.045 * error
    apart = None if versus is None else {"value": versus, "standard_error": error / 3, "interval": _about(versus, half / 3)}
    return {
        "global_step": number,
        "measure": name,
        "value": value,
        "unit": unit,
        "standard_error": error,
        "interval": _about(value, half),
        "interval_reason": None,
        "n_documents": N_DOCUMENTS,
        "n_tokens": 150,
        "estimator": "ratio of sums over documents; Student t, clustered by document",
        "versus_base": None if number == metrics.BASE else apart,
        "versus_best": None,
        "versus_leader": None,
    }


def _about(value: float, half: float) -> list[float]:
    return [value - half, value + half]


def _collapse(number: int, drop: float) -> dict[str, Any]:
    return {
        "alert": "entropy_collapse",
        "global_step": number,
        "fires": number == CHECKPOINTS[-1],
        "statistic": 1.3 * drop,
        "bound": 1.2 * drop,
        "threshold": 0.4328,
        "unit": "bits/token",
        "k": CHECKPOINTS.index(number) + 1,
        "alpha": 0.001,
        "n_documents": N_DOCUMENTS,
        "reason": None,
    }


def _shown_row(number: int) -> dict[str, Any]:
    mask: Sequence[int] = [int(place in SCORED) for place in range(len(TOKENS))]
    return {
        "file": "letters.json",
        "row": number,
        "tokens": len(TOKENS) + 3,
        "beyond_cutoff": 3,
        "pieces": [],
        "token_ids": list(range(len(TOKENS))),
        "token_texts": TOKENS,
        "mask": mask,
    }


INSPECTION = {
    "rows": 10,
    "duplicates": [
        {"file": "letters.json", "row": 7, "like_file": "letters.json", "like_row": 2, "shared_n_grams": 1.0, "bits_saved": 0.93}
    ],
    "leaks": [],
    "examples": [_shown_row(1), _shown_row(2)],
}
