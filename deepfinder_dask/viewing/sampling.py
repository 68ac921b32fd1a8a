"""What a picture reads of a volume: one slab of a pyramid level, or sums along two axes, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Box, Shape3, triple
from deepfinder_dask.errors import GeometryError
from deepfinder_dask.tomograms import Volume

PIXELS = 2048
"""Largest extent of a picture, in pixels: no slice is read finer than this."""
READ_BYTES = 64 * 2**20
"""Bytes that are read at once."""

PLANES: tuple[tuple[int, int], ...] = ((1, 2), (0, 2), (1, 0))
"""Axes shown (upwards, to the right) in slices across z, y and x: y and x, z and x, y and z."""


@dataclass(frozen=True)
class Slice:
    """A plane of a volume, as a picture shows it."""

    values: NDArray[np.generic]
    """(up, right): the first row is the lowest; axes as in ``PLANES``."""
    extent: tuple[float, float, float, float]
    """Edges (left, right, bottom, top) in voxels of the full resolution; voxel 0 reaches from -0.5 to 0.5."""


def factors(levels: Sequence[Volume], number: int) -> Shape3:
    """How many voxels of the full resolution make one of this level, (z, y, x)."""
    return triple(max(1, round(a / b)) for a, b in zip(levels[0].space, levels[number].space, strict=True))


def pick_level(levels: Sequence[Volume], axes: Sequence[int], pixels: int = PIXELS) -> int:
    """Number of the finest level of at most this many voxels along each of these axes; the coarsest if none is."""
    for number, level in enumerate(levels):
        if all(level.space[axis] <= pixels for axis in axes):
            return number
    return len(levels) - 1


def read_slice(
    levels: Sequence[Volume], axis: int, index: int, *, thickness: int = 1, mean: bool = True, pixels: int = PIXELS
) -> Slice:
    """One slice across an axis.

    Parameters
    ----------
    levels : sequence of Volume
        Pyramid, full resolution first; the level read is the finest that fits ``pixels``.
    axis : int
        0, 1, 2 for slices across z, y, x.
    index : int
        Middle of the slice, in voxels of the full resolution.
    thickness : int
        Voxels of the full resolution to take together; cut at the volume's borders.
    mean : bool
        Average over the thickness (grey values, float32); otherwise take the middle plane as it is (labels).
    pixels : int
        Largest extent of the result. Where no level is that small, every so-manieth voxel is taken.

    Raises
    ------
    GeometryError
        If the index is outside the volume.
    """
    up, right = PLANES[axis]
    if not 0 <= index < levels[0].space[axis]:
        raise GeometryError(f"slice {index} is outside {levels[0].space} (z, y, x) on axis {'zyx'[axis]}")
    number = pick_level(levels, (up, right), pixels)
    level, factor = levels[number], factors(levels, number)
    shape = level.space
    first = max(0, index - (thickness - 1) // 2) if mean else index
    last = min(levels[0].space[axis], index + thickness // 2 + 1) if mean else index + 1
    low = min(first // factor[axis], shape[axis] - 1)
    high = max(low + 1, min(-(-last // factor[axis]), shape[axis]))
    step = max(1, -(-max(shape[up], shape[right]) // pixels))
    # Strips along one axis: a plane without a pyramid may be larger than what is read at once.
    rows = max(1, READ_BYTES // (shape[right] * (high - low) * level.dtype.itemsize) // step) * step
    strips = []
    for row in range(0, shape[up], rows):
        start, stop = [0, 0, 0], list(shape)
        start[axis], stop[axis] = low, high
        start[up], stop[up] = row, min(row + rows, shape[up])
        block = np.moveaxis(level.read(Box(triple(start), triple(stop))), (axis, up, right), (0, 1, 2))
        block = block[:, ::step, ::step]
        strips.append(block.mean(axis=0, dtype=np.float32) if mean else block[0])
    return Slice(np.concatenate(strips), plane_extent(levels, axis, number))


def plane_extent(levels: Sequence[Volume], axis: int, number: int = 0) -> tuple[float, float, float, float]:
    """Edges (left, right, bottom, top) of a plane across an axis, in voxels of the full resolution."""
    up, right = PLANES[axis]
    factor, shape = factors(levels, number), levels[number].space
    return -0.5, shape[right] * factor[right] - 0.5, -0.5, shape[up] * factor[up] - 0.5


def read_means(levels: Sequence[Volume], pixels: int = 1024) -> tuple[Slice, Slice]:
    """Means of a whole volume along z (y up, x right) and along y (z up, x right).

    Read once, in blocks of bounded size, at the finest level of at most ``pixels`` voxels along each axis.

    Parameters
    ----------
    levels : sequence of Volume
        Pyramid, full resolution first.
    pixels : int
        Largest extent of the level read; the coarsest level is taken where none is that small.
    """
    number = pick_level(levels, (0, 1, 2), pixels)
    level = levels[number]
    nz, ny, nx = level.space
    along_z = np.zeros((ny, nx), np.float64)
    along_y = np.zeros((nz, nx), np.float64)
    rows = _whole_chunks(ny, level.chunks[-2], READ_BYTES // (level.chunks[-3] * nx * level.dtype.itemsize))
    planes = _whole_chunks(nz, level.chunks[-3], READ_BYTES // (rows * nx * level.dtype.itemsize))
    for z in range(0, nz, planes):
        for y in range(0, ny, rows):
            box = Box((z, y, 0), (min(z + planes, nz), min(y + rows, ny), nx))
            block = level.read(box)
            along_z[y : box.stop[1]] += block.sum(axis=0, dtype=np.float64)
            along_y[z : box.stop[0]] += block.sum(axis=1, dtype=np.float64)
    return (
        Slice((along_z / nz).astype(np.float32), plane_extent(levels, 0, number)),
        Slice((along_y / ny).astype(np.float32), plane_extent(levels, 1, number)),
    )


def _whole_chunks(extent: int, chunk: int, wished: int) -> int:
    """Length of a block along one axis: at most as wished, whole chunks, at least one."""
    return min(extent, max(1, wished // chunk) * chunk)
