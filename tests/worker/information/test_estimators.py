import math
from collections import Counter
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.information.estimators import (
    ESTIMATORS,
    block_entropies_from_counts,
    chao_shen,
    chao_wang_jost,
    conditional_entropy_from_counts,
    coverage,
    empirical_entropy,
    empirical_entropy_bias,
    entropy_from_counts,
    entropy_rate_from_counts,
    grassberger,
    james_stein,
    miller_madow,
    mutual_information_from_counts,
)

counts = st.lists(st.integers(0, 40), min_size=1, max_size=30).filter(any)


def entropy(p):
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum())


def zipf(s):
    weights_V = np.arange(1, 32001.0) ** -s
    return weights_V / weights_V.sum()


def kgram_counts(symbols, k):
    return list(Counter(zip(*(symbols[i : len(symbols) - k + 1 + i] for i in range(k)), strict=True)).values())


def test_the_letters_of_mississippi():
    assert empirical_entropy([1, 4, 4, 2]) == pytest.approx(1.8231, abs=5e-5)


def test_miller_madow_adds_half_a_nat_a_category_and_draw():
    # three categories beyond the first, 11 draws: 3/22 nat
    assert miller_madow([1, 4, 4, 2]) == pytest.approx(empirical_entropy([1, 4, 4, 2]) + 3 / 22 / math.log(2))


def test_miller_madow_does_not_know_what_was_never_seen():
    assert miller_madow([1, 4, 4, 2, 0, 0]) == miller_madow([1, 4, 4, 2])


def test_the_first_order_bias_is_that_of_the_mean_over_all_samples():
    """Ten categories and 200 draws: the exact mean of the plug-in entropy, by the binomial law of each count."""
    N, K = 200, 10
    n = np.arange(N + 1)
    p_n = np.array([math.comb(N, k) * (1 / K) ** k * (1 - 1 / K) ** (N - k) for k in range(N + 1)])
    mean = -K * (p_n[1:] * (n[1:] / N) * np.log2(n[1:] / N)).sum()
    assert empirical_entropy_bias(K, N) == pytest.approx(mean - math.log2(K), rel=0.03)


def test_grassbergers_g_by_its_recursion():
    # G(1) = −γ − ln 2, G(2) = 2 − γ − ln 2, G(2n+1) = G(2n) and G(2n+2) = G(2n) + 2/(2n+1)
    G = {1: -np.euler_gamma - math.log(2), 2: 2 - np.euler_gamma - math.log(2)}
    for n in range(3, 12):
        G[n] = G[n - 1] if n % 2 else G[n - 2] + 2 / (n - 1)
    counts_K = [1, 4, 4, 2, 7, 10]
    N = sum(counts_K)
    expected = (math.log(N) - sum(n * G[n] for n in counts_K) / N) / math.log(2)
    assert grassberger(counts_K) == pytest.approx(expected, rel=1e-12)


def test_chao_shen_by_hand():
    # f1 = 1, N = 4, coverage ¾: p̃ = 9/16 and 3/16
    by_hand = sum(-p * math.log2(p) / (1 - (1 - p) ** 4) for p in (9 / 16, 3 / 16))
    assert chao_shen([3, 1]) == pytest.approx(by_hand)


def test_chao_shen_of_nothing_but_singletons_is_finite():
    # f1 is taken as 3 of 4: p̃ = 1/16 for each
    assert chao_shen([1, 1, 1, 1]) == pytest.approx(4 * (1 / 16) * 4 / (1 - (15 / 16) ** 4))


@pytest.mark.parametrize("counts_K", [[3, 1], [1, 4, 4, 2], [1, 1, 1, 1], [5, 1, 1, 2, 2, 2], [1], [9, 9]])
def test_chao_wang_jost_is_the_formula_of_the_paper(counts_K):
    assert chao_wang_jost(counts_K) == pytest.approx(paper(counts_K), rel=1e-12, abs=1e-15)


def test_chao_wang_jost_keeps_its_digits_where_the_printed_formula_loses_them():
    counts_K = [1] + [2] * 60 + [3] * 40  # 2 f2/f1 = 120, so that the printed form multiplies a rest of e^−120 by e^120
    assert chao_wang_jost(counts_K) == pytest.approx(paper(counts_K), rel=1e-12)


def paper(counts_K):
    """As printed, with 150 digits."""
    with localcontext(prec=150):
        N, f1, f2 = sum(counts_K), counts_K.count(1), counts_K.count(2)
        nats = sum(Decimal(n) / N * sum(Decimal(1) / k for k in range(n, N)) for n in counts_K)
        A = Decimal(2 * f2) / ((N - 1) * f1 + 2 * f2) if f2 else Decimal(2) / ((N - 1) * (f1 - 1) + 2)
        if f1 > 0 and A < 1:
            rest = -A.ln() - sum((1 - A) ** r / r for r in range(1, N))
            nats += Decimal(f1) / N * (1 - A) ** (1 - N) * rest
        return float(nats / Decimal(2).ln())


