"""The inner loop of ``convert``: every voxel is read once, counted, stored, and averaged into the first lower level.

::

    source rows ──► band (z of a shard, y of a shard, whole x) ─┬─► statistics        (a thread of its own)
                                                                ├─► level 0, whole shards
                                                                └─► level 1, whole shards of half the size
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Box, Shape3, triple
from deepfinder_dask.errors import FormatError
from deepfinder_dask.execution import Progress
from deepfinder_dask.tomograms.layout import SHARD
from deepfinder_dask.tomograms.pyramid import halve, level_shapes
from deepfinder_dask.tomograms.statistics import StatisticsBuilder
from deepfinder_dask.tomograms.storage import create_level

if TYPE_CHECKING:
    from deepfinder_dask.tomograms.settings import ConvertSettings
    from deepfinder_dask.tomograms.sources import Source
    from deepfinder_dask.tomograms.tomogram import Statistics
    from deepfinder_dask.tomograms.volume import Volume

BAND_BYTES = 160 * 2**20
"""Largest band in memory, where chunks allow."""


@dataclass(frozen=True)
class Copied:
    """What came of copying a volume."""

    statistics: Statistics
    """Statistics of all voxels as stored."""
    levels: int
    """How many pyramid levels were written on the way: 1 or 2."""
    replaced: int
    """Number of voxels that were not finite and got another value."""


def shard_for(shape: Shape3, chunk: int, itemsize: int) -> Shape3:
    """Shard in voxels, (z, y, x), for a volume that is written in bands over the whole of x.

    An even number of whole chunks, or of voxels where chunks are even, so that half a shard is a shard of the next
    level; about as many as in ``SHARD`` unless bands of that height would need more than ``BAND_BYTES``.
    """
    unit = chunk if chunk % 2 == 0 else 2 * chunk
    z, y, x = (max(1, wished // unit) for wished in SHARD)
    while min(z * unit, shape[0]) * min(y * unit, shape[1]) * shape[2] * itemsize > BAND_BYTES and max(z, y) > 1:
        if y >= z:
            y //= 2
        else:
            z //= 2
    return z * unit, y * unit, x * unit


def copy_voxels(source: Source, volume: Volume, settings: ConvertSettings, *, progress: bool) -> Copied:
    """Store all voxels of a source in an empty volume, and the mean of eight in its level 1 if there is to be one.

    Raises
    ------
    FormatError
        If values are not finite and no replacement is given; all of them have been counted by then.
    """
    nz, ny, nx = volume.space
    band = shard_for(volume.space, settings.chunk, volume.dtype.itemsize)
    rows = band[1]
    if source.whole_planes:  # as few visits to a plane as memory allows
        rows *= max(1, BAND_BYTES // (band[0] * rows * nx * volume.dtype.itemsize))
    half = _level_one(volume, band, settings) if settings.pyramid else None
    builder = StatisticsBuilder(volume.space, volume.dtype)
    replaced = 0
    bands = [(z, y) for z in range(0, nz, band[0]) for y in range(0, ny, rows)]
    with (
        ThreadPoolExecutor(1, thread_name_prefix="statistics") as counting,
        Progress(f"convert {source.path.rsplit('/', 1)[-1]}", len(bands), enabled=None if progress else False) as bar,
    ):
        for z, y in bands:
            box = Box((z, y, 0), (min(nz, z + band[0]), min(ny, y + rows), nx))
            values = source.read((z, box.stop[0]), (y, box.stop[1]))
            if settings.replace_nonfinite is not None:
                replaced += _replace(values, settings.replace_nonfinite)
            counted = counting.submit(builder.add, z, y, values)
            if builder.finite:
                volume.write(box, values)
                if half is not None:
                    target = Box(triple(n // 2 for n in box.start), triple(-(-n // 2) for n in box.stop))
                    half.write(target, _halve_slowly(values))
            counted.result()
            bar.advance()
    if not builder.finite:
        raise FormatError(
            f"expected finite values in {source.path}, found {builder.nan} NaN and {builder.infinite} infinite: "
            "give them a value with --replace-nonfinite VALUE"
        )
    return Copied(builder.result(), 1 if half is None else 2, replaced)


def _level_one(volume: Volume, band: Shape3, settings: ConvertSettings) -> Volume | None:
    """The empty level 1, in shards of half a band, or None for a volume that needs no lower level."""
    shapes = level_shapes(volume.shape)
    if len(shapes) == 1:
        return None
    shard = triple(n // 2 for n in band)
    chunk = triple(settings.chunk if s % settings.chunk == 0 else s for s in shard)
    return create_level(
        volume.path, 1, shape=shapes[1], dtype=volume.dtype, chunk=chunk, shard=shard, compression=settings.compression
    )


def _halve_slowly(values: NDArray[Any]) -> NDArray[Any]:
    """Half of a band, two planes at a time: little memory beside the band itself."""
    return np.concatenate([halve(values[z : z + 2]) for z in range(0, len(values), 2)])


def _replace(values: NDArray[Any], value: float) -> int:
    """Give voxels that are not finite a value, in place; how many there were."""
    if values.dtype.kind != "f":
        return 0
    wrong = ~np.isfinite(values)
    count = int(wrong.sum())
    if count:
        values[wrong] = value
    return count
