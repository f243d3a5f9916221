"""What the alerts promise of false alarms and of power, on drawn documents; `benchmarks/alert_rates.py` prints the figures.

Bounds leave room for chance: of 400 runs at 1.3 % more than 14 fire with a probability below 1e-3; seeds are fixed besides.
"""

import statistics

import pytest

from benchmarks.alert_rates import boundary, collapses, memorised, nothing, ramp


def test_a_few_runs_keep_alpha_and_find_a_collapse():
    assert collapses(nothing, 50, runs=20) == []
    assert len(collapses(boundary, 50, runs=60)) <= 4
    fired = collapses(ramp, 50, runs=20)
    assert len(fired) == 20
    assert min(fired) >= 8, "the limit is passed at 8.1"


def test_a_few_samples_tell_what_was_memorised():
    assert memorised(0.5, 100, runs=200) <= 0.04
    assert memorised(0.58, 300, runs=100) >= 0.7


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("documents", "first"), [(50, 10.3), (200, 9.4)])
def test_a_collapse_is_false_in_one_step_of_a_hundred_and_is_found_within_two_checkpoints(documents, first):
    runs = 4000
    assert collapses(nothing, documents, runs // 4) == []
    assert 0.004 <= len(collapses(boundary, documents, runs)) / runs <= 0.0145
    fired = collapses(ramp, documents, runs // 4)
    assert len(fired) == runs // 4
    assert statistics.mean(fired) == pytest.approx(first, abs=0.4)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("documents", "power"), [(100, 0.37), (300, 0.89), (1000, 1.0)])
def test_a_rank_test_of_members_has_its_size_and_its_power(documents, power):
    runs = 4000
    assert memorised(0.5, documents, runs) <= 0.015
    assert memorised(0.58, documents, runs) == pytest.approx(power, abs=0.05)
