import math

import numpy as np
import pytest
import torch

from worker.information.vocabulary import result
from worker.information.vocabulary.head import Head
from worker.information.vocabulary.threads import Threads
from worker.information.vocabulary.tokens import token_statistics, token_statistics_from_logits

NATS = math.log(2)


def by_definition(z_NV, y_N, w_NV=None):
    """Two passes in float64 over the same numbers, in nats."""

    def log_softmax(a):
        a = np.asarray(a, dtype=np.float64)
        a = a - a.max(1, keepdims=True)
        return a - np.log(np.exp(a).sum(1, keepdims=True))

    lp = log_softmax(z_NV)
    p, rows = np.exp(lp), np.arange(len(lp))
    made = {"nll": -lp[rows, y_N], "entropy": -(p * lp).sum(1)}
    if w_NV is None:
        return made
    lq = log_softmax(w_NV)
    q = np.exp(lq)
    return made | {
        "kl_from_base": (q * (lq - lp)).sum(1),
        "kl_to_base": (p * (lp - lq)).sum(1),
        "base_nll": -lq[rows, y_N],
        "base_entropy": -(q * lq).sum(1),
    }


def assert_close(statistics, nats, tolerance=2e-5):
    for name, expected_N in nats.items():
        error = np.abs(getattr(statistics, name) * NATS - expected_N).max()
        assert error <= tolerance, f"{name} is {error:.1e} nats off"


def logits_of(probabilities_NV):
    return torch.log(torch.tensor(probabilities_NV, dtype=torch.float32))


REGIMES = {
    "flat": (0.01, 0.0),
    "ordinary": (3.0, 0.0),
    "peaked": (6.0, 0.0),
    "offset by 1e4": (3.0, 1e4),
    "at -200": (3.0, -200.0),
}


@pytest.mark.parametrize("regime", REGIMES)
def test_agrees_with_two_passes_in_float64(regime):
    spread, offset = REGIMES[regime]
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(20, 32_000, generator=generator) * spread + offset
    w = torch.randn(20, 32_000, generator=generator) * spread + offset
    y = torch.randint(0, 32_000, (20,), generator=generator)
    assert_close(token_statistics_from_logits(z, y, w, rows=8), by_definition(z.numpy(), y.numpy(), w.numpy()))


def test_a_divergence_of_many_nats_is_right_to_half_a_millionth():
    z, w = torch.randn(2, 20, 32_000, generator=torch.Generator().manual_seed(0)) * 12
    exact = by_definition(z.numpy(), np.zeros(20, dtype=int), w.numpy())
    statistics = token_statistics_from_logits(z, torch.zeros(20, dtype=torch.long), w)
    assert exact["kl_from_base"].max() > 50
    np.testing.assert_allclose(statistics.kl_from_base * NATS, exact["kl_from_base"], rtol=5e-7)
    np.testing.assert_allclose(statistics.kl_to_base * NATS, exact["kl_to_base"], rtol=5e-7)


def test_a_small_divergence_keeps_its_digits():
    generator = torch.Generator().manual_seed(1)
    w = torch.randn(50, 8_000, generator=generator) * 3
    z = w + 1e-3 * torch.randn(50, 8_000, generator=generator)
    y = torch.zeros(50, dtype=torch.long)
    exact = by_definition(z.numpy(), y.numpy(), w.numpy())
    assert 1e-7 < exact["kl_to_base"].mean() < 1e-6
    statistics = token_statistics_from_logits(z, y, w)
    assert_close(statistics, exact, tolerance=1e-6)
    # of the mean the rounding errors cancel in part
    assert statistics.kl_to_base.mean() * NATS == pytest.approx(exact["kl_to_base"].mean(), rel=0.1)


def test_uniform_over_eight_is_three_bits():
    statistics = token_statistics_from_logits(torch.full((1, 8), 5.0), torch.tensor([3]))
    assert statistics.entropy[0] == pytest.approx(3)
    assert statistics.nll[0] == pytest.approx(3)
    assert statistics.kl_from_base is None


