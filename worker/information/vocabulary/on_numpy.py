"""The pass in numpy and float64: the reference that the others are held against, and the way around −∞.

A logit of −∞ is a token of probability zero: 0 · lg 0 = 0, and a divergence is ∞ where one distribution has a token that the
other has not.
"""

import math
from typing import Any

import numpy as np
import torch

from worker.information.vocabulary.sums import LG_E, Norm, Sums, needs_base
from worker.information.vocabulary.tiles import Tiles


def column_sums(
    tiles: Tiles,
    y_N: torch.Tensor,
    threshold_N: torch.Tensor | None,
    names: tuple[str, ...],
    rows: int,
    base_tiles: Tiles | None = None,
) -> Sums:
    """The sums over some columns for N tokens, `rows` at a time. y counts from the first of these columns."""
    made = {name: np.empty(len(y_N)) for name in names}
    room, base_room = tiles.room(rows), torch.empty(0) if base_tiles is None else base_tiles.room(rows)
    for start in range(0, len(y_N), rows):
        part = slice(start, min(start + rows, len(y_N)))
        w_RC = None if base_tiles is None else base_tiles.of(part, base_room)
        threshold_R = None if threshold_N is None else threshold_N[part]
        for name, sum_R in tile_sums(tiles.of(part, room), y_N[part], threshold_R, names, w_RC).items():
            made[name][part] = sum_R
    return made


def column_distances(tiles: Tiles, base_tiles: Tiles, norm: Norm, base_norm: Norm, rows: int) -> Sums:
    """Of the second pass: the share of these columns in the total variation and in the Jensen–Shannon divergence, in bits."""
    N = len(norm[0])
    made = {name: np.empty(N) for name in ("total_variation", "jensen_shannon")}
    room, base_room = tiles.room(rows), base_tiles.room(rows)
    for start in range(0, N, rows):
        part = slice(start, min(start + rows, N))
        p_RC = _probabilities(tiles.of(part, room), norm, part)
        q_RC = _probabilities(base_tiles.of(part, base_room), base_norm, part)
        mean_RC = (p_RC + q_RC) / 2
        made["total_variation"][part] = np.abs(p_RC - q_RC).sum(1) / 2
        made["jensen_shannon"][part] = (_x_lg_x_over(p_RC, mean_RC) + _x_lg_x_over(q_RC, mean_RC)).sum(1) / 2
    return made


def tile_sums(logits_RC: Any, targets_R: Any, thresholds_R: Any, names: tuple[str, ...], base_logits_RC: Any = None) -> Sums:
    """The sums of one tile of numpy's arrays or torch's tensors.

    The targets count from the tile's first column and may lie outside of it; a threshold is z_y, for the rank.
    """
    z_RC, y_R = float64(logits_RC), float64(targets_R).astype(np.int64)
    with np.errstate(all="ignore"):
        made = _of_model(z_RC, y_R, None if thresholds_R is None else float64(thresholds_R))
        if base_logits_RC is not None and needs_base(names):
            made |= _of_base(z_RC, float64(base_logits_RC), y_R)
    return {name: made[name] for name in names}


def float64(array: Any) -> np.ndarray:
    return array.double().cpu().numpy() if isinstance(array, torch.Tensor) else np.asarray(array, dtype=np.float64)


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
        "low": np.where(z_RC == -math.inf, math.inf, z_RC).min(1, initial=math.inf),
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


def _probabilities(logits_RC: Any, norm: Norm, part: slice) -> np.ndarray:
    maximum_R1, lg_sum_R1 = (float64(each[part])[:, None] for each in norm)
    with np.errstate(all="ignore"):
        return np.exp2((float64(logits_RC) - maximum_R1) * LG_E - lg_sum_R1)


def _x_lg_x_over(x: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """x lg(x/mean), 0 lg 0 = 0."""
    return x * np.log2(np.where(x == 0, 1.0, x) / np.where(x == 0, 1.0, mean))
