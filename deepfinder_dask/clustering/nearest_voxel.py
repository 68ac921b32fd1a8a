"""Distance of positions to the nearest voxel of a label, exact for any blocks: of all voxels the smallest distance.

No block needs a halo, and the search has no limit. A first pass keeps of each tile of 16³ voxels the box around its
voxels of the label; these boxes say which tiles can hold the nearest voxel of a position. A second pass measures the
voxels of those tiles::

    label map (each block alone) ──> boxes around voxels, by tile ──> which tiles, for which positions
    label map (blocks of those tiles) ──> smallest distance in each ──> smallest of all
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from deepfinder_dask.blocks import Block, BlockGrid, Box, triple
from deepfinder_dask.clustering.labelling import Source, as_labels
from deepfinder_dask.execution import Executor, Progress
from deepfinder_dask.tomograms import VoxelSize

TILE = 16
"""Voxels along an axis of a tile."""
AT_ONCE = 512
"""Positions that are measured against one tile, or looked up among all tiles, at a time: memory."""
SLACK = 1e-9
"""Relative and absolute (Å) error that the distances of boxes may have."""


@dataclass(frozen=True, slots=True)
class DistanceJob:
    """What distances are measured to; picklable, the same for all blocks."""

    labels: Source
    """The label map, (z, y, x)."""
    label: int
    """The label."""
    voxel_size: VoxelSize
    """Å per voxel, (z, y, x)."""


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """Tiles of one block that hold voxels of the label."""

    low: NDArray[np.int64]
    """(k, 3): first voxel of the box around these voxels, (z, y, x) in the volume."""
    high: NDArray[np.int64]
    """(k, 3): its last voxel."""


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """Tiles of one block, and the positions whose nearest voxel may be in each."""

    tiles: Tiles
    """The tiles, ``k``."""
    tile: NDArray[np.int64]
    """(p,): tile of each pair, ascending."""
    position: NDArray[np.float64]
    """(p, 3): position of each pair, (z, y, x) in Å."""


def distances_to(
    job: DistanceJob,
    positions: NDArray[np.float64],
    grid: BlockGrid,
    executor: Executor,
    *,
    maximum: float | None = None,
    name: str = "",
    progress: bool = False,
) -> NDArray[np.float64]:
    """Distance of each position to the centre of the nearest voxel of the label, in Å.

    Parameters
    ----------
    job : DistanceJob
        What distances are measured to.
    positions : (n, 3) float64
        In Å, (z, y, x); the centre of voxel ``i`` is at ``i * voxel_size``. They may lie outside the volume.
    grid : BlockGrid
        The blocks.
    executor : Executor
        Where they are computed.
    maximum : float, optional
        Å beyond which nothing is looked for; blocks that are farther from all positions are not read.
    name : str
        Name of the tomogram, for the bars.
    progress : bool
        Whether bars may be shown.

    Returns
    -------
    (n,) float64
        ``sqrt(min((z - i*sz)² + (y - j*sy)² + (x - k*sx)²))`` over all voxels of the label, as computed in this order;
        NaN where there are none within the maximum.
    """
    squared = np.full(len(positions), np.inf)
    limit = np.inf if maximum is None else maximum
    size = np.array(job.voxel_size)
    blocks = [block for block in grid if _reached(block.write, positions, size, limit)]
    found: dict[int, Tiles] = {}
    with Progress(f"Looking for the structure in {name}", len(blocks), enabled=None if progress else False) as bar:
        for number, tiles in executor.run(partial(find_tiles, job), blocks, label="tiles"):
            if len(tiles.low):
                found[number] = tiles
            bar.advance()
    searches, owners = _searches([found[n] for n in sorted(found)], positions, size, limit)
    with Progress(f"Measuring {name}", len(searches), enabled=None if progress else False) as bar:
        for number, best in executor.run(partial(measure_tiles, job), searches, label="distance"):
            np.minimum.at(squared, owners[number], best)
            bar.advance()
    distances: NDArray[np.float64] = np.sqrt(squared)
    distances[~np.isfinite(distances) | (distances > limit)] = np.nan
    return distances


def find_tiles(job: DistanceJob, block: Block) -> Tiles:
    """Tiles of a block that hold voxels of the label, and the boxes around these.

    Raises
    ------
    FormatError
        The values are no labels.
    """
    mask = as_labels(job.labels.read(block.write), str(job.labels)) == job.label
    none = np.zeros((0, 3), np.int64)
    if not mask.any():
        return Tiles(none, none)
    low: list[NDArray[np.int64]] = []
    high: list[NDArray[np.int64]] = []
    for z in range(0, mask.shape[0], TILE):
        part = mask[z : z + TILE]
        if part.any():
            start, stop = _boxes(part)
            low.append(start + np.array((z, 0, 0)))
            high.append(stop + np.array((z, 0, 0)))
    corner = np.array(block.write.start, np.int64)
    return Tiles(np.concatenate(low) + corner, np.concatenate(high) + corner)


def _boxes(layer: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last voxel, (k, 3), of the boxes around what is True in each tile of a layer of them."""
    depth, *extent = layer.shape
    ny, nx = (-(-n // TILE) for n in extent)
    padded = np.zeros((depth, ny * TILE, nx * TILE), bool)
    padded[:, : extent[0], : extent[1]] = layer
    tiles = padded.reshape(depth, ny, TILE, nx, TILE)
    lines: list[Any] = [
        tiles.any(axis=(2, 4)),
        tiles.any(axis=(0, 4)),
        tiles.any(axis=(0, 2)),
    ]  # (z, ·, ·), (·, y, ·), (·, ·, x)
    where = np.nonzero(lines[0].any(axis=0))
    along = [np.moveaxis(line, axis, 0)[(slice(None), *where)] for axis, line in enumerate(lines)]
    origin = np.stack([np.zeros_like(where[0]), where[0] * TILE, where[1] * TILE], axis=1)
    first = np.stack([line.argmax(axis=0) for line in along], axis=1)
    last = np.stack([len(line) - 1 - line[::-1].argmax(axis=0) for line in along], axis=1)
    return origin + first, origin + last


def measure_tiles(job: DistanceJob, search: Search) -> NDArray[np.float64]:
    """(p,): squared distance, Å², of each pair's position to the nearest voxel of the label in its tile."""
    tiles, size = search.tiles, np.array(job.voxel_size)
    used = np.unique(search.tile)
    whole = Box(triple(tiles.low[used].min(axis=0)), triple(tiles.high[used].max(axis=0) + 1))
    labels = as_labels(job.labels.read(whole), str(job.labels))
    best = np.empty(len(search.tile))
    bounds = np.searchsorted(search.tile, [used, used + 1])
    for tile, first, last in zip(used.tolist(), *bounds.tolist(), strict=True):
        box = Box(triple(tiles.low[tile]), triple(tiles.high[tile] + 1))
        index = np.argwhere(labels[box.within(whole).slices()] == job.label) + box.start
        voxels = (index * size).T
        for a in range(first, last, AT_ONCE):
            z, y, x = search.position[a : min(last, a + AT_ONCE)].T[..., None]
            total = (z - voxels[0]) ** 2
            total += (y - voxels[1]) ** 2
            total += (x - voxels[2]) ** 2
            best[a : min(last, a + AT_ONCE)] = total.min(axis=1)
    return best


def _reached(box: Box, positions: NDArray[np.float64], size: NDArray[np.float64], limit: float) -> bool:
    """Whether a voxel of a box can be within the limit of a position."""
    if not np.isfinite(limit):
        return len(positions) > 0
    low, high = np.array(box.start) * size, (np.array(box.stop) - 1) * size
    return any((_nearest(part, low, high) <= limit * (1 + SLACK) + SLACK).any() for part in _parts(positions))


def _searches(
    tiles: list[Tiles], positions: NDArray[np.float64], size: NDArray[np.float64], limit: float
) -> tuple[list[Search], list[NDArray[np.int64]]]:
    """Pairs of tiles and positions to measure, block by block, and which position each is."""
    if not tiles or not len(positions):
        return [], []
    low = np.concatenate([part.low for part in tiles]) * size
    high = np.concatenate([part.high for part in tiles]) * size
    middle = (low + high) / 2
    tree = KDTree(middle)
    reach = float(np.sqrt(((high - low) ** 2).sum(axis=1).max())) / 2
    near, pairs = min(8, len(middle)), []
    for start in range(0, len(positions), AT_ONCE):
        here = positions[start : start + AT_ONCE]
        _, candidates = tree.query(here, k=near)
        candidates = candidates.reshape(len(here), near)
        # Wherever in its box a voxel is, it is no farther than the farthest corner.
        bound = np.minimum(_farthest(here[:, None], low[candidates], high[candidates]).min(axis=1), limit)
        bound = bound * (1 + SLACK) + SLACK
        lists = tree.query_ball_point(here, bound + reach * (1 + SLACK))
        owner = np.repeat(np.arange(len(here)), [len(one) for one in lists])
        tile = np.concatenate([np.asarray(one, np.int64) for one in lists])
        keep = _nearest(here[owner], low[tile], high[tile]) <= bound[owner]
        pairs.append(np.stack([tile[keep], owner[keep] + start], axis=1))
    pair = np.concatenate(pairs)
    pair = pair[np.lexsort((pair[:, 1], pair[:, 0]))]
    searches, owners, offset = [], [], 0
    for part in tiles:
        first, last = np.searchsorted(pair[:, 0], [offset, offset + len(part.low)])
        if first < last:
            searches.append(Search(part, pair[first:last, 0] - offset, positions[pair[first:last, 1]]))
            owners.append(pair[first:last, 1])
        offset += len(part.low)
    return searches, owners


def _parts(positions: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    return (positions[start : start + AT_ONCE] for start in range(0, len(positions), AT_ONCE))


def _nearest(
    positions: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Distance of positions to boxes, 0 inside; Å."""
    away = np.maximum(0, np.maximum(low - positions, positions - high))
    return np.asarray(np.sqrt((away**2).sum(axis=-1)))


def _farthest(
    positions: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Distance of positions to the farthest corner of boxes; Å."""
    away = np.maximum(np.abs(positions - low), np.abs(positions - high))
    return np.asarray(np.sqrt((away**2).sum(axis=-1)))