def test_entropy_of_halves_quarters_and_eighths():
    statistics = token_statistics_from_logits(logits_of([[1 / 2, 1 / 4, 1 / 8, 1 / 8]]), torch.tensor([2]))
    assert statistics.entropy[0] == pytest.approx(1.75)
    assert statistics.nll[0] == pytest.approx(3)


def test_divergence_of_two_coins_in_both_directions():
    """Bern(½)‖Bern(¼) = 1 − ½ lg 3; the base is the first in kl_from_base and the second in kl_to_base."""
    model, base = logits_of([[0.75, 0.25]]), logits_of([[0.5, 0.5]])
    statistics = token_statistics_from_logits(model, torch.tensor([0]), base)
    assert statistics.kl_from_base[0] == pytest.approx(1 - math.log2(3) / 2, abs=1e-6)
    assert statistics.kl_to_base[0] == pytest.approx(0.18872, abs=1e-5)
    assert statistics.base_nll[0] == pytest.approx(1)
    assert statistics.base_entropy[0] == pytest.approx(1)
    assert statistics.nll[0] == pytest.approx(2 - math.log2(3), abs=1e-6)


def test_the_same_logits_are_exactly_no_divergence_apart():
    z = torch.randn(7, 1000, generator=torch.Generator().manual_seed(2)) * 9
    statistics = token_statistics_from_logits(z, torch.zeros(7, dtype=torch.long), z.clone())
    assert statistics.kl_from_base.tolist() == statistics.kl_to_base.tolist() == [0.0] * 7


def test_divergence_bounds():
    """0 ≤ H ≤ lg V, 0 ≤ D, and D(p‖q) ≤ max lg(p/q)."""
    generator = torch.Generator().manual_seed(3)
    z, w = torch.randn(2, 200, 50, generator=generator) * 4
    statistics = token_statistics_from_logits(z, torch.zeros(200, dtype=torch.long), w)
    largest = (torch.log_softmax(z, 1) - torch.log_softmax(w, 1)).amax(1).numpy() / NATS
    assert (statistics.entropy >= 0).all()
    assert (statistics.entropy <= math.log2(50)).all()
    assert (statistics.kl_from_base >= 0).all()
    assert (statistics.kl_to_base >= 0).all()
    assert (statistics.kl_to_base <= largest + 1e-5).all()


def test_only_rounding_is_clipped():
    clipped = result._not_below_zero(np.array([-1e-7, -1e-2, 0.3, float("nan")]))
    assert clipped[:3].tolist() == pytest.approx([0.0, -1e-2, 0.3])
    assert math.isnan(clipped[3])


def test_cross_entropy_is_entropy_plus_divergence():
    """E_q[−lg p] = H(q) + D(q‖p), summed by hand over the targets."""
    z, w = torch.randn(2, 1, 6, generator=torch.Generator().manual_seed(4))
    every_target = token_statistics_from_logits(z.expand(6, 6), torch.arange(6), w.expand(6, 6))
    q = torch.softmax(w[0].double(), 0).numpy()
    cross = (q * every_target.nll).sum()
    assert cross == pytest.approx(every_target.base_entropy[0] + every_target.kl_from_base[0], abs=1e-6)


def small_heads(vocabulary=None):
    generator = torch.Generator().manual_seed(5)
    head = Head(torch.randn(40, 16, generator=generator), torch.randn(40, generator=generator), 0.5, 7.0, vocabulary)
    base = Head(torch.randn(40, 24, generator=generator), vocabulary=vocabulary)
    hidden, base_hidden = torch.randn(11, 16, generator=generator), torch.randn(11, 24, generator=generator)
    return hidden, head, base_hidden, base, torch.randint(0, 30, (11,), generator=generator)


