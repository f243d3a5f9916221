"""The state of the pass: three backends against float64, in any tiling and order."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.worker.information.vocabulary.definitions import (
    EVERYTHING,
    NATS,
    REGIMES,
    WANT_OF_BASE,
    WANT_OF_MODEL,
    assert_close,
    by_definition,
    logits,
)
from worker.information.vocabulary.result import TokenStatistics, newton_temperature_step
from worker.information.vocabulary.statistics import TWO_PASSES, VocabularyStatistics
from worker.information.vocabulary.sums import NEEDS_OF_BASE, NEEDS_OF_MODEL
from worker.information.vocabulary.tokens import token_statistics_from_logits

ONE_PASS = tuple(name for name in EVERYTHING if name not in TWO_PASSES)
BACKENDS = ("numpy", "torch")  # Triton's tests stand beside these: its interpreter needs a process of its own


def tokens(y_N, z_NV=None, want=ONE_PASS, backend="torch"):
    target_logits_N = None if z_NV is None else z_NV.gather(1, y_N[:, None])[:, 0]
    return VocabularyStatistics(y_N, want, backend, target_logits_N)


def in_parts(z, w, y, cuts, order, backend="torch"):
    """Each part of the columns by a state of its own; merged in that order, now from the left and now from the right."""
    edges = [0, *cuts, z.shape[1]]
    parts = []
    for start, stop in pairwise(edges):
        part = tokens(y, z, backend=backend)
        part.update(z[:, start:stop], start, w[:, start:stop])
        parts.append(part)
    merged = tokens(y, z, backend=backend)
    for i in order:
        merged = merged.merge(parts[i]) if i % 2 else parts[i].merge(merged)
    return vars(merged.result())


def test_everything_that_a_token_has_can_be_wanted():
    assert {"nll", "entropy", *EVERYTHING} == set(TokenStatistics.__dataclass_fields__)
    assert {*NEEDS_OF_MODEL, *NEEDS_OF_BASE, *TWO_PASSES} == set(TokenStatistics.__dataclass_fields__)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("regime", REGIMES)
def test_every_statistic_agrees_with_two_passes_in_float64(regime, backend):
    z, w, y = logits(regime, 10, 32_000)
    made = token_statistics_from_logits(z, y, w, want=EVERYTHING, backend=backend, rows=4, columns=9_000)
    assert_close(vars(made), by_definition(z, y, w), ("nll", "entropy", *EVERYTHING))


@pytest.mark.parametrize("regime", ["flat", "ordinary"])
def test_every_statistic_agrees_over_a_vocabulary_of_128256(regime):
    z, w, y = logits(regime, 2, 128_256)
    made = token_statistics_from_logits(z, y, w, want=EVERYTHING)
    assert_close(vars(made), by_definition(z, y, w), ("nll", "entropy", *EVERYTHING))


def test_the_reference_is_exact_to_a_billionth():
    """total_variation_at_most has the root of 1 − BC², which leaves it fewer digits where p and q are close."""
    names = ("nll", "entropy", *(name for name in EVERYTHING if name != "total_variation_at_most"))
    for regime in REGIMES:
        z, w, y = logits(regime, 5, 4_000)
        made = token_statistics_from_logits(z, y, w, want=EVERYTHING, backend="numpy", columns=900)
        assert_close(vars(made), by_definition(z, y, w), names, tolerance=1e-9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", BACKENDS)
def test_half_precision_logits_are_taken_as_the_numbers_they_are(dtype, backend):
    z, w, y = logits("ordinary", 6, 5_000, dtype=dtype)
    made = token_statistics_from_logits(z, y, w, want=EVERYTHING, backend=backend, rows=4, columns=1_500)
    assert_close(vars(made), by_definition(z, y, w), ("nll", "entropy", *EVERYTHING))


def test_the_form_of_others_is_a_hundred_times_further_off():
    """lse − Σ p z, as in verl's entropy_from_logits and in TRL's fused kernel, at an offset of 1e4."""
    z, _, y = logits("offset by 1e4", 20, 32_000)
    exact = by_definition(z, y)["entropy"] * NATS
    theirs = (torch.logsumexp(z, -1) - (torch.softmax(z, -1) * z).sum(-1)).numpy()
    ours = token_statistics_from_logits(z, y).entropy * NATS
    assert np.abs(theirs - exact).max() > 2e-4
    assert np.abs(ours - exact).max() < 2e-6


@st.composite
def tilings(draw, V=60):
    cuts = sorted(draw(st.lists(st.integers(0, V), max_size=7)))
    return cuts, draw(st.permutations(range(len(cuts) + 1)))


@settings(max_examples=60, deadline=None)
@given(tilings(), st.sampled_from(sorted(REGIMES)), st.sampled_from(BACKENDS), st.integers(0, 1000))
def test_neither_the_tiling_nor_the_order_shows_in_the_result(tiling, regime, backend, seed):
    z, w, y = logits(regime, 4, 60, seed)
    made = in_parts(z, w, y, *tiling, backend)
    names = ("nll", "entropy", *ONE_PASS)
    assert_close(made, by_definition(z, y, w), names)
    if backend == "numpy":
        whole = tokens(y, z, backend=backend)
        whole.update(z, 0, w)
        assert_close(made, vars(whole.result()), (n for n in names if n != "total_variation_at_most"), tolerance=1e-9)


@settings(max_examples=60, deadline=None)
@given(tilings(), st.sampled_from(BACKENDS), st.integers(0, 1000), st.floats(0.05, 0.95))
def test_tokens_without_probability_count_for_nothing_in_any_tiling(tiling, backend, seed, share):
    """A −∞ logit: 0 lg 0 = 0, and a divergence is ∞ exactly where the other one has what this one has not."""
    z, w, y = logits("ordinary", 6, 60, seed)
    generator = torch.Generator().manual_seed(seed)
    absent, absent_too = torch.rand(2, 6, 60, generator=generator) < share
    z[:4][absent[:4]] = -torch.inf  # two rows where both have none, two where the model has none, two where the base has none
    w[:2][absent[:2]] = -torch.inf
    w[4:][absent_too[4:]] = -torch.inf
    z[torch.arange(6), y] = w[torch.arange(6), y] = 1.0
    expected = by_definition(z, y, w)
    assert np.isfinite(expected["kl_from_base"][:2]).all()
    names = [name for name in ("nll", "entropy", *ONE_PASS) if name not in ("min_k_plus_plus", "total_variation_at_most")]
    assert_close(in_parts(z, w, y, *tiling, backend), expected, names)


def test_a_target_without_probability_is_infinitely_surprising():
    z = torch.tensor([[0.0, -torch.inf, 0.0]])
    for backend in BACKENDS:
        made = token_statistics_from_logits(z, torch.tensor([1]), want=("target_rank", "mass_above_target"), backend=backend)
        assert made.nll.tolist() == [math.inf]
        assert made.entropy.tolist() == [1.0]
        assert (made.target_rank.tolist(), made.mass_above_target.tolist()) == ([2.0], [1.0])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_logit_that_is_no_number_is_seen_and_only_in_its_row(backend, bad):
    z, w, y = logits("ordinary", 3, 100)
    z[1, 70] = bad
    made = vars(token_statistics_from_logits(z, y, w, want=EVERYTHING, backend=backend, columns=30))
    for name in ("nll", "entropy", *EVERYTHING):
        assert np.isfinite(made[name][[0, 2]]).all(), name
    for name in ("nll", "entropy", "varentropy", "kl_from_base", "kl_to_base", "bhattacharyya_coefficient", "jensen_shannon"):
        assert np.isnan(made[name][1]), name


def test_one_backend_takes_in_what_another_left():
    z, w, y = logits("ordinary", 5, 900)
    halves = [tokens(y, z, backend=backend) for backend in BACKENDS]
    halves[0].update(z[:, :400].numpy(), 0, w[:, :400].numpy())
    halves[1].update(z[:, 400:], 400, w[:, 400:])
    for merged in (halves[0].merge(halves[1]), halves[1].merge(halves[0])):
        assert_close(vars(merged.result()), by_definition(z, y, w), ONE_PASS)


def test_merging_with_nothing_changes_nothing():
    z, w, y = logits("ordinary", 5, 900)
    whole, nothing = tokens(y, z), tokens(y, z)
    whole.update(z, 0, w)
    for merged in (whole.merge(nothing), nothing.merge(whole)):
        for name, bits in vars(whole.result()).items():
            assert np.array_equal(bits, getattr(merged.result(), name)) if bits is not None else True
    assert nothing.sums is None


def test_uniform_over_eight_by_hand():
    """H_α = 3 bits for every α, no varentropy, Brier 1 − 2/8 + 8/64, nothing above the target."""
    made = token_statistics_from_logits(torch.full((1, 8), 5.0), torch.tensor([3]), want=WANT_OF_MODEL)
    for name in ("min_entropy", "renyi_entropy_2", "renyi_entropy_half"):
        assert getattr(made, name) == pytest.approx([3.0])
    assert made.tsallis_entropy_2 == pytest.approx([7 / 8])
    assert made.brier_score == pytest.approx([7 / 8])
    assert made.varentropy.tolist() == made.min_k_plus_plus.tolist() == made.target_rank.tolist() == [0.0]
    assert made.mass_above_target.tolist() == made.temperature_fisher_information.tolist() == [0.0]


def test_a_biased_coin_by_hand():
    """p = (¾, ¼): −lg p differs by lg 3 between the sides, so its variance is 3/16 lg² 3; y is the unlikely side."""
    z = torch.log(torch.tensor([[0.75, 0.25]]))
    made = token_statistics_from_logits(z, torch.tensor([1]), want=WANT_OF_MODEL)
    assert made.varentropy == pytest.approx([3 / 16 * math.log2(3) ** 2], rel=1e-6)
    assert made.temperature_fisher_information == pytest.approx([3 / 16 * math.log(3) ** 2], rel=1e-6)
    assert made.min_entropy == pytest.approx([math.log2(4 / 3)], rel=1e-6)
    assert made.renyi_entropy_2 == pytest.approx([math.log2(8 / 5)], rel=1e-6)
    assert made.renyi_entropy_half == pytest.approx([2 * math.log2((math.sqrt(3) + 1) / 2)], rel=1e-6)
    assert made.brier_score == pytest.approx([9 / 8], rel=1e-6)
    assert made.min_k_plus_plus == pytest.approx([-math.sqrt(3)], rel=1e-5)
    assert (made.target_rank.tolist(), made.mass_above_target) == ([1.0], pytest.approx([0.75]))


def test_a_base_by_hand():
    """p = (¾, ¼), q = (½, ½): BC = (√3+1)/√8, D_2(p‖q) = lg 5/4, and TV = ¼ lies between its bounds."""
    z, w = torch.log(torch.tensor([[0.75, 0.25]])), torch.zeros(1, 2)
    made = token_statistics_from_logits(z, torch.tensor([0]), w, want=WANT_OF_BASE)
    assert made.bhattacharyya_coefficient == pytest.approx([(math.sqrt(3) + 1) / math.sqrt(8)], rel=1e-6)
    assert made.renyi_divergence_2 == pytest.approx([math.log2(5 / 4)], rel=1e-5)
    assert made.total_variation == pytest.approx([0.25])
    assert made.total_variation_at_least[0] < 0.25 < made.total_variation_at_most[0]


def test_the_bounds_hold_the_total_variation():
    z, w, y = logits("ordinary", 200, 30)
    made = token_statistics_from_logits(z, y, w, want=EVERYTHING)
    assert (made.total_variation_at_least <= made.total_variation).all()
    assert (made.total_variation <= made.total_variation_at_most).all()
    assert (made.renyi_divergence_2 >= made.kl_to_base - 1e-6).all()  # D_α grows with α
    assert (made.min_entropy <= made.renyi_entropy_2 + 1e-6).all()  # H_α falls with α
    assert (made.renyi_entropy_2 <= made.entropy + 1e-6).all()
    assert (made.entropy <= made.renyi_entropy_half + 1e-6).all()


def test_newtons_steps_find_the_temperature():
    """Targets drawn at temperature 2: steps of the NLL of βz from β = 1 end where the mean NLL is least, near ½."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(4_000, 20, generator=generator) * 3
    y = torch.multinomial(torch.softmax(z / 2, 1), 1, generator=generator)[:, 0]

    def at(beta):
        return token_statistics_from_logits(z * beta, y, want=("varentropy",))

    beta = 1.0
    for _ in range(6):
        beta *= 1 + newton_temperature_step(at(beta))
    assert beta == pytest.approx(0.5, abs=0.02)
    assert at(beta).nll.mean() <= min(at(beta * 0.98).nll.mean(), at(beta * 1.02).nll.mean())
    with pytest.raises(ValueError, match="needs the varentropy"):
        newton_temperature_step(token_statistics_from_logits(z, y))


