"""The pass as one Triton kernel: each program reads one token's logits of a tile once and folds all the sums in registers.

Floors on an H200 (4.3 TB/s) for 16384 × 128256 bf16 logits: 0.98 ms, and 1.96 ms with a base. At most about 13 fp32 instructions
a logit keep a kernel of one read bound by memory, so each thread holds partial sums of its own lanes; what must cross threads
is the maximum of a block. Sums move to a new maximum only where it rises, which after the first blocks is seldom. The state of
a row is float64, and is read and written once a tile.

On an H200 NLL and entropy take 1.4 ms in the kernel and 2.7 ms with what is around it, where TRL's kernel takes 3.9 and eager
torch 26 (docs/explanation/on-a-gpu.md). It is tested in Triton's interpreter (TRITON_INTERPRET=1), and on GPUs.
"""

import torch
import triton
import triton.language as tl

from worker.information.vocabulary.sums import (
    BASE_SUMS,
    MAXIMA,
    MINIMA,
    MODEL_SUMS,
    Norm,
    Sums,
    needs_base,
    needs_target_logits,
    sums_for,
)
from worker.information.vocabulary.tiles import Tiles

# Logits that a program holds at once, and its warps, as they were fastest on an H200: of more sums fewer lanes fit in registers.
FEW_SUMS, MANY_SUMS = (2048, 4), (1024, 4)
DISTANCES = (2048, 8)

STATE = (*MODEL_SUMS, *BASE_SUMS, *MINIMA)  # rows of the state, in the order the kernel addresses them


@torch.no_grad()
def column_sums(
    tiles: Tiles,
    y_N: torch.Tensor,
    threshold_N: torch.Tensor | None,
    names: tuple[str, ...],
    rows: int,
    before: Sums | None,
    base_tiles: Tiles | None = None,
    shape: tuple[int, int] | None = None,
) -> Sums:
    """`before` with some more columns folded in, `rows` tokens at a launch. y counts from the first of these columns.

    `shape`: how many logits a program holds at once, and its warps; None: what fits these sums.
    """
    state = _packed(before, len(y_N), y_N.device)
    room, base_room = tiles.room(rows), torch.empty(0) if base_tiles is None else base_tiles.room(rows)
    for start in range(0, len(y_N), rows):
        part = slice(start, min(start + rows, len(y_N)))
        z_RC, w_RC = tiles.of(part, room), None if base_tiles is None else base_tiles.of(part, base_room)
        fold(z_RC, w_RC, y_N[part], None if threshold_N is None else threshold_N[part], names, state[:, part], shape)
    return {name: state[STATE.index(name)] for name in names}


def fold(
    z_RC: torch.Tensor,
    w_RC: torch.Tensor | None,
    y_R: torch.Tensor,
    threshold_R: torch.Tensor | None,
    names: tuple[str, ...],
    state: torch.Tensor,
    shape: tuple[int, int] | None = None,
) -> None:
    """One launch: a tile of logits, bf16, fp16 or fp32, into a [19, R] float64 state, in place."""
    R, C = z_RC.shape
    block, warps = shape or shape_for(names)
    if z_RC.stride(1) != 1 or (w_RC is not None and w_RC.stride(1) != 1):
        raise ValueError("the logits of one token must lie side by side in memory")
    _fold_kernel[(R,)](
        z_RC,
        z_RC if w_RC is None else w_RC,
        y_R,
        y_R if threshold_R is None else threshold_R,
        state,
        C,
        z_RC.stride(0),
        0 if w_RC is None else w_RC.stride(0),
        state.stride(0),
        T2="t2" in names,
        COLLISION="S2" in names,
        HALF="Sh" in names,
        RANK=needs_target_logits(names),
        BASE=needs_base(names),
        Q1="q1" in names,
        KL="xp" in names or "xq" in names,
        BC="bc" in names,
        D2="c" in names,
        LEAST="low" in names,
        BLOCK=block,
        num_warps=warps,
    )


