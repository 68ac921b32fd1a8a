"""Slices for the page: only what is on screen is read, at the level of the pyramid that the screen can show.

Whole chunks are decoded whatever is read of them, so they are kept until newer ones need their place: the next slices
lie in the same chunks. Memory is bounded by that place.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import product
from math import prod
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Box, Shape3, triple
from deepfinder_dask.errors import FormatError, GeometryError
from deepfinder_dask.tomograms import Tomogram, Volume
from deepfinder_dask.viewing.annotating.settings import MOST_SLICES
from deepfinder_dask.viewing.sampling import PLANES, factors

KEPT = 128 * 2**20
"""Bytes of chunks that are kept, as codes."""
LARGEST = 128 * 2**20
"""Bytes of the largest chunk that is worth reading for a slice."""
CODES = 65535
"""Largest code of a grey value."""
PIXELS = 4096
"""Most voxels along an edge of a slice: more than a screen has."""
SAMPLE = 160
"""Edge in voxels of what is read to find the range of grey values where the store does not say it."""
SAME = 1e-6
"""Part of a range below which grey values are one value."""


class SlabReader:
    """Reads slices of a tomogram as 16-bit codes. Any thread may call.

    Parameters
    ----------
    tomogram : Tomogram
        What to read.

    Raises
    ------
    FormatError
        Its chunks are too large to read slices from.
    """

    def __init__(self, tomogram: Tomogram) -> None:
        self.tomogram = tomogram
        self.factors = tuple(factors(tomogram.levels, n) for n in range(len(tomogram.levels)))
        """Voxels of the full resolution that make one of each level, (z, y, x)."""
        for level in tomogram.levels:
            size = prod(level.chunks) * level.dtype.itemsize
            if size > LARGEST:
                raise FormatError(
                    f"{level} has chunks of {size / 2**20:.0f} MiB, at most {LARGEST / 2**20:.0f} MiB can be shown "
                    f"slice by slice: deepfinder convert {tomogram.path} -o NEW.zarr"
                )
        self.range = _range_of(tomogram)
        """Grey values of the codes 0 and 65535."""
        self._lock = Lock()
        self._chunks: OrderedDict[tuple[int, Shape3], NDArray[np.uint16]] = OrderedDict()
        self._bytes = 0

    def read(
        self, axis: int, index: int, level: int, rows: tuple[int, int], columns: tuple[int, int], slices: int = 1
    ) -> NDArray[np.uint16]:
        """Part of a slice across an axis, or the mean of several.

        Parameters
        ----------
        axis : int
            0, 1, 2 for slices across z, y, x.
        index : int
            Middle of it, in voxels of the full resolution.
        level : int
            Level of the pyramid.
        rows, columns : tuple of int
            First and one past the last, in voxels of the level, along the axes shown upwards and to the right (see
            ``PLANES``).
        slices : int
            Voxels of the full resolution to take together; cut at the volume's borders.

        Returns
        -------
        ndarray
            (row, column) uint16: 0 and 65535 stand for ``range``; the first row is the lowest.

        Raises
        ------
        GeometryError
            It is outside the tomogram, or larger than any screen.
        """
        up, right = PLANES[axis]
        if not 0 <= level < len(self.factors):
            raise GeometryError(f"expected a level from 0 to {len(self.factors) - 1}, got {level}")
        volume, factor = self.tomogram.levels[level], self.factors[level]
        whole = self.tomogram.shape[axis]
        if not (0 <= index < whole and 1 <= slices <= MOST_SLICES):
            raise GeometryError(f"expected a slice from 0 to {whole - 1}, got {index} and {slices} slices")
        start, stop = [0, 0, 0], [0, 0, 0]
        first, last = max(0, index - (slices - 1) // 2), min(whole, index + slices // 2 + 1)
        start[axis] = min(first // factor[axis], volume.space[axis] - 1)
        stop[axis] = max(start[axis] + 1, min(-(-last // factor[axis]), volume.space[axis]))
        start[up], stop[up] = rows
        start[right], stop[right] = columns
        box = Box(triple(start), triple(stop))
        if box.clip(volume.space) != box or box.size == 0 or max(box.shape[up], box.shape[right]) > PIXELS:
            raise GeometryError(f"expected a part of {volume.space} voxels of level {level}, got {start} to {stop}")
        total = np.zeros([box.shape[n] for n in (up, right)], np.float32)
        for values, place in self._pieces(level, volume, box):
            total[place[up], place[right]] += np.moveaxis(values, (axis, up, right), (0, 1, 2)).sum(
                axis=0, dtype=np.float32
            )
        return (total / np.float32(box.shape[axis]) + np.float32(0.5)).astype(np.uint16)

    def _codes(self, grey: NDArray[Any]) -> NDArray[np.uint16]:
        """Grey values as they are kept: in half the memory of most, and never a view of what was read."""
        low, high = self.range
        codes = grey.astype(np.float32)
        codes -= np.float32(low)
        codes *= np.float32(CODES / (high - low))
        np.fmin(np.fmax(codes, 0, out=codes), CODES, out=codes)  # what is no number becomes 0
        codes += np.float32(0.5)
        return codes.astype(np.uint16)

    def _pieces(self, level: int, volume: Volume, box: Box) -> Iterator[tuple[NDArray[np.uint16], tuple[slice, ...]]]:
        """What each chunk has of a box: the values, and their place in it."""
        chunk = triple(min(c, n) for c, n in zip(volume.chunks[-3:], volume.space, strict=True))
        spans = [range(a // c, -(-b // c)) for a, b, c in zip(box.start, box.stop, chunk, strict=True)]
        for z, y in product(spans[0], spans[1]):
            for (_, _, x), values in self._row(level, volume, chunk, (z, y), spans[2]):
                corner = (z * chunk[0], y * chunk[1], x * chunk[2])
                part = Box(
                    triple(max(a, c) for a, c in zip(box.start, corner, strict=True)),
                    triple(min(b, c + n) for b, c, n in zip(box.stop, corner, values.shape, strict=True)),
                )
                inside = part.shift(triple(-c for c in corner))
                yield values[inside.slices()], part.shift(triple(-a for a in box.start)).slices()

    def _row(
        self, level: int, volume: Volume, chunk: Shape3, row: tuple[int, int], span: range
    ) -> list[tuple[Shape3, NDArray[np.uint16]]]:
        """Chunks side by side along x; those that are not kept are read together."""
        numbers = [(row[0], row[1], x) for x in span]
        with self._lock:
            found = {n: self._chunks[level, n] for n in numbers if (level, n) in self._chunks}
            for n in found:
                self._chunks.move_to_end((level, n))
        missing = [n for n in numbers if n not in found]
        if missing:
            low, high = missing[0], missing[-1]
            start = triple(n * c for n, c in zip(low, chunk, strict=True))
            stop = triple(min((n + 1) * c, e) for n, c, e in zip(high, chunk, volume.space, strict=True))
            values = volume.read(Box(start, stop))
            for n in missing:
                first = n[2] * chunk[2] - start[2]
                found[n] = self._codes(values[:, :, first : first + chunk[2]])
            self._keep(level, {n: found[n] for n in missing})
        return [(n, found[n]) for n in numbers]

    def _keep(self, level: int, chunks: dict[Shape3, NDArray[np.uint16]]) -> None:
        with self._lock:
            for number, values in chunks.items():
                if (level, number) not in self._chunks:
                    self._chunks[level, number] = values
                    self._bytes += values.nbytes
            while self._bytes > KEPT:
                _, oldest = self._chunks.popitem(last=False)
                self._bytes -= oldest.nbytes


def _range_of(tomogram: Tomogram) -> tuple[float, float]:
    """Range of grey values worth showing: almost all of them, and half as much on both sides."""
    known = tomogram.statistics
    if known is not None and {"0.1", "99.9"} <= set(known.percentiles):
        low, high = known.percentiles["0.1"], known.percentiles["99.9"]
        least, most = known.minimum, known.maximum
    else:
        # The middle of the full resolution: coarser levels have a narrower range, since they are means.
        space = tomogram.shape
        edges = triple(min(n, SAMPLE) for n in space)
        start = triple((n - e) // 2 for n, e in zip(space, edges, strict=True))
        values = tomogram.read(Box(start, triple(a + e for a, e in zip(start, edges, strict=True))))
        values = values.astype(np.float32).ravel()
        values = values[np.isfinite(values)]
        if not values.size:
            return 0.0, 1.0
        low, high = (float(v) for v in np.percentile(values, (0.1, 99.9)))
        least, most = float(values.min()), float(values.max())
    if high - low < SAME * (most - least):
        low, high = least, most  # almost all voxels have one value
    margin = (high - low) / 2
    low, high = max(least, low - margin), min(most, high + margin)
    return (low, high) if high - low > SAME * max(abs(low), abs(high), SAME) else (low - 0.5, low + 0.5)
