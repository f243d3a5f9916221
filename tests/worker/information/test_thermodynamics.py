import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import constants

from worker.information.thermodynamics import (
    canonical_ensemble,
    gibbs_entropy,
    helmholtz_free_energy,
    temperature_for_entropy,
)

logits = st.lists(st.floats(-20, 20), min_size=2, max_size=10).map(np.array)
temperatures = st.floats(0.1, 20)


def test_gibbs_entropy_is_shannons_in_other_units():
    p = [0.5, 0.25, 0.125, 0.125]
    assert gibbs_entropy(p) == pytest.approx(1.75 * math.log(2))
    assert gibbs_entropy(p, constants.k) == pytest.approx(constants.k * math.log(2) * 1.75)
    # Landauer: to erase a bit at 300 K costs kT ln 2
    assert 300 * gibbs_entropy([0.5, 0.5], constants.k) == pytest.approx(2.87e-21, rel=1e-3)
    assert gibbs_entropy([1.0, 0.0]) == 0
    with pytest.raises(ValueError, match="> 0"):
        gibbs_entropy(p, 0.0)


@pytest.mark.parametrize(("gap", "temperature"), [(1.0, 1.0), (3.0, 0.5), (0.2, 7.0)])
def test_two_levels_in_closed_form(gap, temperature):
    found = canonical_ensemble([0.0, -gap], temperature)
    beta = 1 / temperature
    Z = 1 + math.exp(-beta * gap)
    U = gap * math.exp(-beta * gap) / Z
    assert found.log_partition == pytest.approx(math.log(Z))
    assert found.energy == pytest.approx(U)
    assert found.entropy == pytest.approx(math.log(Z) + beta * U)
    assert found.free_energy == pytest.approx(U - temperature * found.entropy)
    # Schottky's anomaly
    assert found.heat_capacity == pytest.approx((beta * gap) ** 2 * math.exp(-beta * gap) / Z**2)


@given(logits, temperatures)
@settings(max_examples=80, deadline=None)
def test_heat_capacity_and_the_slope_of_the_entropy_are_derivatives(z, temperature):
    found = canonical_ensemble(z, temperature)
    step = 1e-4 * temperature
    low, high = canonical_ensemble(z, temperature - step), canonical_ensemble(z, temperature + step)
    scale = 1 + np.ptp(z) / temperature
    assert (high.energy - low.energy) / (2 * step) == pytest.approx(found.heat_capacity, rel=1e-4, abs=1e-6 * scale**4)
    assert (high.entropy - low.entropy) / (2 * step) == pytest.approx(
        found.entropy_slope, rel=1e-4, abs=1e-6 * scale**4 / temperature
    )
    assert (high.free_energy - low.free_energy) / (2 * step) == pytest.approx(-found.entropy, rel=1e-4, abs=1e-6 * scale**4)
    assert found.free_energy == pytest.approx(found.energy - temperature * found.entropy, abs=1e-9)
    assert found.entropy_slope == pytest.approx(found.heat_capacity / temperature)
    assert -1e-12 <= found.entropy_bits <= math.log2(len(z)) + 1e-12


@given(logits, temperatures, st.integers(0, 2**32 - 1))
@settings(max_examples=80, deadline=None)
def test_of_all_distributions_the_softmax_has_the_least_free_energy(z, temperature, seed):
    F = canonical_ensemble(z, temperature).free_energy
    other = np.random.default_rng(seed).dirichlet(np.ones(len(z)))
    softmax = np.exp((z - z.max()) / temperature)
    softmax /= softmax.sum()
    divergence = (other * np.log(other / np.maximum(softmax, 1e-320))).sum() if (other > 0).all() else None
    assert helmholtz_free_energy(softmax, z, temperature) == pytest.approx(F, abs=1e-9)
    excess = helmholtz_free_energy(other, z, temperature) - F
    assert excess >= -1e-9
    if divergence is not None and softmax.min() > 1e-300:
        assert excess == pytest.approx(temperature * divergence, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("shift", [1e4, -1e4])
def test_a_shift_of_all_logits_moves_only_the_energies(shift):
    z = np.array([0.5, 3.25, -2.0, 1.0])
    here, there = canonical_ensemble(z, 0.7), canonical_ensemble(z + shift, 0.7)
    assert there.entropy == here.entropy
    assert there.heat_capacity == here.heat_capacity
    assert there.energy - here.energy == pytest.approx(-shift)
    assert there.free_energy - here.free_energy == pytest.approx(-shift)


def test_an_entropy_of_1e_300_keeps_its_digits():
    found = canonical_ensemble([0.0, -690.0])
    assert found.entropy == pytest.approx(math.exp(-690) * 691, rel=1e-12)


def test_tokens_that_cannot_be_have_no_share():
    masked, without = canonical_ensemble([1.0, -math.inf, 0.0]), canonical_ensemble([1.0, 0.0])
    assert masked == without
    assert helmholtz_free_energy([0.5, 0.0, 0.5], [1.0, -math.inf, 0.0]) == helmholtz_free_energy([0.5, 0.5], [1.0, 0.0])
    assert helmholtz_free_energy([0.5, 0.5], [1.0, -math.inf]) == math.inf


@given(logits.filter(lambda z: np.ptp(z) > 0.01), st.floats(0.01, 0.99))
@settings(max_examples=60, deadline=None)
def test_a_temperature_is_found_for_every_entropy_between_the_limits(z, share):
    least, most = math.log2((z == z.max()).sum()), math.log2(len(z))
    target = least + share * (most - least)
    temperature = temperature_for_entropy(z, target)
    assert canonical_ensemble(z, temperature).entropy_bits == pytest.approx(target, abs=1e-9)


@given(logits.filter(lambda z: np.ptp(z) > 0.01), temperatures)
@settings(max_examples=40, deadline=None)
def test_it_is_the_temperature_that_the_entropy_came_from(z, temperature):
    ensemble = canonical_ensemble(z, temperature)
    if ensemble.entropy_slope * temperature > 1e-3:
        assert temperature_for_entropy(z, ensemble.entropy_bits) == pytest.approx(temperature, rel=1e-9)


def test_the_limits_of_temperature():
    assert temperature_for_entropy([1.0, 1.0, 0.0], 1.0) == 0
    assert temperature_for_entropy([1.0, 0.0], 1.0) == math.inf
    assert canonical_ensemble([1.0, 0.0], temperature_for_entropy([1.0, 0.0], 1e-300)).entropy_bits == pytest.approx(1e-300)
    with pytest.raises(ValueError, match="0 to 1 bits"):
        temperature_for_entropy([1.0, 0.0], 1.5)
    with pytest.raises(ValueError, match="every temperature"):
        temperature_for_entropy([1.0, 1.0], 1.0)


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: canonical_ensemble([0.0, 1.0], 0.0), "finite number > 0"),
        (lambda: canonical_ensemble([0.0, math.nan]), "nan"),
        (lambda: canonical_ensemble([-math.inf]), "no token"),
        (lambda: helmholtz_free_energy([1.0], [0.0, 1.0]), "cannot go with"),
        (lambda: helmholtz_free_energy([0.5, 0.5], [0.0, 1.0], -1.0), "finite number > 0"),
    ],
)
def test_what_makes_no_sense_is_refused(call, what):
    with pytest.raises(ValueError, match=what):
        call()
