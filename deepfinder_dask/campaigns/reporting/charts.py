"""Histograms as plain geometry, which the page draws as SVG: sharp, printable, in the colours of its scheme."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.campaigns.reporting.digests import PER_DECADE, SCORE_BINS, ClassDigest
from deepfinder_dask.campaigns.reporting.words import whole

WIDTH, HEIGHT = 300, 84
"""Extent of the plot, in SVG units; ticks lie below it."""
MARGIN = 8
"""Free space on the left and right, for the words of the outer ticks."""
TAIL = 0.001
"""Part of all sizes that may lie outside the axis on either side."""


@dataclass(frozen=True)
class Bar:
    """One bar."""

    x: float
    """Left edge."""
    y: float
    """Upper edge."""
    width: float
    """Width."""
    height: float
    """Height."""
    words: str
    """What it stands for."""


@dataclass(frozen=True)
class Chart:
    """A histogram."""

    label: str
    """What is on the axis."""
    bars: tuple[Bar, ...]
    """From left to right; none where there is nothing to show."""
    ticks: tuple[tuple[float, str], ...] = ()
    """(x, words)."""
    median: tuple[float, str] | None = None
    """(x, words)."""


def count_chart(counts: Sequence[int]) -> Chart:
    """Histogram of the particles in each tomogram."""
    if not counts:
        return Chart("particles in a tomogram", ())
    low, high = min(counts), max(counts)
    step = max(1, ceil((high - low + 1) / 24))
    step = next(n for n in (1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, *(10**k for k in range(3, 12))) if n >= step)
    first, last = floor(low / step) * step, (floor(high / step) + 1) * step
    edges = np.arange(first, last + 1, step, dtype=float)
    heights = np.histogram(counts, edges)[0]
    words = [
        f"{whole(a)}{f' to {whole(b - 1)}' if step > 1 else ''} particles: {n} tomograms"
        for a, b, n in zip(edges[:-1], edges[1:], heights, strict=True)
    ]
    scale = _Scale(first, last)
    shift = 0.5 if step == 1 else 0.0  # the middle of a bar of one count is that count
    ticks = tuple((scale(v + shift), whole(v)) for v in nice_ticks(first, last - shift, integers=True))
    middle = float(np.median(counts))
    return Chart(
        "particles in a tomogram",
        _bars(scale, edges, heights, words),
        ticks,
        (scale(middle + shift), f"median {whole(middle)}"),
    )


def size_chart(digests: Sequence[ClassDigest]) -> Chart:
    """Histogram of the sizes of all particles, on a logarithmic axis."""
    found: Counter[int] = Counter()
    for one in digests:
        found.update({int(number): n for number, n in one.sizes.items()})
    if not found:
        return Chart("size (voxels)", ())
    numbers = np.arange(min(found), max(found) + 1)
    heights = np.array([found[int(n)] for n in numbers])
    low, high = _within(heights, TAIL)
    middle = int(np.searchsorted(np.cumsum(heights), heights.sum() / 2))
    median = 10 ** ((numbers[middle] + 0.5) / PER_DECADE)
    low, high = max(0, low - 2), min(len(numbers) - 1, high + 2)
    numbers, heights = numbers[low : high + 1], heights[low : high + 1]
    edges = np.append(numbers, numbers[-1] + 1) / PER_DECADE
    scale = _Scale(float(edges[0]), float(edges[-1]))
    words = [
        f"{whole(10**a)} to {whole(10**b)} voxels: {whole(n)} particles"
        for a, b, n in zip(edges[:-1], edges[1:], heights, strict=True)
    ]
    ticks = tuple((scale(log10(v)), whole(v)) for v in _log_ticks(float(edges[0]), float(edges[-1])))
    return Chart(
        "size (voxels)", _bars(scale, edges, heights, words), ticks, (scale(log10(median)), f"median {whole(median)}")
    )


def score_chart(digests: Sequence[ClassDigest]) -> Chart:
    """Histogram of the scores of all particles, from 0 to 1."""
    heights = np.zeros(SCORE_BINS, int)
    for one in digests:
        if one.scores:
            heights += np.array(one.scores)
    if not heights.any():
        return Chart("score", ())
    edges = np.linspace(0.0, 1.0, SCORE_BINS + 1)
    scale = _Scale(0.0, 1.0)
    words = [
        f"{a:.3g} to {b:.3g}: {whole(n)} particles" for a, b, n in zip(edges[:-1], edges[1:], heights, strict=True)
    ]
    middle = int(np.searchsorted(np.cumsum(heights), heights.sum() / 2))
    median = (middle + 0.5) / SCORE_BINS
    ticks = tuple((scale(v), f"{v:g}") for v in (0.0, 0.25, 0.5, 0.75, 1.0))
    return Chart("score", _bars(scale, edges, heights, words), ticks, (scale(median), f"median {median:.2f}"))


def class_charts(name: str, digests: Mapping[str, Mapping[str, ClassDigest]]) -> tuple[Chart, Chart, Chart]:
    """Counts in each tomogram, sizes and scores of one class.

    Parameters
    ----------
    name : str
        The class.
    digests : mapping
        Of the classes of each tomogram that is done, by name of tomogram.
    """
    found = [one[name] for one in digests.values() if name in one]
    return count_chart([one.count for one in found]), size_chart(found), score_chart(found)


def nice_ticks(low: float, high: float, *, number: int = 4, integers: bool = False) -> list[float]:
    """Round numbers from low to high, about so many."""
    span = max(high - low, 1e-12)
    rough = span / number
    power = 10 ** floor(log10(rough))
    step = next(n * power for n in (1, 2, 5, 10) if n * power >= rough)
    step = max(1.0, step) if integers else step
    first = ceil(low / step - 1e-9)
    return [n * step for n in range(first, floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class _Scale:
    """From values to SVG units."""

    low: float
    high: float

    def __call__(self, value: float) -> float:
        part = (value - self.low) / (self.high - self.low)
        return round(MARGIN + (WIDTH - 2 * MARGIN) * part, 1)


def _bars(
    scale: _Scale, edges: NDArray[np.float64], heights: NDArray[np.int64], words: Sequence[str]
) -> tuple[Bar, ...]:
    unit = (HEIGHT - 14) / max(1, int(heights.max()))  # room above for what the median is
    found = []
    for a, b, n, said in zip(edges[:-1], edges[1:], heights, words, strict=True):
        if n:
            tall = max(1.0, round(float(n) * unit, 1))
            left, right = scale(float(a)), scale(float(b))
            found.append(Bar(left, round(HEIGHT - tall, 1), round(max(0.6, right - left - 0.6), 1), tall, said))
    return tuple(found)


def _within(heights: NDArray[np.int64], tail: float) -> tuple[int, int]:
    """First and last bin without the rarest values on either side."""
    share = np.cumsum(heights) / heights.sum()
    return int(np.searchsorted(share, tail, side="right")), int(np.searchsorted(share, 1 - tail))


def _log_ticks(low: float, high: float) -> list[float]:
    """Round numbers on a logarithmic axis between powers of ten ``low`` and ``high``."""
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 4, 5, 6, 8)):
        found = [n * 10**k for k in range(floor(low), ceil(high) + 1) for n in steps if low <= log10(n * 10**k) <= high]
        if len(found) >= 3:
            return found[:: ceil(len(found) / 6)]
    return nice_ticks(10**low, 10**high, number=3)