def test_james_stein_shrinks_towards_the_uniform_law_of_the_whole_alphabet():
    # p = (¾, ¼, 0, 0), N = 4: λ = (1 − 10/16) / (3 · (4 + 0 + 1 + 1)/16) = (6/16)/(18/16) = ⅓
    shrunk = np.array([1 / 12 + 1 / 2, 1 / 12 + 1 / 6, 1 / 12, 1 / 12])
    assert james_stein([3, 1, 0, 0]) == pytest.approx(entropy(shrunk))
    assert james_stein([3, 1, 0, 0]) > james_stein([3, 1])


def test_james_stein_of_even_counts_is_the_uniform_law():
    assert james_stein([2, 2, 2, 2]) == pytest.approx(2)


@pytest.mark.parametrize(
    ("s", "N", "biases"),
    [
        (1.0, 1_000, (-2.43, -2.02, -1.62, -1.51, -1.49, -0.89)),
        (1.0, 10_000, (-1.00, -0.73, -0.90, -0.46, -0.39, -0.23)),
        (1.0, 100_000, (-0.234, -0.114, -0.226, -0.037, 0.127, -0.016)),
        (1.2, 100_000, (-0.168, -0.103, -0.165, -0.052, 0.142, -0.027)),
    ],
)
def test_the_bias_on_zipf_tokens_is_as_published(s, N, biases):
    """Within four standard deviations of one draw of the design's table, and in its order."""
    names = ("empirical_entropy", "miller_madow", "james_stein", "grassberger", "chao_shen", "chao_wang_jost")
    p_V = zipf(s)
    rng = np.random.default_rng(20)
    draws = [rng.multinomial(N, p_V) for _ in range(6)]
    bias = {name: np.array([ESTIMATORS[name](draw) for draw in draws]) - entropy(p_V) for name in names}
    for name, published in zip(names, biases, strict=True):
        assert abs(bias[name].mean() - published) < 4 * bias[name].std(ddof=1), name
    order = [bias[name].mean() for name in ("empirical_entropy", "miller_madow", "grassberger", "chao_shen")]
    assert order == sorted(order)
    assert bias["empirical_entropy"].mean() < bias["james_stein"].mean() < bias["grassberger"].mean()
    assert min(bias, key=lambda name: abs(bias[name].mean())) == "chao_wang_jost"


def test_chao_shen_overshoots_the_zipf_tail_where_the_default_does_not():
    p_V = zipf(1.2)
    draw = np.random.default_rng(21).multinomial(100_000, p_V)
    assert chao_shen(draw) > entropy(p_V) + 0.1
    assert entropy(p_V) - 0.06 < chao_wang_jost(draw) < entropy(p_V)


def test_coverage_is_the_probability_of_what_was_seen():
    assert coverage([1, 4, 4, 2]) == 10 / 11
    assert coverage([1, 1, 1]) == 0
    p_V = zipf(1.0)
    draw = np.random.default_rng(22).multinomial(10_000, p_V)
    assert coverage(draw) == pytest.approx(p_V[draw > 0].sum(), abs=0.01)


def test_an_entropy_of_a_sample_that_covers_too_little_is_a_lower_bound():
    p_V = zipf(1.0)
    rng = np.random.default_rng(23)
    few, many = (entropy_from_counts(rng.multinomial(N, p_V)) for N in (10_000, 1_000_000))
    assert few.coverage < 0.9
    assert (few.bound, few.value < entropy(p_V)) == ("lower", True)
    assert many.coverage > 0.9
    assert many.bound is None
    assert many.value == pytest.approx(entropy(p_V), abs=0.01)


@pytest.mark.parametrize(("counts_K", "bound"), [([9, 1], None), ([8, 1, 1], "lower")])
def test_the_label_begins_just_below_nine_tenths(counts_K, bound):
    assert entropy_from_counts(counts_K).bound == bound


def test_the_default_is_chao_wang_jost_and_others_go_by_name():
    assert entropy_from_counts([3, 1]).value == chao_wang_jost([3, 1])
    for name, estimator in ESTIMATORS.items():
        assert entropy_from_counts([3, 1], name).value == estimator([3, 1])
    with pytest.raises(ValueError, match=r"no entropy estimator 'nsb'; there are chao_wang_jost, grassberger"):
        entropy_from_counts([3, 1], "nsb")


def test_the_textbook_table_of_counts():
    # Cover & Thomas, example 2.2.1, as counts of 32; rows are Y, columns X: H(X|Y) = 11/8 and I = 3/8
    counts_YX = [[4, 2, 1, 1], [2, 4, 1, 1], [2, 2, 2, 2], [8, 0, 0, 0]]
    assert conditional_entropy_from_counts(counts_YX, "empirical_entropy").value == pytest.approx(11 / 8)
    assert conditional_entropy_from_counts(np.transpose(counts_YX), "empirical_entropy").value == pytest.approx(13 / 8)
    assert mutual_information_from_counts(counts_YX, "empirical_entropy").value == pytest.approx(3 / 8)


