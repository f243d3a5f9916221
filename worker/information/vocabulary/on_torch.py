"""The pass in torch, fp32 with float64 merges: a few operations on tiles that stay in cache, in buffers allocated once.

2^x instead of e^x, since torch's exp2 is vectorised everywhere (MKL's exp takes more than twice its time on AMD), and torch's
sum, which adds pairwise, instead of a dot product, whose fp32 error grows with the tile.
"""

import torch

from worker.information.vocabulary import on_numpy
from worker.information.vocabulary.sums import LG_E, Norm, Sums
from worker.information.vocabulary.threads import Threads
from worker.information.vocabulary.tiles import Buffers, Tiles


def column_sums(
    tiles: Tiles,
    y_N: torch.Tensor,
    threshold_N: torch.Tensor | None,
    names: tuple[str, ...],
    rows: int,
    threads: Threads,
    base_tiles: Tiles | None = None,
) -> Sums:
    """The sums over some columns for N tokens, `rows` at a time. y counts from the first of these columns."""
    made = torch.empty(len(names), len(y_N), dtype=torch.float64, device=y_N.device)

    def fold(part: slice, buffers: Buffers) -> None:
        z_RC, threshold_R = tiles.of(part, buffers.logits), None if threshold_N is None else threshold_N[part]
        u_RC, e_RC, x_RC = buffers.of_model(*z_RC.shape)
        sums = _of_model(z_RC, y_N[part], threshold_R, names, u_RC, e_RC, x_RC)
        if base_tiles is not None:
            w_RC = base_tiles.of(part, buffers.base_logits)
            sums |= _of_base(w_RC, y_N[part], names, u_RC, e_RC, x_RC, *buffers.of_base(*w_RC.shape))
        for row, name in zip(made, names, strict=True):
            row[part] = sums[name]

    def redo(part: slice, buffers: Buffers) -> None:
        if finite_N[part].all():
            return
        w_RC = None if base_tiles is None else base_tiles.of(part, buffers.base_logits)
        threshold_R = None if threshold_N is None else threshold_N[part]
        sums = on_numpy.tile_sums(tiles.of(part, buffers.logits), y_N[part], threshold_R, names, w_RC)
        for row, name in zip(made, names, strict=True):
            row[part] = torch.from_numpy(sums[name])

    threads.over(len(y_N), rows, fold)
    # 0 · −∞ is not a number in the sums above. Where a logit was −∞ the reference, which knows, does the rows once more.
    finite_N = made[[k for k, name in enumerate(names) if name not in ("z_y", "w_y")]].isfinite().all(0)
    if not finite_N.all():
        threads.over(len(y_N), rows, redo)
    return dict(zip(names, made, strict=True))


def column_distances(tiles: Tiles, base_tiles: Tiles, norm: Norm, base_norm: Norm, rows: int, threads: Threads) -> Sums:
    """Of the second pass: the share of these columns in the total variation and in the Jensen–Shannon divergence, in bits.

    With d = (p−q)/(p+q) the latter is ¼ Σ (p+q) [(1+d) lg(1+d) + (1−d) lg(1−d)], which is exactly 0 where p is q.
    """
    N, device = len(norm[0]), norm[0].device
    made = {name: torch.empty(N, dtype=torch.float64, device=device) for name in ("total_variation", "jensen_shannon")}

    def fold(part: slice, buffers: Buffers) -> None:
        z_RC, w_RC = tiles.of(part, buffers.logits), base_tiles.of(part, buffers.base_logits)
        (p_RC, q_RC, x_RC), (d_RC, total_RC) = buffers.of_model(*z_RC.shape), buffers.of_base(*z_RC.shape)
        _probabilities(z_RC, norm, part, p_RC)
        _probabilities(w_RC, base_norm, part, q_RC)
        torch.sub(p_RC, q_RC, out=d_RC)
        torch.add(p_RC, q_RC, out=total_RC)
        made["total_variation"][part] = torch.abs(d_RC, out=x_RC).sum(1).double() / 2
        # where neither has the token, 0/0 becomes 0/tiny
        d_RC.div_(torch.clamp(total_RC, min=torch.finfo(torch.float32).tiny, out=x_RC))
        _x_ln_x(torch.add(d_RC, 1, out=p_RC), x_RC)
        _x_ln_x(d_RC.neg_().add_(1), q_RC)
        made["jensen_shannon"][part] = x_RC.add_(q_RC).mul_(total_RC).sum(1).double() * (LG_E / 4)

    threads.over(N, rows, fold)
    return made


