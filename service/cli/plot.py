"""Small plots of characters: a line of blocks, and a curve of braille dots with its axes."""

import math
from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"

# The bits of a braille character's dots: [row][column], four rows of two.
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


def sparkline(values: Sequence[float], width: int) -> str:
    """At most `width` characters, each the mean of its share of the values; those that are not finite are left out."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite or width < 1:
        return ""
    columns = [_mean(finite[start:stop]) for start, stop in _shares(len(finite), min(width, len(finite)))]
    low, high = min(columns), max(columns)
    span = (high - low) or 1.0
    return "".join(BLOCKS[round((value - low) / span * (len(BLOCKS) - 1))] for value in columns)


def curve(
    xs: Sequence[float], ys: Sequence[float], width: int, height: int = 8, y_range: tuple[float, float] | None = None
) -> list[str]:
    """Lines of a plot `width` wide with axes, `height` (2 or more) for the curve. `y_range`: where several are compared."""
    points = [(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(x) and math.isfinite(y)]
    if not points:
        return []
    low, high = y_range or (min(y for _, y in points), max(y for _, y in points))
    labels = [f"{high:.4g}", *[""] * (height - 2), f"{low:.4g}"]
    margin = max(map(len, labels))
    room = max(width - margin - 2, 4)
    first, last = min(x for x, _ in points), max(x for x, _ in points)
    cells = _cells(points, (first, last), (low, high), room, height)
    body = [f"{label:>{margin}} ┤{line}".rstrip() for label, line in zip(labels, cells, strict=True)]
    below = f"{first:g}{f'{last:g}':>{max(room - len(f'{first:g}'), len(f'{last:g}') + 1)}}"
    return [*body, f"{'':{margin}} └{'─' * room}", f"{'':{margin}}  {below}"]


def _cells(
    points: Sequence[tuple[float, float]], xs: tuple[float, float], ys: tuple[float, float], width: int, height: int
) -> list[str]:
    """The dots of the curve, with what lies between two points drawn too."""
    cells = [[0] * width for _ in range(height)]
    before: tuple[int, int] | None = None
    for x, y in sorted(points):
        at = (_place(x, xs, 2 * width), 4 * height - 1 - _place(y, ys, 4 * height))
        for column, row in _between(before or at, at):
            if 0 <= row < 4 * height:
                cells[row // 4][column // 2] |= _DOTS[row % 4][column % 2]
        before = at
    return ["".join(chr(0x2800 + bits) if bits else " " for bits in line) for line in cells]


def _place(value: float, limits: tuple[float, float], dots: int) -> int:
    low, high = limits
    return 0 if high == low else round((value - low) / (high - low) * (dots - 1))


def _between(one: tuple[int, int], other: tuple[int, int]) -> list[tuple[int, int]]:
    n = max(abs(other[0] - one[0]), abs(other[1] - one[1]), 1)
    return [(round(one[0] + (other[0] - one[0]) * i / n), round(one[1] + (other[1] - one[1]) * i / n)) for i in range(n + 1)]


def _shares(n: int, parts: int) -> list[tuple[int, int]]:
    return [(n * part // parts, n * (part + 1) // parts) for part in range(parts)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