@torch.no_grad()
def column_distances(tiles: Tiles, base_tiles: Tiles, norm: Norm, base_norm: Norm, rows: int) -> Sums:
    """Of the second pass: the share of these columns in the total variation and in the Jensen–Shannon divergence, in bits."""
    made = torch.zeros(2, len(norm[0]), dtype=torch.float64, device=norm[0].device)
    norms = torch.stack([*norm, *base_norm])
    room, base_room = tiles.room(rows), base_tiles.room(rows)
    block, warps = DISTANCES
    for start in range(0, len(norm[0]), rows):
        part = slice(start, min(start + rows, len(norm[0])))
        z_RC, w_RC = tiles.of(part, room), base_tiles.of(part, base_room)
        R, C = z_RC.shape
        _distances_kernel[(R,)](
            z_RC,
            w_RC,
            norms[:, part],
            made[:, part],
            C,
            z_RC.stride(0),
            w_RC.stride(0),
            norms.stride(0),
            made.stride(0),
            BLOCK=block,
            num_warps=warps,
        )
    return {"total_variation": made[0], "jensen_shannon": made[1]}


def shape_for(names: tuple[str, ...]) -> tuple[int, int]:
    return FEW_SUMS if names == sums_for(()) else MANY_SUMS


def _packed(before: Sums | None, N: int, device: torch.device) -> torch.Tensor:
    """[19, N]: the sums in the kernel's order; those that nothing is known of yet, and those unused, as of no columns."""
    empty = [-torch.inf if name in MAXIMA else torch.inf if name in MINIMA else 0.0 for name in STATE]
    state = torch.tensor(empty, dtype=torch.float64, device=device)[:, None].repeat(1, N)
    for name, sum_N in (before or {}).items():
        state[STATE.index(name)] = sum_N
    return state


# -- the kernels -------------------------------------------------------------------------------------------------------
#
# Sums by lane (s, t1, ...) are relative to the maxima m and n as they stand, and move with them by the merge of sums.py. Lanes
# beyond the tile's last column read −∞, as a token without probability does: 2^−∞ = 0, and its factor is a finite number as good
# as −∞, LOW, since 0 · LOW is 0 where 0 · −∞ is not a number. The powers themselves are of the true difference, so that a logit
# that is not a number stays one.


