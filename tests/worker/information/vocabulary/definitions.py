"""Every statistic of one pass by its definition, in two passes of float64: what the three backends are held against."""

import math

import numpy as np
import torch

NATS = math.log(2)
WANT_OF_MODEL = (
    "varentropy",
    "min_entropy",
    "renyi_entropy_2",
    "renyi_entropy_half",
    "tsallis_entropy_2",
    "brier_score",
    "target_rank",
    "mass_above_target",
    "min_k_plus_plus",
    "temperature_fisher_information",
    "largest_logit",
)
WANT_OF_BASE = (
    "base_nll",
    "base_entropy",
    "kl_from_base",
    "kl_to_base",
    "bhattacharyya_coefficient",
    "renyi_divergence_2",
    "total_variation_at_least",
    "total_variation_at_most",
    "total_variation",
    "jensen_shannon",
)
EVERYTHING = (*WANT_OF_MODEL, *WANT_OF_BASE)
BITS_SQUARED = ("varentropy",)
NO_UNIT = (
    "tsallis_entropy_2",
    "brier_score",
    "target_rank",
    "mass_above_target",
    "min_k_plus_plus",
    "temperature_fisher_information",
    "largest_logit",
    "bhattacharyya_coefficient",
    "total_variation_at_least",
    "total_variation_at_most",
    "total_variation",
)

# spread and offset of normal logits
REGIMES = {
    "flat": (0.01, 0.0),
    "ordinary": (3.0, 0.0),
    "peaked": (6.0, 0.0),
    "offset by 1e4": (3.0, 1e4),
    "at -200": (3.0, -200.0),
}


def logits(regime, N, V, seed=0, dtype=torch.float32):
    """A model's, a base's, and targets."""
    spread, offset = REGIMES[regime]
    generator = torch.Generator().manual_seed(seed)
    z, w = (torch.randn(2, N, V, generator=generator) * spread + offset).to(dtype)
    return z, w, torch.randint(0, V, (N,), generator=generator)


def by_definition(z_NV, y_N, w_NV=None):
    """In bits, as TokenStatistics has them; a logit of −∞ is a token without probability."""
    z, y = np.asarray(z_NV.double()), np.asarray(y_N)
    rows = np.arange(len(z))
    with np.errstate(all="ignore"):
        lp = log_softmax(z)
        p = np.exp(lp)
        h = -times_log(p, lp).sum(1)
        variance = (p * np.where(p > 0, lp + h[:, None], 0) ** 2).sum(1)
        nll, collision = -lp[rows, y], (p**2).sum(1)
        above = z > z[rows, y][:, None]
        made = {
            "nll": nll / NATS,
            "entropy": h / NATS,
            "varentropy": variance / NATS**2,
            "min_entropy": -lp.max(1) / NATS,
            "renyi_entropy_2": -np.log2(collision),
            "renyi_entropy_half": 2 * np.log2(np.sqrt(p).sum(1)),
            "tsallis_entropy_2": 1 - collision,
            "brier_score": ((p - (np.arange(z.shape[1]) == y[:, None])) ** 2).sum(1),
            "target_rank": above.sum(1),
            "mass_above_target": (p * above).sum(1),
            "min_k_plus_plus": np.where(variance > 0, (h - nll) / np.sqrt(variance), 0),
            "temperature_fisher_information": variance,
            "largest_logit": np.abs(np.where(z == -np.inf, 0, z)).max(1),
        }
        return made if w_NV is None else made | _of_base(lp, p, log_softmax(np.asarray(w_NV.double())), y)


def _of_base(lp, p, lq, y):
    q = np.exp(lq)
    mean = (p + q) / 2
    kl_from, kl_to = times_log(q, lq - lp).sum(1), times_log(p, lp - lq).sum(1)
    coefficient = np.sqrt(p * q).sum(1)
    hellinger = ((np.sqrt(p) - np.sqrt(q)) ** 2).sum(1) / 2  # 1 − BC, without its cancellation
    return {
        "base_nll": -lq[np.arange(len(y)), y] / NATS,
        "base_entropy": -times_log(q, lq).sum(1) / NATS,
        "kl_from_base": kl_from / NATS,
        "kl_to_base": kl_to / NATS,
        "bhattacharyya_coefficient": coefficient,
        "renyi_divergence_2": np.log2(np.where(p > 0, np.exp(2 * lp - lq), 0).sum(1)),
        "total_variation_at_least": hellinger,
        "total_variation_at_most": np.minimum(np.sqrt(hellinger * (1 + coefficient)), np.sqrt(np.minimum(kl_from, kl_to) / 2)),
        "total_variation": np.abs(p - q).sum(1) / 2,
        "jensen_shannon": (times_log(p, np.log2(p / mean)) + times_log(q, np.log2(q / mean))).sum(1) / 2,
    }


def log_softmax(z):
    z = z - z.max(1, keepdims=True)
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def times_log(p, logarithm):
    return np.where(p > 0, p * np.where(p > 0, logarithm, 0), 0)


def furthest_off(statistics, expected, names):
    """By statistic, the greatest error in nats; 0 between equal infinities, ∞ beside one or where something is not a number."""
    errors = {}
    for name in names:
        made, exact = statistics[name], expected[name]
        unit = 1 if name in NO_UNIT else NATS**2 if name in BITS_SQUARED else NATS
        with np.errstate(all="ignore"):
            error = np.where(made == exact, 0, np.abs(made - exact) * unit)
        errors[name] = float(np.where(np.isnan(error), np.inf, error).max(initial=0))
    return errors


# A quotient by a deviation that is near 0 where the model is sure: the digits that it loses are not the sums'.
QUOTIENTS = {"min_k_plus_plus": 10}


def assert_close(statistics, expected, names, tolerance=2e-5):
    errors = furthest_off(statistics, expected, names)
    off = {name: f"{error:.1e}" for name, error in errors.items() if not error <= tolerance * QUOTIENTS.get(name, 1)}
    assert not off
