"""What was measured of a step's checkpoints, as pictures, for those who set measures.plots.

Each is a PNG and an SVG, whose texts are texts and whose curves have names (`id`), with a point for each measured checkpoint.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from service.specs.ranking import front
from worker import checkpoints
from worker.information.intervals import Estimate, difference, interval
from worker.probes.report import cross_entropy, entropy, kl_from_base
from worker.probes.spread import BINS, Spread
from worker.probes.token import DocumentSums
from worker.run import Run

MOST_NAMED = 12  # curves that a legend names


@dataclass(frozen=True, eq=False)
class Seen:
    """What one step's measuring has seen; the base is None among the spreads."""

    base: DocumentSums
    sums: Mapping[int, DocumentSums]
    split: str
    drift: Mapping[int, DocumentSums]  # on the anchor where there is one
    drift_split: str
    spreads: Mapping[int | None, Spread]
    counted: str = "update"  # what the numbers of checkpoints count


def pictures(run: Run, step: str, seen: Seen, losses: dict[int, float], folder: Path) -> None:
    """Draws all that there is something of, into this attempt's own folder. `losses` are of training by update, bits a token."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in draw(step, seen, losses):
        for kind in ("png", "svg"):
            file = folder / f"{name}.{kind}"
            save(figure, file)
            described = checkpoints.describe(folder, file)
            run.artifact(f"{step}/{file.name}", file, described["size"], described["sha256"])


def draw(step: str, seen: Seen, losses: dict[int, float]) -> Iterator[tuple[str, Figure]]:
    if seen.sums:
        yield "cross_entropy", _cross_entropy(step, seen, losses)
        yield "entropy", _entropy(step, seen)
    if any(sums.kl_from_base for sums in seen.drift.values()):
        yield "gain_and_drift", _gain_and_drift(step, seen)
    yield "spectra", _spectra(step, seen)


def save(figure: Figure, file: Path) -> None:
    """The same bytes for the same points."""
    with matplotlib.rc_context({"svg.hashsalt": "finebits", "svg.fonttype": "none"}):
        figure.savefig(file, dpi=120, metadata={"Date": None} if file.suffix == ".svg" else None)


def _cross_entropy(step: str, seen: Seen, losses: dict[int, float]) -> Figure:
    figure, axes = _figure(f"Cross-entropy of {step}", seen.counted, "bits/token")
    if losses:
        axes.plot(list(losses), list(losses.values()), linewidth=1, color="tab:gray", label="training loss", gid="training-loss")
    measured = {0: cross_entropy(seen.base)} | {update: cross_entropy(seen.sums[update]) for update in sorted(seen.sums)}
    _with_band(axes, measured, f"cross-entropy ({seen.split})", "tab:blue", "cross-entropy")
    axes.legend()
    return figure


def _entropy(step: str, seen: Seen) -> Figure:
    """Left: the mean with its interval. Right: how many tokens have how much."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    measured = {0: entropy(seen.base)} | {update: entropy(seen.sums[update]) for update in sorted(seen.sums)}
    _with_band(left, measured, "mean", "tab:orange", "entropy")
    _described(left, f"Predictive entropy of {step}", seen.counted, "bits/token")
    left.legend()
    for color, (update, spread) in _coloured(seen.spreads):
        edges = [spread.most_entropy * place / BINS for place in range(BINS + 1)]
        total = sum(spread.entropy_counts) or 1
        shares = [count / total for count in spread.entropy_counts]
        right.stairs(shares, edges, color=color, label=_name(update), gid=f"histogram-{_name(update)}")
    _described(right, "of the tokens", "entropy, bits", "share")
    _named(right, len(seen.spreads))
    return figure