@pytest.mark.parametrize("rows", [1, 4, 11, 64])
def test_head_with_bias_scale_and_softcap_on_any_chunk_size(rows):
    hidden, head, base_hidden, base, y = small_heads()
    z = 7 * torch.tanh(0.5 * (hidden @ head.weight_VD.T + head.bias_V) / 7)
    w = base_hidden @ base.weight_VD.T
    statistics = token_statistics(hidden, head, y, base_hidden, base, rows=rows)
    assert_close(statistics, by_definition(z.numpy(), y.numpy(), w.numpy()))


def test_padded_rows_get_no_probability():
    hidden, head, base_hidden, base, y = small_heads(vocabulary=30)
    z = (7 * torch.tanh(0.5 * (hidden @ head.weight_VD.T + head.bias_V) / 7))[:, :30]
    w = (base_hidden @ base.weight_VD.T)[:, :30]
    expected = by_definition(z.numpy(), y.numpy(), w.numpy())
    assert_close(token_statistics(hidden, head, y, base_hidden, base), expected)
    padded = torch.nn.functional.pad(z, (0, 10), value=50.0)
    assert_close(token_statistics_from_logits(padded, y, torch.nn.functional.pad(w, (0, 3)), vocabulary=30), expected)


def test_bf16_states_and_weights_are_multiplied_in_fp32():
    generator = torch.Generator().manual_seed(6)
    hidden = torch.randn(9, 64, generator=generator).bfloat16()
    weight = torch.randn(500, 64, generator=generator).bfloat16()
    y = torch.randint(0, 500, (9,), generator=generator)
    exact = by_definition((hidden.double() @ weight.double().T).numpy(), y.numpy())
    assert_close(token_statistics(hidden, Head(weight), y), exact)
    rounded = by_definition((hidden @ weight.T).float().numpy(), y.numpy())
    assert np.abs(rounded["nll"] - exact["nll"]).max() > 1e-3  # what bf16 logits would have cost


def test_a_coarser_setting_for_products_is_overruled_and_comes_back():
    hidden, head, _, _, y = small_heads()
    seen = []
    matmul, torch.mm = torch.mm, lambda *a, **k: (seen.append(torch.backends.mkldnn.matmul.fp32_precision), matmul(*a, **k))[1]
    before = torch.backends.mkldnn.matmul.fp32_precision
    try:
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"
        token_statistics(hidden, head, y)
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    finally:
        torch.mm = matmul
        torch.backends.mkldnn.matmul.fp32_precision = before
    assert seen == ["ieee"]


def largest_allocations(N, rows, V=5_000, columns=1_000):
    """How often anything as large as a tile of logits was allocated, by the profiler's account."""
    generator = torch.Generator().manual_seed(7)
    hidden, weight = torch.randn(N, 8, generator=generator), torch.randn(V, 8, generator=generator)
    y = torch.zeros(N, dtype=torch.long)
    head = Head(weight, scale=2.0, softcap=30.0)
    with torch.profiler.profile(profile_memory=True, record_shapes=False) as profile:
        token_statistics(hidden, head, y, hidden, head, rows=rows, columns=columns)
    return [e.self_cpu_memory_usage for e in profile.events() if e.self_cpu_memory_usage >= rows * columns * 4]


@pytest.mark.filterwarnings("default")  # the profiler warns of its own deprecated parts
def test_buffers_are_allocated_once_whatever_the_number_of_tiles():
    assert largest_allocations(N=64, rows=16) == [7 * 16 * 1_000 * 4] * torch.get_num_threads()
    assert largest_allocations(N=256, rows=16) == [7 * 16 * 1_000 * 4] * torch.get_num_threads()


def test_two_threads_give_what_one_gives_and_torch_its_threads_back():
    generator = torch.Generator().manual_seed(9)
    z, w = torch.randn(2, 50, 3_000, generator=generator) * 3
    y = torch.randint(0, 3_000, (50,), generator=generator)
    before = torch.get_num_threads()
    made = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            made.append(token_statistics_from_logits(z, y, w, rows=4, columns=1_000))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(before)
    for name in ("nll", "entropy", "kl_from_base", "kl_to_base"):
        assert getattr(made[0], name).tolist() == getattr(made[1], name).tolist()


