"""The pass in numpy and float64: the reference that the others are held against, and the way around −∞.

A logit of −∞ is a token of probability zero: 0 · lg 0 = 0, and a divergence is ∞ where one distribution has a token that the
other has not.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from worker.information.vocabulary.sums import LG_E, Norm, Sums, needs_base


def column_sums(
    tiles: Callable[[int, int], Any],
    y_N: Any,
    threshold_N: Any,
    names: tuple[str, ...],
    rows: int,
    base_tiles: Callable[[int, int], Any] | None = None,
) -> Sums:
    """The sums over some columns for N tokens, `rows` at a time; torch's tensors on any device, or arrays."""
    made = {name: np.empty(len(y_N)) for name in names}
    for start in range(0, len(y_N), rows):
        part = slice(start, min(start + rows, len(y_N)))
        z_RC = float64(tiles(part.start, part.stop))
        w_RC = None if base_tiles is None else float64(base_tiles(part.start, part.stop))
        threshold_R = None if threshold_N is None else float64(threshold_N[part])
        for name, sum_R in tile_sums(z_RC, np.asarray(y_N[part].cpu()), threshold_R, names, w_RC).items():
            made[name][part] = sum_R
    return made


def column_distances(
    tiles: Callable[[int, int], Any], base_tiles: Callable[[int, int], Any], norm: Norm, base_norm: Norm, rows: int
) -> Sums:
    """Of the second pass: the share of these columns in the total variation and in the Jensen–Shannon divergence, in bits."""
    made = {name: np.empty(len(norm[0])) for name in ("total_variation", "jensen_shannon")}
    for start in range(0, len(norm[0]), rows):
        part = slice(start, min(start + rows, len(norm[0])))
        z_RC, w_RC = float64(tiles(part.start, part.stop)), float64(base_tiles(part.start, part.stop))
        norm_R, base_norm_R = (norm[0][part], norm[1][part]), (base_norm[0][part], base_norm[1][part])
        for name, sum_R in tile_distances(z_RC, w_RC, norm_R, base_norm_R).items():
            made[name][part] = sum_R
    return made


def tile_sums(
    z_RC: np.ndarray,
    y_R: np.ndarray,
    threshold_R: np.ndarray | None,
    names: tuple[str, ...],
    w_RC: np.ndarray | None = None,
) -> Sums:
    """The sums of one tile of float64 logits. y counts from the tile's first column and may lie outside of it; threshold is z_y, for the rank."""
    with np.errstate(all="ignore"):
        made = _of_model(z_RC, y_R, threshold_R)
        if w_RC is not None and needs_base(names):
            made |= _of_base(z_RC, w_RC, y_R)
    return {name: made[name] for name in names}


def tile_distances(z_RC: np.ndarray, w_RC: np.ndarray, norm: Norm, base_norm: Norm) -> Sums:
    """Of a second pass: a tile's share in the total variation and in the Jensen–Shannon divergence, in bits; shares add up."""
    with np.errstate(all="ignore"):
        p_RC, q_RC = _probabilities(z_RC, norm), _probabilities(w_RC, base_norm)
        mean_RC = (p_RC + q_RC) / 2
        gain_RC = _x_lg_x_over(p_RC, mean_RC) + _x_lg_x_over(q_RC, mean_RC)
    return {"total_variation": np.abs(p_RC - q_RC).sum(1) / 2, "jensen_shannon": gain_RC.sum(1) / 2}


def _of_model(z_RC: np.ndarray, y_R: np.ndarray, threshold_R: np.ndarray | None) -> Sums:
    m, u_RC, e_RC = _powers(z_RC)
    finite_u_RC = np.where(z_RC == -math.inf, 0.0, u_RC)
    made = {
        "m": m,
        "z_y": _target(z_RC, y_R),
        "s": e_RC.sum(1),
        "t1": (e_RC * finite_u_RC).sum(1),
        "t2": (e_RC * finite_u_RC**2).sum(1),
        "S2": (e_RC**2).sum(1),
        "Sh": np.exp2(u_RC / 2).sum(1),
    }
    if threshold_R is not None:
        likelier_RC = (z_RC > threshold_R[:, None]) & (np.arange(z_RC.shape[1]) != y_R[:, None])
        made |= {"rank": likelier_RC.sum(1).astype(np.float64), "above": (e_RC * likelier_RC).sum(1)}
    return made


def _of_base(z_RC: np.ndarray, w_RC: np.ndarray, y_R: np.ndarray) -> Sums:
    _, u_RC, e_RC = _powers(z_RC)
    n, v_RC, f_RC = _powers(w_RC)
    no_p_RC, no_q_RC = z_RC == -math.inf, w_RC == -math.inf
    apart_RC = np.where(no_p_RC | no_q_RC, 0.0, u_RC - v_RC)
    ratio_RC = np.where(no_p_RC, -math.inf, np.where(no_q_RC, math.inf, 2 * u_RC - v_RC))
    c = ratio_RC.max(1)
    return {
        "n": n,
        "w_y": _target(w_RC, y_R),
        "sq": f_RC.sum(1),
        "q1": (f_RC * np.where(no_q_RC, 0.0, v_RC)).sum(1),
        "xp": np.where((no_q_RC & ~no_p_RC).any(1), math.inf, (e_RC * apart_RC).sum(1)),
        "xq": np.where((no_p_RC & ~no_q_RC).any(1), -math.inf, (f_RC * apart_RC).sum(1)),
        "bc": np.exp2((u_RC + v_RC) / 2).sum(1),
        "c": c,
        "chi": np.where(np.isinf(c), c > 0, np.exp2(ratio_RC - c[:, None]).sum(1)),
    }


def _powers(z_RC: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """max z, u and 2^u; a row of −∞ has maximum −∞ and powers 0."""
    m_R = z_RC.max(1)
    u_RC = (z_RC - np.where(m_R == -math.inf, 0.0, m_R)[:, None]) * LG_E
    return m_R, u_RC, np.exp2(u_RC)


def _target(z_RC: np.ndarray, y_R: np.ndarray) -> np.ndarray:
    """z_y where y lies in the tile, −∞ where it does not."""
    inside_R = (y_R >= 0) & (y_R < z_RC.shape[1])
    return np.where(inside_R, z_RC[np.arange(len(y_R)), np.where(inside_R, y_R, 0)], -math.inf)


def _probabilities(z_RC: np.ndarray, norm: Norm) -> np.ndarray:
    maximum_R, lg_sum_R = norm
    return np.exp2((z_RC - maximum_R[:, None]) * LG_E - lg_sum_R[:, None])


def _x_lg_x_over(x: np.ndarray, mean: np.ndarray) -> np.ndarray:
    return np.where(x == 0, 0.0, x * np.log2(x / np.where(mean == 0, 1.0, mean)))


def float64(array: Any) -> np.ndarray:
    return array.double().cpu().numpy() if isinstance(array, torch.Tensor) else np.asarray(array, dtype=np.float64)