@triton.jit
def _fold_kernel(  # type: ignore[no-untyped-def]
    z_ptr,
    w_ptr,
    y_ptr,
    threshold_ptr,
    state_ptr,
    C,
    z_stride,
    w_stride,
    state_stride,
    T2: tl.constexpr,
    COLLISION: tl.constexpr,
    HALF: tl.constexpr,
    RANK: tl.constexpr,
    BASE: tl.constexpr,
    Q1: tl.constexpr,
    KL: tl.constexpr,
    BC: tl.constexpr,
    D2: tl.constexpr,
    LEAST: tl.constexpr,
    BLOCK: tl.constexpr,
):
    LG_E = 1.4426950408889634
    LOW = -1.0e30
    row = tl.program_id(0).to(tl.int64)
    z_row, w_row, state = z_ptr + row * z_stride, w_ptr + row * w_stride, state_ptr + row
    y = tl.load(y_ptr + row)
    threshold = 0.0
    if RANK:
        threshold = tl.load(threshold_ptr + row)

    before_m = tl.load(state)
    m = before_m.to(tl.float32)
    s, t1 = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    t2, S2, Sh = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    rank, above = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    before_n = tl.load(state + 9 * state_stride)
    n = before_n.to(tl.float32)
    sq, q1 = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    xp, xq, bc = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    furthest, nearest = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)  # of u − v
    low = tl.full((BLOCK,), float("inf"), tl.float32)
    c, chi = tl.full((), -float("inf"), tl.float32), tl.zeros((BLOCK,), tl.float32)

    for first in range(0, C, BLOCK):
        columns = first + tl.arange(0, BLOCK)
        z = tl.load(z_row + columns, mask=columns < C, other=-float("inf")).to(tl.float32)
        w = z
        if BASE:
            w = tl.load(w_row + columns, mask=columns < C, other=-float("inf")).to(tl.float32)
        new_m = tl.maximum(m, tl.max(z, axis=0))
        new_n = n
        if BASE:
            new_n = tl.maximum(n, tl.max(w, axis=0))
        if (new_m > m) | (new_n > n):
            delta, r = _shift(m, new_m)
            gamma, rho = _shift(n, new_n)
            if KL:
                xp = r * (xp + (delta - gamma) * s)
                xq = rho * (xq + (delta - gamma) * sq)
            if T2:
                t2 = r * (t2 + 2.0 * delta * t1 + delta * delta * s)
            t1 = r * (t1 + delta * s)
            s = r * s
            if COLLISION:
                S2 = r * r * S2
            if HALF:
                Sh = tl.sqrt(r) * Sh
            if RANK:
                above = r * above
            if Q1:
                q1 = rho * (q1 + gamma * sq)
            if BASE:
                sq = rho * sq
            if BC:
                bc = tl.sqrt(r) * tl.sqrt(rho) * bc
            if D2:
                c = c + 2.0 * delta - gamma
            m = new_m
            n = new_n

        u = (z - _origin(m)) * LG_E
        e = tl.exp2(u)
        u = tl.maximum(u, LOW)
        eu = e * u
        s += e
        t1 += eu
        if T2:
            t2 += eu * u
        if COLLISION:
            S2 += e * e
        if HALF:
            Sh += tl.sqrt(e)
        if LEAST:
            low = tl.minimum(low, tl.where(z == -float("inf"), float("inf"), z))
        if RANK:
            likelier = (z > threshold) & (columns != y)
            rank += likelier.to(tl.float32)
            above += tl.where(likelier, e, 0.0)
        if BASE:
            v = (w - _origin(n)) * LG_E
            f = tl.exp2(v)
            v = tl.maximum(v, LOW)
            sq += f
            if Q1:
                q1 += f * v
            if BC:
                bc += tl.sqrt(e * f)
            if KL:
                apart = u - v
                xp += e * apart
                xq += f * apart
                furthest = tl.maximum(furthest, apart)
                nearest = tl.minimum(nearest, apart)
            if D2:
                ratio = tl.where(u == LOW, -float("inf"), tl.where(v == LOW, float("inf"), 2.0 * u - v))
                new_c = tl.maximum(c, tl.max(ratio, axis=0))
                if new_c > c:
                    chi = _power(c, new_c) * chi
                    c = new_c
                chi += tl.exp2(ratio - _origin(c))

    # the state's sums move to the lanes' maxima, in float64, and the lanes' are added
    new_m = m.to(tl.float64)
    delta, r = _shift(before_m, new_m)
    before_s = tl.load(state + 2 * state_stride)
    before_t1 = tl.load(state + 3 * state_stride)
    tl.store(state, new_m)
    tl.store(state + 2 * state_stride, r * before_s + _total(s))
    tl.store(state + 3 * state_stride, r * (before_t1 + delta * before_s) + _total(t1))
    if T2:
        before = tl.load(state + 4 * state_stride)
        tl.store(state + 4 * state_stride, r * (before + 2.0 * delta * before_t1 + delta * delta * before_s) + _total(t2))
    if COLLISION:
        tl.store(state + 5 * state_stride, r * r * tl.load(state + 5 * state_stride) + _total(S2))
    if HALF:
        tl.store(state + 6 * state_stride, tl.sqrt(r) * tl.load(state + 6 * state_stride) + _total(Sh))
    if RANK:
        tl.store(state + 7 * state_stride, tl.load(state + 7 * state_stride) + _total(rank))
        tl.store(state + 8 * state_stride, r * tl.load(state + 8 * state_stride) + _total(above))
    if LEAST:
        before = tl.load(state + 18 * state_stride)
        tl.store(state + 18 * state_stride, tl.minimum(before, tl.min(low, axis=0).to(tl.float64)))
    if (y >= 0) & (y < C):
        tl.store(state + 1 * state_stride, tl.load(z_row + y).to(tl.float64))
        if BASE:
            tl.store(state + 10 * state_stride, tl.load(w_row + y).to(tl.float64))
    if BASE:
        new_n = n.to(tl.float64)
        gamma, rho = _shift(before_n, new_n)
        before_sq = tl.load(state + 11 * state_stride)
        tl.store(state + 9 * state_stride, new_n)
        tl.store(state + 11 * state_stride, rho * before_sq + _total(sq))
        if Q1:
            before = tl.load(state + 12 * state_stride)
            tl.store(state + 12 * state_stride, rho * (before + gamma * before_sq) + _total(q1))
        if KL:
            # once one of the two has a token that the other has not, the divergence is infinite and stays it
            before = tl.load(state + 13 * state_stride)
            moved = r * (before + (delta - gamma) * before_s) + _total(xp)
            alone = (before == float("inf")) | (tl.max(furthest, axis=0) > -0.1 * LOW)
            tl.store(state + 13 * state_stride, tl.where(alone, float("inf"), moved))
            before = tl.load(state + 14 * state_stride)
            moved = rho * (before + (delta - gamma) * before_sq) + _total(xq)
            alone = (before == -float("inf")) | (tl.min(nearest, axis=0) < 0.1 * LOW)
            tl.store(state + 14 * state_stride, tl.where(alone, -float("inf"), moved))
        if BC:
            before = tl.load(state + 15 * state_stride)
            tl.store(state + 15 * state_stride, tl.sqrt(r) * tl.sqrt(rho) * before + _total(bc))
        if D2:
            before_c = tl.load(state + 16 * state_stride) + 2.0 * delta - gamma
            lanes_c = c.to(tl.float64)
            new_c = tl.maximum(before_c, lanes_c)
            tl.store(state + 16 * state_stride, new_c)
            moved = _power(before_c, new_c) * tl.load(state + 17 * state_stride) + _power(lanes_c, new_c) * _total(chi)
            tl.store(state + 17 * state_stride, tl.where(new_c == float("inf"), 1.0, moved))


