"""How many voxels have which grey value: percentiles, and a mean and deviation that neither gold nor padding decide.

Counts per interval of values do not depend on the order of voxels, so that no chunking changes what follows from them.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.tomograms.tomogram import Robust

KEY_BITS: Final = 20
"""Leading bits of a 32-bit float that make an interval: sign, 8 bits of exponent, 11 of mantissa."""
CLIPPED = (1.0, 99.0)
"""Percentiles that grey values are clipped to before their robust mean and standard deviation are taken."""
PADDING_SHARE = 0.01
"""Part of the voxels, at least, that one value holds which is taken for padding."""
PADDING_PEAK = 8.0
"""How many times more voxels it holds than the values next to it."""
LEFT = 0.05
"""Part of the voxels, at least, that is no padding."""
HEAVY = 0.05
"""Part of the voxels from which on an interval is too coarse, unless it is padding: a normal distribution gives as much
to its middle where that is an eighth of its standard deviation wide."""
BEYOND = 64
"""Intervals on both sides of those that are counted again: 8 standard deviations of such a distribution."""
SUBNORMAL = float(np.finfo(np.float32).tiny)
"""Width up to which an interval holds one value: that of 0 alone."""


class ValueCounts:
    """Counts voxels by grey value: of 8 and 16 bits each value, else intervals of equal leading bits, or equal width.

    Parameters
    ----------
    dtype : dtype
        Type of the values.
    span : tuple of float, optional
        Count in intervals of equal width from the first to the second; what is beyond is not told apart.
    """

    def __init__(self, dtype: np.dtype[Any], span: tuple[float, float] | None = None) -> None:
        self._dtype = np.dtype(dtype)
        self._span = span
        self._exact = self._dtype.itemsize <= 2 and span is None
        self._counts = np.zeros(2 ** (8 * self._dtype.itemsize) if self._exact else 2**KEY_BITS, np.int64)
        self._minimum, self._maximum = np.inf, -np.inf

    def add(self, values: NDArray[Any]) -> None:
        """Count values, finite ones, of any shape."""
        if not values.size:
            return
        self._minimum = min(self._minimum, float(values.min()))
        self._maximum = max(self._maximum, float(values.max()))
        if self._exact:
            bits = np.ascontiguousarray(values).view(f"u{self._dtype.itemsize}")
            self._counts += np.bincount(bits.ravel(), minlength=len(self._counts))
            return
        np.add.at(self._counts, self._keys(values).ravel(), 1)

    @property
    def total(self) -> int:
        """Values counted."""
        return int(self._counts.sum())

    def _keys(self, values: NDArray[Any]) -> NDArray[Any]:
        if self._span is not None:
            low, step = self._span[0], self._step
            numbers = np.floor((values.astype(np.float64) - low) / step) + 1
            return numbers.clip(0, 2**KEY_BITS - 1).astype(np.int64)
        with np.errstate(over="ignore"):
            bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
        return np.right_shift(bits, 32 - KEY_BITS)

    @property
    def _step(self) -> float:
        low, high = self._span or (0.0, 0.0)
        return (high - low) / (2**KEY_BITS - 2)

    def _sorted(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """Smallest and largest value of each interval that holds voxels, ascending, and how many it holds."""
        used = np.flatnonzero(self._counts)
        low, high = self._intervals(used)
        order = np.argsort(low, kind="stable")
        return low[order], high[order], self._counts[used[order]]

    def _intervals(self, bins: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Smallest and largest value that is counted in each bin; they are equal where counts are exact."""
        if self._exact:
            values = bins.astype(f"u{self._dtype.itemsize}").view(self._dtype).astype(np.float64)
            return values, values
        if self._span is not None:
            low = np.asarray(self._span[0] + (bins - 1) * self._step, np.float64)
            high = low + self._step
            low[bins == 0], high[bins == 2**KEY_BITS - 1] = self._minimum, self._maximum
            return low, high
        shift = 32 - KEY_BITS
        first = bins.astype(np.uint32) << np.uint32(shift)
        near = first.view(np.float32).astype(np.float64)
        far = (first | np.uint32(2**shift - 1)).view(np.float32).astype(np.float64)
        return np.fmin(near, far), np.fmax(near, far)

    def percentiles(self, names: tuple[str, ...]) -> dict[str, float]:
        """Grey value below which so many per cent of the voxels lie, by the number as text."""
        found = _percentiles(*self._sorted(), [float(name) for name in names])
        return {name: min(max(value, self._minimum), self._maximum) for name, value in zip(names, found, strict=True)}

    def robust(self) -> Robust | tuple[float, float] | None:
        """Mean and standard deviation without padding, and with values clipped to the percentiles ``CLIPPED``.

        Returns
        -------
        Robust, tuple of float or None
            Where the intervals are too coarse for that, the span to count in again; None where all but next to no
            voxels have one value, or a few.
        """
        low, high, counts = self._sorted()
        width, share = high - low, counts / counts.sum()
        padding = _padding(counts)
        kept = ~padding
        few = share[kept].sum() < LEFT
        if self._span is None and (coarse := (width > SUBNORMAL) & (share >= HEAVY) & (padding if few else kept)).any():
            reach = BEYOND * float(width[coarse].max())
            return float(low[coarse].min()) - reach, float(high[coarse].max()) + reach
        if few:
            return None
        middle = np.clip(0.5 * low + 0.5 * high, self._minimum, self._maximum)
        first, last = _percentiles(low[kept], high[kept], counts[kept], list(CLIPPED))
        mean, std = _moments(np.clip(middle[kept], first, last), counts[kept])
        return Robust(mean, std, float(share[padding].sum())) if std > 0 else None

    def plain(self) -> Robust:
        """Mean and standard deviation of all values, as exact as the intervals are."""
        low, high, counts = self._sorted()
        return Robust(*_moments(np.clip(0.5 * low + 0.5 * high, self._minimum, self._maximum), counts), 0.0)


def _padding(counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which values, ascending, are padding: they hold many voxels, and far more than the values beside them."""
    beside = np.zeros(len(counts), np.int64)
    beside[1:] = counts[:-1]
    beside[:-1] = np.maximum(beside[:-1], counts[1:])
    return np.asarray((counts >= PADDING_SHARE * counts.sum()) & (counts > PADDING_PEAK * beside))


def _moments(values: NDArray[np.float64], counts: NDArray[np.int64]) -> tuple[float, float]:
    total = counts.sum()
    mean = float((counts * values).sum() / total)
    with np.errstate(over="ignore"):
        return mean, float(np.sqrt((counts * np.square(values - mean)).sum() / total))


def _percentiles(
    low: NDArray[np.float64], high: NDArray[np.float64], counts: NDArray[np.int64], percents: list[float]
) -> list[float]:
    """Percentiles of values counted in ascending intervals; those of one interval are spread evenly over it."""
    upto = np.cumsum(counts)
    count = int(upto[-1])

    def ranked(rank: int) -> float:
        """The value with this many values before it."""
        i = int(np.searchsorted(upto, rank, side="right"))
        share = (rank - (upto[i] - counts[i]) + 0.5) / counts[i]
        return float(low[i] + (high[i] - low[i]) * share)

    found = []
    for percent in percents:
        position = percent / 100 * (count - 1)
        below = int(position)
        first, last = ranked(below), ranked(min(below + 1, count - 1))
        found.append(first + (last - first) * (position - below))
    return found
