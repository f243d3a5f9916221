"""What flows from one sequence into another: information that follows the arrow of time.

Shapes: T symbols of a sample, N tokens. The joint distribution of two sequences of n symbols has 2n axes, x_1 … x_n, y_1 … y_n.
A window of order k is one of x_{t−k}, …, x_t, y_{t−k}, …, y_t. In bits.

Sources: Marko 1973; Massey 1990; Kramer 1998; Massey and Massey 2005 (conservation); Schreiber 2000 (transfer entropy).
"""

import numpy as np
from numpy.typing import ArrayLike

from worker.information.bottleneck import pointwise_usable_information
from worker.information.distributions import not_below_zero, plain_entropy, probabilities


def directed_information(joint: ArrayLike) -> float:
    """I(Xⁿ → Yⁿ) = Σ_i I(X^i; Y_i | Y^{i−1}), bits: what x up to and with the present tells about each y beyond y's own past.

    0 ≤ I(Xⁿ → Yⁿ) ≤ I(Xⁿ; Yⁿ), and the rest is what flows back: I(Xⁿ; Yⁿ) = I(Xⁿ → Yⁿ) + delayed_directed_information, Massey and
    Massey 2005. Massey 1990.
    """
    joint, n = _sequences(joint)
    return not_below_zero(_entropy(joint, range(n, 2 * n)) - _causal(joint, n))


def causally_conditioned_entropy(joint: ArrayLike) -> float:
    """H(Yⁿ ‖ Xⁿ) = Σ_i H(Y_i | Y^{i−1}, X^i), bits: what is left of y to one who hears x as it comes. Kramer 1998."""
    joint, n = _sequences(joint)
    return not_below_zero(_causal(joint, n))


def delayed_directed_information(joint: ArrayLike) -> float:
    """I(0∗Y^{n−1} → Xⁿ) = Σ_i I(Y^{i−1}; X_i | X^{i−1}), bits: what flows back, y's strict past into each x."""
    joint, n = _sequences(joint)
    delayed = sum(
        _entropy(joint, [*range(i + 1), *range(n, n + i)]) - _entropy(joint, [*range(i), *range(n, n + i)]) for i in range(n)
    )
    return not_below_zero(_entropy(joint, range(n)) - delayed)


def directed_information_rate(window: ArrayLike) -> float:
    """I(X_{t−k..t}; Y_t | Y_{t−k..t−1}), bits a step, from the window's distribution: Massey's rate where k symbols are all
    that y remembers, of both sequences and of itself alone. A copy Y = X of fair coins gives 1.
    """
    window, n = _sequences(window)
    past = range(n, 2 * n - 1)
    return _conditional_information(window, range(n), [2 * n - 1], past)


def transfer_entropy(window: ArrayLike) -> float:
    """I(X_{t−k..t−1}; Y_t | Y_{t−k..t−1}), bits a step: as the rate, without the present x. A copy Y = X of coins gives 0.

    For Gaussians half of Granger's causality (in nats), Barnett, Barrett and Seth 2009. Schreiber 2000.
    """
    window, n = _sequences(window)
    past = range(n, 2 * n - 1)
    return _conditional_information(window, range(n - 1), [2 * n - 1], past)


def empirical_directed_information_rate(x_T: ArrayLike, y_T: ArrayLike, order: int) -> float:
    """directed_information_rate of the windows seen, bits a step. Plug-in: biased upwards where windows are rare."""
    x_windows, y_windows = _windows(x_T, y_T, order)
    return _plug_in(x_windows, y_windows)


def empirical_transfer_entropy(x_T: ArrayLike, y_T: ArrayLike, order: int) -> float:
    """transfer_entropy of the windows seen, bits a step. Plug-in, and biased upwards: compare with that of a shuffled x."""
    x_windows, y_windows = _windows(x_T, y_T, order)
    return _plug_in(x_windows[:, :-1], y_windows)


def model_directed_information(blind_nll_bits_N: ArrayLike, causal_nll_bits_N: ArrayLike) -> float:
    """Σ lg p(y_i | y_<i, x_≤i) − lg p(y_i | y_<i), bits of the whole text: what a language model gains on the answers' tokens y
    from the user's turns x that came before. A sample of Massey's sum under the model; negative where the turns mislead it.
    """
    return float(pointwise_usable_information(blind_nll_bits_N, causal_nll_bits_N).sum())


def _sequences(joint: ArrayLike) -> tuple[np.ndarray, int]:
    joint = probabilities(joint)
    if joint.ndim == 0 or joint.ndim % 2:
        raise ValueError(f"two sequences of n symbols have a joint distribution of 2n axes, this array has {joint.ndim}")
    return joint, joint.ndim // 2


def _causal(joint: np.ndarray, n: int) -> float:
    """Σ_i H(Y_i | Y^{i−1}, X^i)."""
    return sum(
        _entropy(joint, [*range(i + 1), *range(n, n + i + 1)]) - _entropy(joint, [*range(i + 1), *range(n, n + i)])
        for i in range(n)
    )


def _conditional_information(joint: np.ndarray, a: range, b: list[int], given: range) -> float:
    both = _entropy(joint, [*a, *given]) + _entropy(joint, [*b, *given])
    return not_below_zero(both - _entropy(joint, [*a, *b, *given]) - _entropy(joint, given))


def _entropy(joint: np.ndarray, axes: range | list[int]) -> float:
    rest = tuple(axis for axis in range(joint.ndim) if axis not in axes)
    return plain_entropy(joint.sum(axis=rest))


def _windows(x_T: ArrayLike, y_T: ArrayLike, order: int) -> tuple[np.ndarray, np.ndarray]:
    x_T, y_T = np.asarray(x_T), np.asarray(y_T)
    if x_T.ndim != 1 or x_T.shape != y_T.shape:
        raise ValueError(f"the sequences must be one-dimensional and as long as each other, they are {x_T.shape} and {y_T.shape}")
    if order < 0 or len(x_T) <= order:
        raise ValueError(f"windows of order {order} need more than {order} symbols and an order ≥ 0, there are {len(x_T)}")
    coded = (np.unique(symbols_T, return_inverse=True)[1] for symbols_T in (x_T, y_T))
    x_windows, y_windows = (np.lib.stride_tricks.sliding_window_view(codes_T, order + 1) for codes_T in coded)
    return x_windows, y_windows


def _plug_in(x_windows: np.ndarray, y_windows: np.ndarray) -> float:
    """I(X; Y_t | Y_<t) of equally likely rows."""
    past, together = y_windows[:, :-1], np.hstack([x_windows, y_windows])
    both = _row_entropy(together[:, :-1]) + _row_entropy(y_windows)
    return not_below_zero(both - _row_entropy(together) - _row_entropy(past))


def _row_entropy(rows: np.ndarray) -> float:
    if rows.shape[1] == 0:
        return 0.0
    _, counts_K = np.unique(rows, axis=0, return_counts=True)
    return plain_entropy(counts_K / len(rows))
