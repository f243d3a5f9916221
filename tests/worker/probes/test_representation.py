"""What the hidden states of a layer spread over, against the library's own functions of their covariance."""

import numpy as np
import pytest
import torch

from worker.information.geometry import spectral_participation_ratio
from worker.information.intervals import standard_error
from worker.probes.representation import spectral


def states(N=400, W=6, D=40, seed=0):
    x_NW = torch.randn(N, W, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * torch.arange(1.0, W + 1)
    return x_NW, np.arange(N) * D // N


@pytest.mark.parametrize("W", [6, 500])
def test_the_participation_ratio_is_corrected_for_the_number_of_states(W):
    x_NW, document_N = states(W=W)
    found = spectral(x_NW, document_N)["spectral_participation_ratio"]
    covariance = np.cov(x_NW.numpy().T)
    assert found.estimate.value == pytest.approx(spectral_participation_ratio(covariance, samples=400))
    assert "corrected for 400 states" in found.estimator


def test_few_states_of_many_equal_directions_do_not_look_like_a_collapse():
    """Raw, 100 states of 300 equal directions come to 75: the true ratio is 300."""
    drawn = [spectral(torch.randn(100, 300, generator=torch.Generator().manual_seed(s)), np.arange(100)) for s in range(5)]
    values = [found["spectral_participation_ratio"].estimate.value for found in drawn]
    assert np.mean(values) == pytest.approx(300, rel=0.05)


def test_its_error_is_what_other_draws_show():
    drawn = [spectral(*states(seed=seed))["spectral_participation_ratio"].estimate for seed in range(60)]
    assert np.mean([standard_error(it) for it in drawn]) == pytest.approx(np.std([it.value for it in drawn], ddof=1), rel=0.25)


def test_states_that_spread_as_far_as_so_many_can_have_a_ratio_still():
    """A regular simplex: N centred states of N - 1 equal variances."""
    found = spectral(torch.eye(5, dtype=torch.float64), np.arange(5))["spectral_participation_ratio"]
    assert found.estimate.value == pytest.approx(1 / (1 / 4 - 1 / 5))