def _gain_and_drift(step: str, seen: Seen) -> Figure:
    """One point a checkpoint; those on the front, that no other beats in both, are filled."""
    figure, axes = _figure(f"Gain against drift of {step}", f"drift: KL from the base, bits/token ({seen.drift_split})", "")
    axes.set_ylabel("gain: cross-entropy below the base's, bits/token")
    points = {}
    for update in sorted(seen.sums.keys() & seen.drift.keys()):
        drift = kl_from_base(seen.drift[update])
        gain = difference(cross_entropy(seen.base), cross_entropy(seen.sums[update]))
        if drift is not None and math.isfinite(drift.value) and math.isfinite(gain.value):
            points[update] = (drift, gain)
    on_front = front([(gain.value, drift.value) for drift, gain in points.values()])
    for is_on_front, name in ((True, "on the front"), (False, "beaten by another")):
        of = [point for point, it in zip(points.values(), on_front, strict=True) if it == is_on_front]
        if not of:
            continue
        at = [drift.value for drift, _ in of], [gain.value for _, gain in of]
        widths = [_half_width(drift) for drift, _ in of], [_half_width(gain) for _, gain in of]
        axes.errorbar(*at, xerr=widths[0], yerr=widths[1], fmt="none", ecolor="tab:gray", elinewidth=1)
        fill = "tab:green" if is_on_front else "none"
        gid = "front" if is_on_front else "beaten"
        axes.plot(*at, "o", color="tab:green", markerfacecolor=fill, label=f"{name} (95 % bars)", gid=gid)
    for update, (drift, gain) in points.items():
        axes.annotate(str(update), (drift.value, gain.value), textcoords="offset points", xytext=(5, 5), fontsize="small")
    axes.legend()
    return figure


def _spectra(step: str, seen: Seen) -> Figure:
    """Left: the directions of the hidden states. Right: of the adapter's updates, where there is one."""
    adapters = {update: spread for update, spread in seen.spreads.items() if spread.adapter}
    figure = Figure(figsize=(11 if adapters else 6, 4.5), layout="constrained")
    left, *right = figure.subplots(1, 2 if adapters else 1, squeeze=False)[0]
    for color, (update, spread) in _coloured(seen.spreads):
        _ranked(left, spread.variances, color, update, "covariance")
    _described(left, f"Final hidden states of {step}", "direction", "share of the variance")
    left.set_yscale("log")
    _named(left, len(seen.spreads))
    for axes in right:
        for color, (update, spread) in _coloured(adapters):
            _ranked(axes, spread.adapter or [], color, update, "adapter")
        _described(axes, "Adapter's updates, mean of the layers", "direction", "share of the singular values")
        _named(axes, len(adapters))
    return figure


def _ranked(axes: Axes, shares: list[float], color: Any, update: int | None, what: str) -> None:
    at = range(1, len(shares) + 1)
    axes.plot(at, shares, marker=".", linewidth=1, color=color, label=_name(update), gid=f"{what}-{_name(update)}")


def _with_band(axes: Axes, measured: dict[int, Estimate], label: str, color: str, gid: str) -> None:
    """A point an estimate, and the 95 % interval about them; a value that is not finite, or has no interval, leaves a gap."""
    at, values = list(measured), [it.value for it in measured.values()]
    ends = [interval(it) or (math.nan, math.nan) for it in measured.values()]
    low, high = [low for low, _ in ends], [high for _, high in ends]
    axes.fill_between(at, low, high, alpha=0.25, color=color, label="95 % interval", gid=f"{gid}-interval")
    axes.plot(at, values, marker="o", markersize=4, linewidth=1, color=color, label=label, gid=gid)


def _coloured(spreads: Mapping[int | None, Spread]) -> Iterator[tuple[Any, tuple[int | None, Spread]]]:
    """The base first and black, then from dark to light by update."""
    updates = sorted(update for update in spreads if update is not None)
    if None in spreads:
        yield "black", (None, spreads[None])
    for place, update in enumerate(updates):
        yield colormaps["viridis"](place / len(updates)), (update, spreads[update])


def _figure(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    _described(axes, title, x, y)
    return figure, axes


def _described(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)


def _named(axes: Axes, curves: int) -> None:
    if 0 < curves <= MOST_NAMED:
        axes.legend(fontsize="small")


def _name(update: int | None) -> str:
    return "base" if update is None else str(update)


def _half_width(estimate: Estimate) -> float:
    ends = interval(estimate)
    return math.nan if ends is None else ends[1] - estimate.value