def test_corrected_differences_are_nearer_the_truth_than_plain_ones():
    """A binary symmetric channel seen 200 times, beside 30 outcomes that are pure noise."""
    joint = np.kron([[0.445, 0.055], [0.055, 0.445]], np.full(30, 1 / 30)[None, :])
    rng = np.random.default_rng(24)
    tables = [rng.multinomial(200, joint.ravel()).reshape(joint.shape) for _ in range(60)]
    information, conditional = 0.5000840, entropy(joint.ravel()) - 1
    for measure, truth in ((mutual_information_from_counts, information), (conditional_entropy_from_counts, conditional)):
        plain = np.mean([measure(table, "empirical_entropy").value for table in tables]) - truth
        corrected = np.mean([measure(table, "grassberger").value for table in tables]) - truth
        assert abs(plain) > 0.15
        assert abs(corrected) < 0.07


def test_too_few_pairs_bound_the_information_above_and_the_conditional_entropy_below():
    table = np.eye(8, dtype=int)  # eight pairs, each once: they look like a copy
    assert mutual_information_from_counts(table).bound == "upper"
    assert conditional_entropy_from_counts(table).bound == "lower"
    assert mutual_information_from_counts(table).coverage == 0


def test_the_entropy_rate_of_a_markov_chain():
    """Two states that change with .1 and .3: h = ¾ h(.1) + ¼ h(.3) = .57207 from blocks of two on."""
    rng = np.random.default_rng(25)
    uniform = rng.random(200_000)
    chain = [0]
    for u in uniform:
        chain.append(chain[-1] ^ int(u < (0.1, 0.3)[chain[-1]]))
    blocks = [kgram_counts(chain, k) for k in range(1, 5)]
    entropies = [block.value for block in block_entropies_from_counts(blocks)]
    assert entropies[0] == pytest.approx(entropy(np.array([0.75, 0.25])), abs=0.01)
    for k in (2, 3, 4):
        rate = entropy_rate_from_counts(blocks[:k])
        assert rate.value == pytest.approx(0.57207, abs=0.005)
        assert rate.value == pytest.approx(entropies[k - 1] - entropies[k - 2])
        assert rate.bound is None
    assert entropy_rate_from_counts(blocks[:1]).value == entropies[0]


def test_blocks_too_long_for_the_sample_say_so():
    symbols = np.random.default_rng(26).integers(0, 8, 300).tolist()
    rate = entropy_rate_from_counts([kgram_counts(symbols, k) for k in (1, 2, 3, 4)], "empirical_entropy")
    assert rate.value < 1  # the truth is 3
    assert rate.bound == "lower"


@given(counts)
@settings(max_examples=100, deadline=None)
def test_plain_entropy_is_below_miller_madow_and_between_0_and_hartley(counts_K):
    H, seen = empirical_entropy(counts_K), np.count_nonzero(counts_K)
    assert -1e-12 <= H <= math.log2(seen) + 1e-12
    assert miller_madow(counts_K) >= H
    assert H - 1e-12 <= james_stein(counts_K) <= math.log2(len(counts_K)) + 1e-12


@given(counts)
@settings(max_examples=60, deadline=None)
def test_the_default_is_above_plain_entropy_and_finite(counts_K):
    assert empirical_entropy(counts_K) - 1e-12 <= chao_wang_jost(counts_K) < math.inf
    assert empirical_entropy(counts_K) - 1e-12 <= chao_shen(counts_K) < math.inf


@given(counts, st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_the_order_of_categories_tells_nothing_and_unseen_ones_matter_to_james_stein_alone(counts_K, random):
    shuffled = [*counts_K]
    random.shuffle(shuffled)
    for name, estimator in ESTIMATORS.items():
        assert estimator(shuffled) == pytest.approx(estimator(counts_K), abs=1e-12)
        if name != "james_stein":
            assert estimator([*counts_K, 0, 0]) == estimator(counts_K)


@pytest.mark.parametrize("estimator", ESTIMATORS.values())
def test_many_draws_bring_every_estimator_to_the_truth(estimator):
    assert estimator([5_000_000, 2_500_000, 1_250_000, 1_250_000]) == pytest.approx(1.75, abs=1e-5)


@pytest.mark.parametrize("estimator", [*ESTIMATORS.values(), coverage])
@pytest.mark.parametrize("broken", [[-1, 2], [0.5, 1], [math.nan, 1], [math.inf, 1], ["a", "b"]])
def test_counts_are_whole_numbers(estimator, broken):
    with pytest.raises(ValueError, match="whole numbers"):
        estimator(broken)


@pytest.mark.parametrize("estimator", [*ESTIMATORS.values(), coverage])
@pytest.mark.parametrize("nothing", [[], [0, 0]])
def test_nothing_counted_is_an_error(estimator, nothing):
    with pytest.raises(ValueError, match="nothing was counted"):
        estimator(nothing)


def test_what_is_not_a_table_is_refused():
    with pytest.raises(ValueError, match=r"two axes.*\(3,\)"):
        mutual_information_from_counts([1, 2, 3])
    with pytest.raises(ValueError, match="whole numbers"):
        mutual_information_from_counts([["a", "b"], ["c", "d"]])
    with pytest.raises(ValueError, match="1-grams"):
        entropy_rate_from_counts([])
    with pytest.raises(ValueError, match="at least 1 category"):
        empirical_entropy_bias(3, 0)
