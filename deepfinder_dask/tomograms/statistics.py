"""Statistics of a whole volume in one pass, with the same bits whatever slabs, bands or chunks it is read in.

Each row along x is reduced on its own, in float64: its sum, and its squared deviations from its own mean. The rows of a
z plane are combined in the order of y, the planes in the order of z (the parallel form of Chan, Golub and LeVeque,
1979, which does not cancel). Percentiles come from counts per interval of values, and counts do not depend on order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Box, Shape3
from deepfinder_dask.errors import FormatError
from deepfinder_dask.tomograms.tomogram import Robust, Statistics
from deepfinder_dask.tomograms.value_counts import ValueCounts

if TYPE_CHECKING:
    from deepfinder_dask.tomograms.volume import Volume

PERCENTILES = ("0.1", "0.5", "1", "5", "50", "95", "99", "99.5", "99.9")
Inside = Callable[[Box], NDArray[np.bool_]]
"""Which voxels of a box count, (z, y, x) bool."""
TILE = 2**16
"""Voxels that are reduced at a time: what fits the processor's cache."""


class StatisticsBuilder:
    """Takes the voxels of a volume, whole rows in any order, each once; gives their statistics.

    Parameters
    ----------
    shape : tuple of int
        The volume in voxels, (z, y, x).
    dtype : dtype
        Type of its values.
    """

    def __init__(self, shape: Shape3, dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self.nan = 0
        self.infinite = 0
        self.counts = ValueCounts(dtype)
        self._rows: dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
        self._missing = np.full(shape[0], shape[1], np.int64)
        self._sums = np.zeros(shape[0])
        self._squares = np.zeros(shape[0])
        self._minimum, self._maximum = np.inf, -np.inf
        rows = max(1, TILE // shape[2])
        self._tile = np.empty((rows, shape[2]), np.float64)

    @property
    def finite(self) -> bool:
        """Whether all values so far are finite."""
        return self.nan + self.infinite == 0

    def add(self, z: int, y: int, values: NDArray[Any]) -> None:
        """Take rows ``[z, y]`` onwards: ``(z, y, x)`` over the whole of x."""
        for i, plane in enumerate(values):
            sums, squares = self._rows.setdefault(z + i, (np.empty(self.shape[1]), np.empty(self.shape[1])))
            for first in range(0, len(plane), len(self._tile)):
                tile = plane[first : first + len(self._tile)]
                rows = slice(y + first, y + first + len(tile))
                self._reduce(tile, sums[rows], squares[rows])
            self._missing[z + i] -= len(plane)
            if self._missing[z + i] == 0:
                self._close_plane(z + i)

    def _reduce(self, tile: NDArray[Any], sums: NDArray[np.float64], squares: NDArray[np.float64]) -> None:
        low, high = float(tile.min()), float(tile.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            nan = int(np.isnan(tile).sum())
            self.nan += nan
            self.infinite += int(tile.size - nan - np.isfinite(tile).sum())
            return
        self._minimum, self._maximum = min(self._minimum, low), max(self._maximum, high)
        work = self._tile[: len(tile)]
        np.copyto(work, tile)
        np.sum(work, axis=-1, out=sums)
        with np.errstate(over="ignore"):
            work -= (sums / tile.shape[1])[:, None]
            np.multiply(work, work, out=work)
            np.sum(work, axis=-1, out=squares)
        self.counts.add(tile)

    def _close_plane(self, z: int) -> None:
        sums, squares = self._rows.pop(z)
        _, rows, columns = self.shape
        total = sums.sum()
        mean = total / (rows * columns)
        self._sums[z] = total
        with np.errstate(over="ignore"):
            self._squares[z] = squares.sum() + columns * np.square(sums / columns - mean).sum()

    def result(self) -> Statistics:
        """The statistics of all voxels; without robust ones where these need a second look (:func:`statistics_of`).

        Raises
        ------
        FormatError
            If there were values that are not finite, or too large for their squares to be.
        """
        if not self.finite:
            raise FormatError(f"expected finite values, found {self.nan} NaN and {self.infinite} infinite")
        count = self.shape[0] * self.shape[1] * self.shape[2]
        plane = self.shape[1] * self.shape[2]
        mean = float(self._sums.sum()) / count
        with np.errstate(over="ignore"):
            squares = self._squares.sum() + plane * np.square(self._sums / plane - mean).sum()
        std = float(np.sqrt(squares / count))
        if not np.isfinite(std):
            raise FormatError(f"expected values whose squares are finite, found values up to {self._maximum:g}")
        robust = self.counts.robust()
        return Statistics(
            count,
            mean,
            std,
            self._minimum,
            self._maximum,
            self.counts.percentiles(PERCENTILES),
            robust if isinstance(robust, Robust) else None,
        )


def statistics_of(volume: Volume) -> Statistics:
    """Statistics of a volume of any origin: the same bits as if :func:`convert` had made them.

    Reads the volume once, a row of shards (or chunks) at a time; thrice where its mean is so far from 0 that 32-bit
    floats of one interval (1/2048 of the value) spread over more than an eighth of its standard deviation.

    Raises
    ------
    FormatError
        If values are not finite, or the volume has classes.
    """
    if volume.ndim != 3:
        raise FormatError(f"expected one volume (z, y, x) at {volume}, found shape {volume.shape}")
    builder = StatisticsBuilder(volume.space, volume.dtype)
    for box in _bands(volume):
        builder.add(box.start[0], box.start[1], volume.read(box))
    if not builder.finite:
        raise FormatError(
            f"expected finite values in {volume}, found {builder.nan} NaN and {builder.infinite} infinite: "
            "give them a value with `deepfinder convert --replace-nonfinite VALUE`"
        )
    statistics = builder.result()
    return statistics if statistics.robust is not None else replace(statistics, robust=robust_of(volume))


def robust_of(volume: Volume, inside: Inside | None = None) -> Robust | None:
    """Robust mean and deviation of a volume of finite values, or of its voxels inside; reads it once or twice.

    Returns
    -------
    Robust or None
        None where no voxel is inside.
    """
    counts = _counted(volume, inside)
    if not counts.total:
        return None
    found = counts.robust()
    if isinstance(found, tuple):  # the mean is far from 0, beside the deviation
        found = _counted(volume, inside, found).robust()
    return found if isinstance(found, Robust) else counts.plain()


def _counted(volume: Volume, inside: Inside | None, span: tuple[float, float] | None = None) -> ValueCounts:
    counts = ValueCounts(volume.dtype, span)
    for box in _bands(volume):
        if inside is None:
            counts.add(volume.read(box))
        elif (within := inside(box)).any():
            counts.add(volume.read(box)[within])
    return counts


def _bands(volume: Volume) -> Iterator[Box]:
    """Boxes over the whole of x that make up a volume, each a row of its shards."""
    nz, ny, nx = volume.space
    dz, dy, _ = volume.chunks
    for z in range(0, nz, dz):
        for y in range(0, ny, dy):
            yield Box((z, y, 0), (min(nz, z + dz), min(ny, y + dy), nx))
