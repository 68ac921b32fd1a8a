"""Volumes at another voxel size, block by block, and label maps brought back onto the first grid.

Both grids have voxel 0 at position 0. Output voxel ``j`` samples the input at voxel ``j * new / old``: grey values by
linear interpolation, widened to a triangle of ``new / old`` voxels where the new voxels are larger, so that nothing
finer than they are folds into the result, and centred on the sampled point; labels by the nearest voxel. Weights are
computed in float64 from the index in the whole volume and summed tap by tap in float32, so that blocks of any size give
the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import BlockGrid, Box, Shape3, triple
from deepfinder_dask.errors import GeometryError
from deepfinder_dask.execution import Executor, Progress, SerialExecutor
from deepfinder_dask.tomograms.layout import CHUNK, SHARD
from deepfinder_dask.tomograms.location import AnyPath
from deepfinder_dask.tomograms.regions import Region
from deepfinder_dask.tomograms.statistics import statistics_of
from deepfinder_dask.tomograms.storage import create_image, finish_image
from deepfinder_dask.tomograms.tomogram import VoxelSize, as_voxel_size
from deepfinder_dask.tomograms.volume import Volume

PIECE_BYTES = 64 * 2**20
"""Input that is read at a time, where a single plane of output allows."""


def rescaled_shape(shape: Sequence[int], voxel_size_in: VoxelSize, voxel_size_out: VoxelSize) -> Shape3:
    """Voxels after resampling, (z, y, x): as many as have their centre within the centres of the input.

    ``floor((n - 1) * old / new) + 1`` on each axis, at least 1.
    """
    per_axis = zip(shape[-3:], voxel_size_in, voxel_size_out, strict=True)
    return triple(max(1, floor((n - 1) * old / new + 1e-6) + 1) for n, old, new in per_axis)


def rescale(
    volume: Volume,
    output: AnyPath,
    voxel_size_in: float | Sequence[float],
    voxel_size_out: float | Sequence[float],
    *,
    executor: Executor | None = None,
    block: Sequence[int] | None = None,
    overwrite: bool = False,
    attributes: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Volume:
    """Resample grey values to another voxel size and write them as a finished image with statistics.

    Parameters
    ----------
    volume : Volume
        Grey values, (z, y, x).
    output : str or path
        The OME-Zarr group to make.
    voxel_size_in, voxel_size_out : float or sequence of float
        Å per voxel before and after, one number or (z, y, x).
    executor : Executor, optional
        Runs the blocks; default one after another in this process.
    block : sequence of int, optional
        Shard of the output and so the voxels of one task, (z, y, x); changes no value.
    overwrite : bool
        Replace an output that is there.
    attributes : mapping, optional
        More attributes of the output, such as ``{"imaging": …}``.
    progress : bool
        Show a bar where standard error is a terminal.

    Returns
    -------
    Volume
        The full resolution of the output: (z, y, x) float32, shape as :func:`rescaled_shape`.

    Raises
    ------
    OutputExistsError, StorageError
        As :func:`create_image`.
    FormatError
        If input values are not finite.
    """
    old, new = as_voxel_size(voxel_size_in), as_voxel_size(voxel_size_out)
    if volume.ndim != 3:
        raise GeometryError(f"expected one volume (z, y, x) to rescale, got {volume} of shape {volume.shape}")
    target = create_image(
        output,
        shape=rescaled_shape(volume.space, old, new),
        dtype=np.float32,
        voxel_size=new,
        chunk=CHUNK if block is None else [min(c, b) for c, b in zip(CHUNK, block, strict=True)],
        shard=SHARD if block is None else block,
        overwrite=overwrite,
        kind="rescaled",
    )
    ratio = triple_ratio(new, old)
    tasks = [_Task(volume, target, b.write, ratio) for b in BlockGrid(target.space, triple(target.write_unit))]
    _run_all(executor, _linear_block, tasks, "rescale", progress)
    facts = {"rescaled_from": {"volume": str(volume), "voxel_size": list(old)}, **(attributes or {})}
    finish_image(output, {**facts, "statistics": statistics_of(target).to_dict()})
    return target


def resample_labels(
    source: Volume,
    target: Volume,
    voxel_size_in: float | Sequence[float],
    voxel_size_out: float | Sequence[float],
    *,
    region: Region | None = None,
    executor: Executor | None = None,
    progress: bool = True,
) -> None:
    """Fill a volume on another grid with the nearest voxels: labels, or any values that must not be mixed.

    Parameters
    ----------
    source : Volume
        Values, (z, y, x) or (class, z, y, x).
    target : Volume
        Empty volume of an unfinished image, of the same type and number of classes; it decides the shape.
    voxel_size_in, voxel_size_out : float or sequence of float
        Å per voxel of source and target, one number or (z, y, x).
    region : Region, optional
        Voxels of the target to fill; the others become 0.
    executor : Executor, optional
        Runs the blocks, one per shard of the target; default one after another in this process.
    progress : bool
        Show a bar where standard error is a terminal.

    Raises
    ------
    GeometryError
        If the two differ in type or number of classes.
    """
    if source.dtype != target.dtype or source.shape[:-3] != target.shape[:-3]:
        raise GeometryError(
            f"expected {target} to have type {source.dtype} and classes {source.shape[:-3]} of {source}, "
            f"got {target.dtype} and {target.shape[:-3]}"
        )
    ratio = triple_ratio(as_voxel_size(voxel_size_out), as_voxel_size(voxel_size_in))
    grid = BlockGrid(target.space, triple(target.write_unit[-3:]))
    tasks = [_Task(source, target, b.write, ratio, region) for b in grid]
    _run_all(executor, _nearest_block, tasks, "resample", progress)


def triple_ratio(a: VoxelSize, b: VoxelSize) -> tuple[float, float, float]:
    """``a / b`` on each axis, (z, y, x)."""
    return a[0] / b[0], a[1] / b[1], a[2] / b[2]


@dataclass(frozen=True)
class _Task:
    """A block of the output, and input voxels per output voxel."""

    source: Volume
    target: Volume
    box: Box
    ratio: tuple[float, float, float]
    region: Region | None = None


def _run_all(executor: Executor | None, function: Any, tasks: Sequence[_Task], label: str, progress: bool) -> None:
    with Progress(label, len(tasks), enabled=None if progress else False) as bar:
        for _ in (executor or SerialExecutor()).run(function, tasks, label=label):
            bar.advance()


def _linear_block(task: _Task) -> None:
    """Compute and write one block, some planes at a time."""
    out = np.empty(task.box.shape, np.float32)
    planes = 1
    while planes < out.shape[0]:
        box = Box(task.box.start, (task.box.start[0] + 2 * planes, *task.box.stop[1:]))
        if _input_box(box, task.ratio, task.source.space).size * 4 > PIECE_BYTES:
            break
        planes *= 2
    for z in range(0, out.shape[0], planes):
        stop = min(out.shape[0], z + planes)
        start_z = task.box.start[0]
        box = Box((start_z + z, *task.box.start[1:]), (start_z + stop, *task.box.stop[1:]))
        read = _input_box(box, task.ratio, task.source.space)
        out[z:stop] = interpolate(task.source.read(read), read, box, task.ratio, task.source.space)
    task.target.write(task.box, out)


def interpolate(
    values: NDArray[Any], read: Box, box: Box, ratio: tuple[float, float, float], shape: Shape3
) -> NDArray[np.float32]:
    """Grey values of a box of the output.

    Parameters
    ----------
    values : ndarray
        Input values of ``read``, (z, y, x).
    read : Box
        Voxels of the input that hold all that the output needs.
    box : Box
        Voxels of the output.
    ratio : tuple of float
        Input voxels per output voxel, (z, y, x).
    shape : tuple of int
        The whole input in voxels, (z, y, x): beyond its border the border voxel goes on.
    """
    result = values.astype(np.float32)
    for axis in range(3):
        index, weight = _taps(box.start[axis], box.stop[axis], ratio[axis], shape[axis])
        index = index - read.start[axis]
        spread = (-1,) + (1,) * (2 - axis)
        total = np.take(result, index[0], axis) * weight[0].reshape(spread)
        for i, w in zip(index[1:], weight[1:], strict=True):
            total += np.take(result, i, axis) * w.reshape(spread)
        result = total
    return result


def _taps(start: int, stop: int, ratio: float, extent: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Input voxels and weights of output voxels ``start`` to ``stop`` along one axis: (tap, output voxel)."""
    width = max(1.0, ratio)
    centre = np.arange(start, stop, dtype=np.float64) * ratio
    offsets = np.arange(floor(-width) + 1, ceil(width) + 1)
    index = np.floor(centre).astype(np.intp) + offsets[:, None]
    distance = index - centre
    weight = np.clip(1.0 - np.abs(distance) / width, 0.0, None)
    if width > 1.0:  # tilt the triangle so that its centre of mass is the sampled point: positions stay
        first, second = _sum(weight * distance), _sum(weight * distance**2)
        weight *= second - first * distance
    return np.clip(index, 0, extent - 1), (weight / _sum(weight)).astype(np.float32)