def test_what_goes_wrong_in_a_thread_is_raised_outside():
    def work(part, buffers):
        raise ArithmeticError("in a thread")

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(ArithmeticError, match="in a thread"), Threads(lambda: None, torch.device("cpu")) as threads:
            threads.over(4, 1, work)
    finally:
        torch.set_num_threads(before)


def test_total_variation_and_jensen_shannon_come_of_a_second_pass():
    """Coins of ¾ and ½: TV = ¼, JS = h(⅝) − ½h(¾) − ½; of nothing in common TV = JS = 1; of one with itself 0 exactly."""

    def h(p):
        return -p * math.log2(p) - (1 - p) * math.log2(1 - p)

    z, w = logits_of([[0.75, 0.25], [1, 0], [0.3, 0.7]]), logits_of([[0.5, 0.5], [0, 1], [0.3, 0.7]])
    want = ("total_variation", "jensen_shannon")
    statistics = token_statistics_from_logits(z, torch.zeros(3, dtype=torch.long), w, want=want)
    assert statistics.total_variation == pytest.approx([0.25, 1, 0], abs=1e-7)
    assert statistics.jensen_shannon == pytest.approx([h(5 / 8) - h(3 / 4) / 2 - 1 / 2, 1, 0], abs=1e-6)
    assert statistics.total_variation[2] == statistics.jensen_shannon[2] == 0
    assert statistics.base_nll is None


def test_a_second_pass_needs_a_base():
    with pytest.raises(ValueError, match="total_variation compare with a base, and none came"):
        token_statistics_from_logits(torch.zeros(1, 2), torch.tensor([0]), want=("total_variation",))


def test_rank_from_hidden_states_never_counts_the_target_itself():
    """The target's logit is made first, by another product, which may round below the tile's."""
    generator = torch.Generator().manual_seed(10)
    hidden, weight = torch.randn(300, 64, generator=generator), torch.randn(900, 64, generator=generator)
    z = hidden @ weight.T
    y = z.argmax(1)
    first = token_statistics(hidden, Head(weight, softcap=5.0), y, want=("target_rank", "mass_above_target"), columns=100)
    assert first.target_rank.tolist() == first.mass_above_target.tolist() == [0] * 300
    y = torch.randint(0, 900, (300,), generator=generator)
    ranks = token_statistics(hidden, Head(weight), y, want=("target_rank",), columns=100, rows=7).target_rank
    assert ranks.tolist() == (z > z.gather(1, y[:, None])).sum(1).tolist()


def test_no_tokens_no_statistics():
    statistics = token_statistics(torch.empty(0, 4), Head(torch.ones(5, 4)), torch.empty(0, dtype=torch.long))
    assert statistics.nll.shape == statistics.entropy.shape == (0,)


def test_inputs_are_left_as_they_were():
    z = torch.randn(5, 9, generator=torch.Generator().manual_seed(8))
    before = z.clone()
    token_statistics_from_logits(z, torch.zeros(5, dtype=torch.long), z)
    assert torch.equal(z, before)


def test_what_cannot_be_compared_is_refused():
    hidden, head, base_hidden, base, y = small_heads()
    with pytest.raises(ValueError, match="vocabulary"):
        token_statistics(hidden, head, y, base_hidden, Head(base.weight_VD, vocabulary=30))
    with pytest.raises(ValueError, match="tokens"):
        token_statistics(hidden, head, y, base_hidden[:5], base)
    with pytest.raises(ValueError, match="without the other"):
        token_statistics(hidden, head, y, base_hidden)
    with pytest.raises(ValueError, match="targets must lie in 0 to 29"):
        token_statistics(hidden, Head(head.weight_VD, vocabulary=30), torch.full((11,), 30))
