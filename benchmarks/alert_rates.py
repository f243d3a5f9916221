"""How often alerts are false, and how often and how soon they are right, on documents that are drawn.

    python benchmarks/alert_rates.py [--runs 2000]

A run is one step of 20 checkpoints, each tested as a worker tests it. Documents have 50 to 150 tokens and an entropy of their
own; what a checkpoint takes from it differs from document to document by 0.13 nat. A false alarm is one at any of the 20.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from service.specs.alerts import NAT
from worker.information.significance import mann_whitney
from worker.probes.alerts import alert_tests
from worker.probes.token import DocumentSums

CHECKPOINTS = 20
BASE_NATS = 0.9  # 30 % of which are less than 0.3 nat, which is then the limit
SPREAD_NATS = 0.13

Drop = Callable[[int], float]  # nats that the k-th checkpoint has lost of its entropy


def nothing(k: int) -> float:
    return 0.0


def boundary(k: int) -> float:
    """The largest drop that is to be borne."""
    return 0.3


def ramp(k: int) -> float:
    """From 0 at the first checkpoint to 0.8 nat at the last: the limit is passed at 8.1."""
    return 0.8 * (k - 1) / (CHECKPOINTS - 1)


def fired_at(drop: Drop, documents: int, rng: np.random.Generator) -> int | None:
    """The first checkpoint at which a collapse is told, counted from 1."""
    tokens_D = rng.integers(50, 150, size=documents)
    own_D = BASE_NATS + rng.normal(0, 0.3, size=documents)
    base = sums_of(own_D, tokens_D)
    checkpoints: dict[int, DocumentSums] = {}
    for k in range(1, CHECKPOINTS + 1):
        checkpoints[k] = sums_of(own_D - drop(k) + rng.normal(0, SPREAD_NATS, size=documents), tokens_D)
        if any(test["fires"] for test in alert_tests(base, checkpoints, k, "validation", {"entropy"})):
            return k
    return None


def sums_of(nats_D: np.ndarray, tokens_D: np.ndarray) -> DocumentSums:
    bits = (nats_D * NAT * tokens_D).tolist()
    return DocumentSums(tokens_D.tolist(), tokens_D.tolist(), bits, bits)


def collapses(drop: Drop, documents: int, runs: int, seed: int = 0) -> list[int]:
    """Of those runs in which it fires, when."""
    rng = np.random.default_rng(seed)
    found = [fired_at(drop, documents, rng) for _ in range(runs)]
    return [k for k in found if k is not None]


def memorised(auc: float, documents: int, runs: int, alpha: float = 0.01, seed: int = 0) -> float:
    """How often so many rows that were trained on are told from so many that were not. Normal scores, d = √2 Φ⁻¹(AUC) apart."""
    rng = np.random.default_rng(seed)
    apart = 2**0.5 * statistics.NormalDist().inv_cdf(auc)
    members_RN, others_RN = rng.normal(apart, 1, size=(runs, documents)), rng.normal(0, 1, size=(runs, documents))
    tests = (mann_whitney(*samples) for samples in zip(members_RN, others_RN, strict=True))
    return sum(test.p_value < alpha for test in tests) / runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    runs = parser.parse_args().runs
    began = time.perf_counter()
    print(f"entropy_collapse, alpha 1 % over {CHECKPOINTS} checkpoints, {runs} runs")
    for documents in (50, 200):
        for drop in (nothing, boundary, ramp):
            fired = collapses(drop, documents, runs)
            when = f", at checkpoint {statistics.mean(fired):.1f} in the mean" if drop is ramp and fired else ""
            print(f"  {documents:4} documents, {drop.__name__:8}: fires in {100 * len(fired) / runs:6.2f} % of the runs{when}")
    print(f"Mann-Whitney, alpha 1 %, {runs} runs")
    for auc in (0.5, 0.58):
        for documents in (100, 300, 1000):
            rate = memorised(auc, documents, runs)
            print(f"  {documents:4} against {documents:4} documents, AUC {auc:.2f}: {100 * rate:6.2f} %")
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