def test_what_is_not_wanted_is_not_made():
    z, w, y = logits("ordinary", 3, 50)
    made = vars(token_statistics_from_logits(z, y, w, want=("kl_from_base",)))
    assert {name for name, bits in made.items() if bits is not None} == {"nll", "entropy", "kl_from_base"}


def test_what_makes_no_sense_is_refused():
    z, w, y = logits("ordinary", 3, 50)
    with pytest.raises(ValueError, match="called entropies; there are nll, entropy"):
        VocabularyStatistics(y, ("entropies",))
    with pytest.raises(ValueError, match="need target_logits_N"):
        VocabularyStatistics(y, ("target_rank",))
    with pytest.raises(ValueError, match="3 targets have 2 target logits"):
        VocabularyStatistics(y, ("target_rank",), target_logits_N=torch.zeros(2))
    statistics = VocabularyStatistics(y)
    with pytest.raises(ValueError, match="nothing to tell"):
        statistics.result()
    with pytest.raises(ValueError, match=r"logits of 3 tokens are \[N, C\]"):
        statistics.update(z[:2], 0)
    with pytest.raises(ValueError, match="exactly where a statistic that compares"):
        statistics.update(z, 0, w)
    with pytest.raises(ValueError, match="exactly where a statistic that compares"):
        VocabularyStatistics(y, ("kl_to_base",)).update(z, 0)
    with pytest.raises(ValueError, match="the base's logits are"):
        VocabularyStatistics(y, ("kl_to_base",)).update(z, 0, w[:, :5])
    statistics.update(z[:, :5], 0)
    with pytest.raises(ValueError, match="columns 4 to 8 overlap columns 0 to 4"):
        statistics.update(z[:, 4:9], 4)
    with pytest.raises(ValueError, match="which is in no column that was taken in"):
        statistics.result()
    with pytest.raises(ValueError, match="overlap"):
        statistics.merge(statistics)
    with pytest.raises(ValueError, match="the same targets"):
        statistics.merge(VocabularyStatistics(y + 1))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_tile_without_columns_changes_nothing_and_a_vocabulary_of_one_token_is_certain(backend):
    statistics = VocabularyStatistics(torch.tensor([0, 0]), ("varentropy",), backend)
    statistics.update(torch.empty(2, 0), 0)
    with pytest.raises(ValueError, match="no logits were taken in"):
        statistics.result()
    statistics.update(torch.tensor([[3.0], [-1e30]]), 0)
    statistics.update(torch.empty(2, 0), 0)
    made = statistics.result()
    assert made.nll.tolist() == made.entropy.tolist() == made.varentropy.tolist() == [0, 0]


def test_the_reference_ranks_logits_of_fp64_that_fp32_cannot_tell_apart():
    z = torch.tensor([[1.0, 1.0 + 1e-12, 1.0 - 1e-12]], dtype=torch.float64)
    made = token_statistics_from_logits(z, torch.tensor([0]), want=("target_rank",), backend="numpy")
    assert made.target_rank.tolist() == [1]
