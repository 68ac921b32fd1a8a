"""The levels of an image below its full resolution: each halves z, y and x of the one before.

A voxel of a level covers two voxels of the level before on each axis, or one where that ends in an odd one; its value
is the mean (mode, maximum) of those that exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import BlockGrid, Box, Shape3, triple
from deepfinder_dask.errors import SettingsError
from deepfinder_dask.execution import Executor, SerialExecutor
from deepfinder_dask.tomograms.location import AnyPath, normalise
from deepfinder_dask.tomograms.opening import read_attributes
from deepfinder_dask.tomograms.storage import create_level
from deepfinder_dask.tomograms.volume import Volume

if TYPE_CHECKING:
    from deepfinder_dask.tomograms.settings import Compression

Method = Literal["mean", "mode", "max"]
"""How a voxel comes from those it covers: mean for grey values, mode for labels, max for probabilities."""
SMALLEST = 128
"""Levels are made until no axis is longer than this, in voxels."""
SHARD: Shape3 = (64, 64, 128)
"""Shard of the lower levels in voxels: half of the one above, so that a block of each needs the same memory."""


def level_shapes(shape: Sequence[int], smallest: int = SMALLEST) -> list[tuple[int, ...]]:
    """Shapes of all levels of a pyramid, the full resolution first; leading axes (classes) stay."""
    shapes = [tuple(int(n) for n in shape)]
    while max(shapes[-1][-3:]) > smallest:
        shapes.append(shapes[-1][:-3] + tuple(-(-n // 2) for n in shapes[-1][-3:]))
    return shapes


def halve(values: NDArray[Any], method: Method = "mean") -> NDArray[Any]:
    """Halve the last three axes.

    Parameters
    ----------
    values : ndarray
        ``(z, y, x)`` or ``(class, z, y, x)``, starting at an even voxel of the level on each axis.
    method : str
        "mean" (rounded half to even for integers), "mode" (ties to the smallest), or "max".

    Returns
    -------
    ndarray
        Half the extent, rounded up, and the same dtype.
    """
    odd = [(0, 0)] * (values.ndim - 3) + [(0, n % 2) for n in values.shape[-3:]]
    if any(high for _, high in odd):
        values = np.pad(values, odd, mode="edge")  # a voxel counted twice changes neither mean, mode nor maximum
    if method == "max":
        for axis in (-3, -2, -1):
            values = np.maximum(*_pairs(values, axis))
        return values
    if method == "mode":
        return _mode(values)
    dtype = values.dtype
    if dtype.kind == "f":
        wide = np.dtype(np.float32) if dtype.itemsize <= 4 else dtype
    else:
        wide = np.dtype(np.int32 if dtype.itemsize <= 2 else np.float64)
    total = values
    for axis in (-3, -2, -1):
        total = np.add(*_pairs(total, axis), dtype=wide)
    if dtype.kind == "f":
        total *= total.dtype.type(0.125)
        return total.astype(dtype, copy=False)
    return np.rint(total * 0.125).astype(dtype)


def _pairs(values: NDArray[Any], axis: int) -> tuple[NDArray[Any], NDArray[Any]]:
    tail: tuple[Any, ...] = (slice(None),) * (-axis - 1)
    even: tuple[Any, ...] = (..., slice(0, None, 2), *tail)
    odd: tuple[Any, ...] = (..., slice(1, None, 2), *tail)
    return values[even], values[odd]


def _mode(values: NDArray[Any]) -> NDArray[Any]:
    corners = [c for a in _pairs(values, -3) for b in _pairs(a, -2) for c in _pairs(b, -1)]
    stack: NDArray[Any] = np.sort(np.stack(corners), axis=0)
    best: NDArray[Any] = stack[0].copy()
    votes = np.zeros(stack.shape[1:], np.uint8)
    for candidate in stack:
        count = (stack == candidate).sum(axis=0, dtype=np.uint8)
        better = count > votes  # sorted, so that the smallest of several winners came first
        best[better], votes[better] = candidate[better], count[better]
    return best


@dataclass(frozen=True)
class _Task:
    """One block of a level to be made from the level before."""

    above: Volume
    level: Volume
    box: Box
    method: Method


def _make_block(task: _Task) -> None:
    above = Box(triple(2 * n for n in task.box.start), triple(2 * n for n in task.box.stop)).clip(task.above.space)
    task.level.write(task.box, halve(task.above.read(above), task.method))


def build_pyramid(
    path: AnyPath,
    *,
    method: Method = "mean",
    executor: Executor | None = None,
    start: int = 0,
    smallest: int = SMALLEST,
    compression: Compression = "auto",
) -> tuple[Volume, ...]:
    """Make the levels of an unfinished image below ``start``; each block writes whole shards of its own.

    Parameters
    ----------
    path : str or path
        The image, made by :func:`create_image`, with its levels up to ``start`` written.
    method : str
        "mean", "mode" or "max", see :func:`halve`.
    executor : Executor, optional
        Runs the blocks; default one after another in this process.
    start : int
        The last level that is there.
    smallest : int
        Levels are made until no axis is longer than this, in voxels.
    compression : str
        As in :func:`create_image`.

    Returns
    -------
    tuple of Volume
        All levels, the full resolution first.
    """
    if method not in get_args(Method):
        raise SettingsError(f"expected a pyramid by mean, mode or max, got {method!r}")
    axes = read_attributes(path)["axes"]
    full = Volume(normalise(path), "0")
    levels = [Volume(normalise(path), str(k)) for k in range(start + 1)]
    chunk = full.chunks[-3:]
    for number, shape in enumerate(level_shapes(full.shape, smallest)):
        if number <= start:
            continue
        level = create_level(
            path, number, shape=shape, dtype=full.dtype, chunk=chunk, shard=SHARD, axes=axes, compression=compression
        )
        grid = BlockGrid(level.space, triple(level.write_unit[-3:]))
        tasks = [_Task(levels[-1], level, block.write, method) for block in grid]
        for _ in (executor or SerialExecutor()).run(_make_block, tasks, label=f"pyramid level {number}"):
            pass
        levels.append(level)
    return tuple(levels)
