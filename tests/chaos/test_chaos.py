"""Whatever dies, every acknowledged job ends properly. `python -m tests.chaos.run --seed` takes the seed of a report."""

import random

import pytest

from tests.chaos.run import Plan, Report, run

SHORT = {"n_jobs": 12, "n_faults": 20, "n_workers": 2}
LONG = {"n_jobs": 200, "n_faults": 300, "n_real": 5}


def a_seed() -> int:
    return random.SystemRandom().randrange(10**6)


def proven(report: Report) -> None:
    print(report)
    assert not report.violations, str(report)
    # a run in which no worker woke up after its lease proves nothing of the fence
    assert report.n_lost_leases > 0, str(report)
    assert report.n_fenced_writes > 0, str(report)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_whatever_dies_for_a_minute_nothing_is_lost() -> None:
    seed = a_seed()
    proven(run(Plan(seed, ("sqlite", "postgresql")[seed % 2], **SHORT)))


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_whatever_dies_for_long_nothing_is_lost(database: str) -> None:
    report = run(Plan(a_seed(), database, **LONG))
    proven(report)
    assert report.n_jobs >= LONG["n_jobs"]
    assert report.faults.total() >= LONG["n_faults"]
    assert report.longest_pick_up_seconds < 10


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_without_the_fence_it_is_seen() -> None:
    report = run(Plan(a_seed(), "postgresql", n_jobs=40, n_faults=60, without_fence=True))
    print(report)
    assert any("held the job" in violation for violation in report.violations), str(report)