@triton.jit
def _distances_kernel(  # type: ignore[no-untyped-def]
    z_ptr,
    w_ptr,
    norms_ptr,
    made_ptr,
    C,
    z_stride,
    w_stride,
    norms_stride,
    made_stride,
    BLOCK: tl.constexpr,
):
    LG_E = 1.4426950408889634
    row = tl.program_id(0).to(tl.int64)
    m, lg_s = tl.load(norms_ptr + row).to(tl.float32), tl.load(norms_ptr + norms_stride + row).to(tl.float32)
    n = tl.load(norms_ptr + 2 * norms_stride + row).to(tl.float32)
    lg_sq = tl.load(norms_ptr + 3 * norms_stride + row).to(tl.float32)
    variation, jensen_shannon = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    for first in range(0, C, BLOCK):
        columns = first + tl.arange(0, BLOCK)
        z = tl.load(z_ptr + row * z_stride + columns, mask=columns < C, other=-float("inf")).to(tl.float32)
        w = tl.load(w_ptr + row * w_stride + columns, mask=columns < C, other=-float("inf")).to(tl.float32)
        p, q = tl.exp2((z - m) * LG_E - lg_s), tl.exp2((w - n) * LG_E - lg_sq)
        variation += tl.abs(p - q)
        total = p + q
        d = (p - q) / tl.where(total == 0.0, 1.0, total)
        jensen_shannon += total * (_x_lg_x(1.0 + d) + _x_lg_x(1.0 - d))
    tl.store(made_ptr + row, 0.5 * _total(variation))
    tl.store(made_ptr + made_stride + row, 0.25 * _total(jensen_shannon))


@triton.jit
def _shift(old, new):  # type: ignore[no-untyped-def]
    """(old − new) in bits, and 2 to that; 0 and 0 where old is of nothing."""
    delta = tl.where(old == -float("inf"), 0.0, (old - new) * 1.4426950408889634)
    return delta, tl.where(old == -float("inf"), 0.0, tl.exp2(delta))


@triton.jit
def _origin(m):  # type: ignore[no-untyped-def]
    """What to subtract: nothing where every logit so far is −∞."""
    return tl.where(m == -float("inf"), 0.0, m)


@triton.jit
def _power(old, new):  # type: ignore[no-untyped-def]
    """2^(old − new); 0 where old is of nothing."""
    return tl.where(old == -float("inf"), 0.0, tl.exp2(old - new))


@triton.jit
def _total(lanes):  # type: ignore[no-untyped-def]
    return tl.sum(lanes, axis=0).to(tl.float64)


@triton.jit
def _x_lg_x(x):  # type: ignore[no-untyped-def]
    return tl.where(x > 0.0, x * tl.log2(tl.where(x > 0.0, x, 1.0)), 0.0 * x)
