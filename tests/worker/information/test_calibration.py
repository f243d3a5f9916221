import math

import numpy as np
import pytest
from scipy import optimize, special

from worker.information.calibration import expected_calibration_error, fitted_temperature


def test_answers_that_are_right_as_often_as_they_say_have_no_error():
    generator = np.random.default_rng(0)
    confidence_N = generator.uniform(0.25, 1, 40_000)
    right_N = generator.uniform(size=40_000) < confidence_N
    assert expected_calibration_error(confidence_N, right_N) < 0.01


def test_a_model_that_is_always_certain_and_half_right_is_off_by_a_half():
    assert expected_calibration_error(np.ones(1000), np.arange(1000) % 2) == pytest.approx(0.5, abs=1e-9)


def test_one_bin_by_hand():
    """Ten answers, nine of them right, at 0.6 each: 0.3, and next to nothing of it is chance's."""
    right_N = np.array([1] * 9 + [0])
    s = math.sqrt(0.9 * 0.1 / 10)
    z = 0.3 / s
    folded = s * math.sqrt(2 / math.pi) * math.exp(-z * z / 2) + 0.3 * math.erf(z / math.sqrt(2))
    assert expected_calibration_error(np.full(10, 0.6), right_N) == pytest.approx(2 * 0.3 - folded)


def test_what_chance_adds_is_taken_off():
    """Of 60 calibrated answers in six bins the plain sum is about 0.1 in the mean; what is told is nearer 0."""
    generator = np.random.default_rng(1)
    told, plain = [], []
    for _ in range(300):
        confidence_N = generator.uniform(0.25, 1, 60)
        right_N = generator.uniform(size=60) < confidence_N
        told.append(expected_calibration_error(confidence_N, right_N))
        parts = np.array_split(np.argsort(confidence_N), 6)
        plain.append(sum(len(part) / 60 * abs(right_N[part].mean() - confidence_N[part].mean()) for part in parts))
    assert np.mean(plain) > 0.09
    assert np.mean(told) < 0.7 * np.mean(plain)
    assert min(told) >= 0


def test_bins_hold_equal_numbers_however_confidences_lie():
    """In bins of equal width, these would be one."""
    confidence_N = np.linspace(0.9, 0.91, 300)
    right_N = np.arange(300) >= 150
    assert expected_calibration_error(confidence_N, right_N) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_logits_that_were_divided_by_t_are_found_to_need_it(temperature):
    generator = np.random.default_rng(2)
    logits_NL = generator.normal(0, 2, (20_000, 4))
    p_NL = special.softmax(logits_NL, axis=1)
    truth_N = (generator.uniform(size=20_000)[:, None] > p_NL.cumsum(axis=1)).sum(axis=1)
    assert fitted_temperature(logits_NL * temperature, truth_N) == pytest.approx(temperature, rel=0.05)


def test_it_is_where_the_cross_entropy_is_least():
    generator = np.random.default_rng(3)
    logits_NL, truth_N = generator.normal(0, 1, (50, 4)), generator.integers(0, 4, 50)
    truth_N[:25] = logits_NL[:25].argmax(axis=1)

    def nll(t):
        return -special.log_softmax(logits_NL / t, axis=1)[np.arange(50), truth_N].mean()

    found = optimize.minimize_scalar(nll, bounds=(0.01, 100), method="bounded", options={"xatol": 1e-8}).x
    assert fitted_temperature(logits_NL, truth_N) == pytest.approx(found, rel=1e-4)


def test_where_no_temperature_is_best_there_is_none():
    logits_NL = np.eye(4)
    for truth_N in (np.arange(4), (np.arange(4) + 1) % 4):
        with pytest.raises(ValueError, match="no temperature is best"):
            fitted_temperature(logits_NL, truth_N)


@pytest.mark.parametrize(
    ("confidence_N", "right_N"), [([0.5], [0, 1]), ([], []), ([1.5], [1]), ([float("nan")], [1]), ([0.5], [2])]
)
def test_what_are_no_answers_are_refused(confidence_N, right_N):
    with pytest.raises(ValueError, match="answer"):
        expected_calibration_error(confidence_N, right_N)


def test_what_are_no_logits_are_refused():
    for logits_NL, truth_N in (([[1.0, math.inf]], [0]), ([[1.0, 2.0]], [0, 1]), (np.empty((0, 4)), [])):
        with pytest.raises(ValueError, match="logits are a finite"):
            fitted_temperature(logits_NL, truth_N)
