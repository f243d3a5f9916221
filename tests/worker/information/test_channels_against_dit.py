"""Channels, deficiencies, rates and bottlenecks against dit, on small random cases."""

import dit
import numpy as np
import pytest
from dit.algorithms.channelcapacity import channel_capacity as dit_channel_capacity
from dit.channelorder import le_cam_deficiency as dit_le_cam_deficiency
from dit.rate_distortion.blahut_arimoto import blahut_arimoto

from worker.information.bottleneck import information_bottleneck
from worker.information.channels import channel_capacity, rate_distortion
from worker.information.comparison import le_cam_deficiency

seeds = pytest.mark.parametrize("seed", range(6))


@seeds
def test_capacities_agree(seed):
    rows = np.random.default_rng(seed).dirichlet(np.full(4, 0.7), size=3)
    theirs, _ = dit_channel_capacity(rows, rtol=1e-12, atol=1e-12)
    found = channel_capacity(rows)
    assert theirs <= found.upper_bits + 1e-9
    assert theirs == pytest.approx(found.lower_bits, abs=1e-6)


@seeds
def test_deficiencies_agree(seed):
    rng = np.random.default_rng(seed)
    p, q = rng.dirichlet(np.ones(4), size=3), rng.dirichlet(np.ones(3), size=3)
    assert le_cam_deficiency(p, q).value == pytest.approx(dit_le_cam_deficiency(p, q), abs=1e-7)
    assert le_cam_deficiency(q, p).value == pytest.approx(dit_le_cam_deficiency(q, p), abs=1e-7)


@seeds
def test_rates_under_hamming_distortion_agree(seed):
    """dit goes along the curve by its slope, so its distortion is where ours is asked."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(3, 3.0))
    hamming = 1 - np.eye(3)
    (rate, distortion), _ = blahut_arimoto(p_x=p, beta=4.0, distortion=lambda *_: hamming, max_iters=5000, restarts=1)
    found = rate_distortion(p, hamming, float(distortion))
    assert found.lower_bits - 1e-5 <= rate <= found.upper_bits + 1e-5


@pytest.mark.parametrize(("seed", "beta"), [(0, 3.0), (1, 6.0), (2, 12.0)])
def test_bottlenecks_agree(seed, beta):
    joint = np.random.default_rng(seed).dirichlet(np.full(6, 0.5)).reshape(3, 2)
    outcomes = [f"{x}{y}" for x in range(3) for y in range(2)]
    theirs = dit.rate_distortion.IBCurve(
        dit.Distribution(outcomes, joint.ravel()), rvs=[[0], [1]], beta_min=beta, beta_max=beta, beta_num=1
    )
    found = information_bottleneck(joint, beta)
    lagrangian = theirs.complexities[0] - beta * theirs.relevances[0]
    assert found.lagrangian_bits <= lagrangian + 1e-6
    assert found.lagrangian_bits == pytest.approx(lagrangian, abs=1e-4)