def _of_model(
    z_RC: torch.Tensor,
    y_R: torch.Tensor,
    threshold_R: torch.Tensor | None,
    names: tuple[str, ...],
    u_RC: torch.Tensor,
    e_RC: torch.Tensor,
    x_RC: torch.Tensor,
) -> Sums:
    """u and e are left as u and 2^u."""
    inside_R, z_y = _target(z_RC, y_R)
    made = {"m": _powers(z_RC, u_RC, e_RC), "z_y": z_y, "s": e_RC.sum(1), "t1": torch.mul(e_RC, u_RC, out=x_RC).sum(1)}
    if "t2" in names:
        made["t2"] = x_RC.mul_(u_RC).sum(1)
    if "S2" in names:
        made["S2"] = torch.mul(e_RC, e_RC, out=x_RC).sum(1)
    if "Sh" in names:
        made["Sh"] = torch.sqrt(e_RC, out=x_RC).sum(1)
    if "low" in names:
        made["low"] = z_RC.amin(1)  # −∞ is of a row that is done once more
    if threshold_R is None:
        return made
    # z_y came from elsewhere, rounded in another way: the target's own column is never above itself
    own_R = inside_R & (z_y > threshold_R)
    made["rank"] = torch.gt(z_RC, threshold_R[:, None], out=x_RC).sum(1) - own_R.float()
    if "above" in names:
        e_y = e_RC.gather(1, y_R.clamp(0, z_RC.shape[1] - 1)[:, None])[:, 0]
        made["above"] = (x_RC.mul_(e_RC).sum(1) - torch.where(own_R, e_y, 0.0)).clamp(min=0)
    return made


def _of_base(
    w_RC: torch.Tensor,
    y_R: torch.Tensor,
    names: tuple[str, ...],
    u_RC: torch.Tensor,
    e_RC: torch.Tensor,
    x_RC: torch.Tensor,
    v_RC: torch.Tensor,
    f_RC: torch.Tensor,
) -> Sums:
    made = {"w_y": _target(w_RC, y_R)[1], "n": _powers(w_RC, v_RC, f_RC), "sq": f_RC.sum(1)}
    if "q1" in names:
        made["q1"] = torch.mul(f_RC, v_RC, out=x_RC).sum(1)
    if "bc" in names:
        made["bc"] = torch.mul(e_RC, f_RC, out=x_RC).sqrt_().sum(1)
    if "c" in names:
        torch.sub(u_RC, v_RC, out=x_RC).add_(u_RC)
        made["c"] = x_RC.amax(1)
        made["chi"] = x_RC.sub_(made["c"][:, None]).exp2_().sum(1)
    if "xp" in names or "xq" in names:
        apart_RC = torch.sub(u_RC, v_RC, out=v_RC)
        made["xp"] = torch.mul(e_RC, apart_RC, out=x_RC).sum(1)
        made["xq"] = torch.mul(f_RC, apart_RC, out=x_RC).sum(1)
    return made


def _powers(z_RC: torch.Tensor, u_RC: torch.Tensor, e_RC: torch.Tensor) -> torch.Tensor:
    """max z; u = (z − max z) lg e, and 2^u. The difference is taken first: at an offset of 1e4 it alone is exact."""
    m_R = z_RC.amax(1)
    torch.sub(z_RC, m_R[:, None], out=u_RC).mul_(LG_E)
    torch.exp2(u_RC, out=e_RC)
    return m_R


def _target(z_RC: torch.Tensor, y_R: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Whether y lies in these columns, and z_y, −∞ where it does not."""
    C = z_RC.shape[1]
    inside_R = (y_R >= 0) & (y_R < C)
    return inside_R, torch.where(inside_R, z_RC.gather(1, y_R.clamp(0, C - 1)[:, None])[:, 0], -torch.inf)


def _probabilities(z_RC: torch.Tensor, norm: Norm, part: slice, out_RC: torch.Tensor) -> None:
    maximum_R, lg_sum_R = (each[part, None].float() for each in norm)
    torch.sub(z_RC, maximum_R, out=out_RC).mul_(LG_E).sub_(lg_sum_R).exp2_()


def _x_ln_x(x_RC: torch.Tensor, out_RC: torch.Tensor) -> None:
    torch.xlogy(x_RC, x_RC, out=out_RC)
