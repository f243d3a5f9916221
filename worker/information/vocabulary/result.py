"""From the sums of one pass to what they say of each token.

Nothing here subtracts large numbers: lg s and −t1/s are both ≥ 0, so the entropy has no cancellation, where the usual
`lse − Σ p z` is 2e-3 nats off when logits are offset by 1e4.

Sources: Shannon 1948; Kullback and Leibler 1951; Rényi 1961; Tsallis 1988; Brier 1950; Bhattacharyya 1943; varentropy:
Kontoyiannis and Verdú 2014 (IEEE Trans. IT 60:777); Min-K%++: Zhang et al. 2024 (arXiv 2404.02936); Cover and Thomas, Elements of
Information Theory, 2nd ed. 2006, ch. 2; bounds of total variation: Tsybakov, Nonparametric Estimation, 2009, §2.4.
"""

import math
from dataclasses import dataclass

import numpy as np

from worker.information.vocabulary.sums import LG_E, Sums, needs_base

# Where p and q are nearly one, rounding can carry a divergence below zero; what lies deeper is a mistake, and stays visible.
KL_ROUNDING_BITS = 1e-5 * LG_E


@dataclass(frozen=True, eq=False)
class TokenStatistics:
    """For each of N tokens, in bits where nothing else is said; what was not wanted is None. p: the model, q: the base."""

    nll: np.ndarray  # −lg p(y)
    entropy: np.ndarray  # H(p)
    varentropy: np.ndarray | None = None  # variance of −lg p under p, in bits²
    min_entropy: np.ndarray | None = None  # H_∞ = −lg max p
    renyi_entropy_2: np.ndarray | None = None  # H_2 = −lg Σp²
    renyi_entropy_half: np.ndarray | None = None  # H_½ = 2 lg Σ√p
    tsallis_entropy_2: np.ndarray | None = None  # 1 − Σp², no unit
    brier_score: np.ndarray | None = None  # Σ(p − 1_y)² = 1 − 2p(y) + Σp², no unit, 0 to 2
    target_rank: np.ndarray | None = None  # how many tokens are likelier than y: 0 where y is the first choice
    mass_above_target: np.ndarray | None = None  # the probability that those have together
    min_k_plus_plus: np.ndarray | None = None  # (H − NLL)/√varentropy, no unit; 0 where p is uniform on its support
    temperature_fisher_information: np.ndarray | None = None  # of β in softmax(βz), at β = 1: Var_p z, in nats²
    largest_logit: np.ndarray | None = None  # max |z| of the tokens that have a probability, in nats
    base_nll: np.ndarray | None = None  # −lg q(y)
    base_entropy: np.ndarray | None = None  # H(q)
    kl_from_base: np.ndarray | None = None  # D(q‖p), base to model: what the model forgot of the base
    kl_to_base: np.ndarray | None = None  # D(p‖q), model to base
    bhattacharyya_coefficient: np.ndarray | None = None  # Σ√(pq), no unit
    renyi_divergence_2: np.ndarray | None = None  # D_2(p‖q) = lg Σp²/q
    total_variation_at_least: np.ndarray | None = None  # 1 − BC
    total_variation_at_most: np.ndarray | None = None  # the least of √(1 − BC²) and √(KL/2), of either KL, in nats
    total_variation: np.ndarray | None = None  # ½Σ|p − q|, of a second pass
    jensen_shannon: np.ndarray | None = None  # ½D(p‖½(p+q)) + ½D(q‖½(p+q)), of a second pass


def statistics_of(sums: Sums, want: tuple[str, ...]) -> TokenStatistics:
    """`sums` in numpy; NLL and entropy always, of the others those that are wanted."""
    with np.errstate(all="ignore"):  # a model that diverged is nan in its statistics
        made = _of_model(sums)
        if needs_base(tuple(sums)):
            made |= _of_base(sums)
    return TokenStatistics(**{name: bits_N for name, bits_N in made.items() if name in ("nll", "entropy", *want)})


def newton_temperature_step(statistics: TokenStatistics) -> float:
    """Δβ of one Newton step from β = 1 to the β that minimises the mean NLL of softmax(βz): Σ(z_y − E z) / Σ Var z, in nats.

    z_y − E z = H − NLL. The temperature to go with is 1/(1 + Δβ). nan where no token has any variance.
    """
    if statistics.varentropy is None:
        raise ValueError("the temperature's step needs the varentropy: name it in what is wanted")
    variance = float(statistics.varentropy.sum())
    return float((statistics.entropy - statistics.nll).sum()) * LG_E / variance if variance else math.nan


def _of_model(sums: Sums) -> dict[str, np.ndarray]:
    s, lg_s = sums["s"], np.log2(sums["s"])
    nll = lg_s - (sums["z_y"] - sums["m"]) * LG_E
    entropy = lg_s - sums["t1"] / s
    made = {"nll": nll, "entropy": entropy, "min_entropy": lg_s}
    if "t2" in sums:
        varentropy = np.maximum(sums["t2"] / s - (sums["t1"] / s) ** 2, 0.0)
        made["varentropy"] = varentropy
        made["temperature_fisher_information"] = varentropy / LG_E**2
        made["min_k_plus_plus"] = np.where(varentropy == 0, 0.0, (entropy - nll) / np.sqrt(varentropy))
    if "S2" in sums:
        collision = sums["S2"] / s / s
        made["renyi_entropy_2"] = 2 * lg_s - np.log2(sums["S2"])
        made["tsallis_entropy_2"] = 1 - collision
        made["brier_score"] = 1 - 2 * np.exp2(-nll) + collision
    if "Sh" in sums:
        made["renyi_entropy_half"] = 2 * np.log2(sums["Sh"]) - lg_s
    if "low" in sums:
        made["largest_logit"] = np.maximum(np.abs(sums["m"]), np.abs(sums["low"]))
    if "rank" in sums:
        made["target_rank"] = sums["rank"]
    if "above" in sums:
        made["mass_above_target"] = sums["above"] / s
    return made


def _of_base(sums: Sums) -> dict[str, np.ndarray]:
    s, sq = sums["s"], sums["sq"]
    lg_s, lg_sq = np.log2(s), np.log2(sq)
    made = {"base_nll": lg_sq - (sums["w_y"] - sums["n"]) * LG_E}
    if "q1" in sums:
        made["base_entropy"] = lg_sq - sums["q1"] / sq
    if "xp" in sums:
        made["kl_to_base"] = _not_below_zero(sums["xp"] / s - lg_s + lg_sq)
    if "xq" in sums:
        made["kl_from_base"] = _not_below_zero(-sums["xq"] / sq - lg_sq + lg_s)
    if "c" in sums:
        made["renyi_divergence_2"] = _not_below_zero(sums["c"] + np.log2(sums["chi"]) - 2 * lg_s + lg_sq)
    if "bc" in sums:
        coefficient = np.minimum(sums["bc"] / np.sqrt(s) / np.sqrt(sq), 1.0)
        made["bhattacharyya_coefficient"] = coefficient
        made["total_variation_at_least"] = 1 - coefficient
        if "xp" in sums and "xq" in sums:
            kl_nats = np.minimum(made["kl_to_base"], made["kl_from_base"]) / LG_E
            made["total_variation_at_most"] = np.minimum(np.sqrt(1 - coefficient**2), np.sqrt(kl_nats / 2))
    return made


def _not_below_zero(bits_N: np.ndarray) -> np.ndarray:
    """A divergence is ≥ 0 (Gibbs): what rounding took below becomes 0, and only that."""
    return np.where((bits_N < 0) & (bits_N > -KL_ROUNDING_BITS), 0.0, bits_N)