def _sum(taps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over the taps, one by one: the order, and so the bits, do not depend on how many voxels there are."""
    total = np.zeros(taps.shape[1])
    for tap in taps:
        total += tap
    return total


def _input_box(box: Box, ratio: tuple[float, float, float], shape: Shape3) -> Box:
    """Voxels of the input that a box of the output needs."""
    spans = [_taps(a, b, r, n)[0] for a, b, r, n in zip(box.start, box.stop, ratio, shape, strict=True)]
    return Box(triple(i.min() for i in spans), triple(i.max() + 1 for i in spans))


def _nearest_block(task: _Task) -> None:
    """Fill one block with the nearest voxels."""
    inside = None if task.region is None else task.region.read(task.box)
    if inside is not None and not inside.any():
        task.target.write(task.box, np.zeros((*task.source.shape[:-3], *task.box.shape), task.source.dtype))
        return
    spans = [
        _nearest(a, b, r, n)
        for a, b, r, n in zip(task.box.start, task.box.stop, task.ratio, task.source.space, strict=True)
    ]
    read = Box(triple(i[0] for i in spans), triple(i[-1] + 1 for i in spans))
    values = task.source.read(read)
    for axis, index in enumerate(spans):
        values = np.take(values, index - read.start[axis], axis - 3)
    if inside is not None:
        np.copyto(values, 0, where=~inside)
    task.target.write(task.box, values)


def _nearest(start: int, stop: int, ratio: float, extent: int) -> NDArray[np.intp]:
    """Voxels of the input, along one axis, that are nearest to voxels ``start`` to ``stop`` of the output."""
    nearest = np.floor(np.arange(start, stop, dtype=np.float64) * ratio + 0.5).astype(np.intp)
    return np.clip(nearest, 0, extent - 1)


@dataclass(frozen=True)
class RescaledRegion:
    """A region on the grid of another voxel size, for what :func:`resample_labels` brings back: box by box, not voxel
    by voxel. A box is inside where a voxel of the region takes its value from it.
    """

    region: Region
    """Voxels that count, on the tomogram's own grid."""
    voxel_size: VoxelSize
    """Å per voxel of that grid, (z, y, x)."""
    scale: VoxelSize
    """Å per voxel of the other grid, (z, y, x)."""

    def is_empty(self, box: Box) -> bool:
        """Whether no voxel of the region takes its value from the box, on the other grid."""
        start, stop = [], []
        shape = rescaled_shape(self.region.shape, self.voxel_size, self.scale)
        ratio = triple_ratio(self.voxel_size, self.scale)
        for a, b, n, r, extent in zip(box.start, box.stop, self.region.shape, ratio, shape, strict=True):
            first, last = np.searchsorted(_nearest(0, n, r, extent), [a, b])
            start.append(first)
            stop.append(last)
        return self.region.is_empty(Box(triple(start), triple(stop)))

    def read(self, box: Box) -> NDArray[np.bool_]:
        """Which voxels of a box, on the other grid, are inside, (z, y, x) bool: all or none."""
        return np.full(box.shape, not self.is_empty(box))

    def read_nearest(self, box: Box) -> NDArray[np.bool_]:
        """Which voxels of a box, on the other grid, have a voxel of the region nearest to them, (z, y, x) bool."""
        ratio = triple_ratio(self.scale, self.voxel_size)
        spans = [_nearest(a, b, r, n) for a, b, r, n in zip(box.start, box.stop, ratio, self.region.shape, strict=True)]
        values = self.region.read(Box(triple(i[0] for i in spans), triple(i[-1] + 1 for i in spans)))
        return values[np.ix_(*(index - index[0] for index in spans))]
