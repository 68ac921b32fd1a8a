"""Painting of connected components: which particle each voxel of a block belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import BlockGrid, Box, triple
from deepfinder_dask.clustering.labelling import LabelJob, first_voxels, number_voxels
from deepfinder_dask.clustering.merging import Pieces
from deepfinder_dask.clustering.request import Found
from deepfinder_dask.clustering.splitting import Parts, cut_in, parted
from deepfinder_dask.execution import Executor, Progress
from deepfinder_dask.tomograms import Volume


def numbers_of(first: NDArray[np.int64], found: Found) -> NDArray[np.uint32]:
    """(n,): number of the particle that begins at each of these voxels; 0 for none."""
    rows = found.components.first
    order = np.argsort(rows)
    where = np.searchsorted(rows[order], first)
    where[where == len(rows)] = 0
    numbers = np.zeros(len(first), np.uint32)
    if len(rows):
        hit = rows[order[where]] == first
        numbers[hit] = order[where[hit]] + 1
    return numbers


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """A block, and the pieces of particles that begin in it."""

    number: int
    write: Box
    """Its voxels."""
    first: NDArray[np.int64]
    """(k,): first voxels of the pieces, ascending."""
    value: NDArray[np.uint32]
    """(k,): numbers of their particles."""
    parts: list[tuple[Parts, NDArray[np.uint32]]]
    """Components that were split and reach into the block, and the numbers of their parts."""


def paint_components(
    volume: Volume,
    job: LabelJob,
    grid: BlockGrid,
    found: Found,
    pieces: Pieces,
    executor: Executor,
    *,
    progress: bool,
) -> None:
    """Paint the connected components that are in the table, block by block.

    Parameters
    ----------
    volume : Volume
        The empty instance map; every block is whole shards of it.
    job : LabelJob
        What the components were made from.
    grid : BlockGrid
        The blocks in which they were found.
    found : Found
        The particles of the table.
    pieces : Pieces
        Of what the components were put together.
    executor : Executor
        Where blocks are painted.
    progress : bool
        Whether a bar may be shown.
    """
    n = int(pieces.component.max(initial=-1)) + 1
    begin = np.full(n, np.iinfo(np.int64).max)
    np.minimum.at(begin, pieces.component, pieces.first)
    numbers = numbers_of(begin, found)
    numbers[[one.whole.number for one in found.parts]] = 0
    value = numbers[pieces.component]
    index = np.stack(np.unravel_index(pieces.first, grid.shape)) // np.array(grid.core)[:, None]
    block = np.ravel_multi_index(tuple(index), grid.counts)
    order = np.lexsort((pieces.first, block))
    order = order[value[order] > 0]
    ends = np.searchsorted(block[order], np.arange(len(grid) + 1))
    items = []
    for one in grid:
        mine = order[ends[one.number] : ends[one.number + 1]]
        parts = [(cut, numbers_of(cut.components.first, found)) for cut in cut_in(found.parts, one.write)]
        if len(mine) or parts:
            items.append(_Block(one.number, one.write, pieces.first[mine], value[mine], parts))
    with Progress("Painting instances", len(items), enabled=None if progress else False) as bar:
        for _ in executor.run(partial(_paint_block, job, volume), items, label="paint"):
            bar.advance()


def _paint_block(job: LabelJob, volume: Volume, item: _Block) -> None:
    """Write the particles of a block; peak memory is that of labelling it, and one shard."""
    box, numbers = item.write, np.zeros((0, 0, 0), np.uint32)
    found = number_voxels(job, item.write) if len(item.first) or item.parts else None
    if found is not None:
        first = first_voxels(found, job.shape)
        table = np.zeros(found.n + 1, np.uint32)
        if len(item.first):
            where = np.minimum(np.searchsorted(item.first, first), len(item.first) - 1)
            table[1:] = np.where(item.first[where] == first, item.value[where], 0)
        box, numbers = found.box, found.numbers
        for plane in numbers:
            plane[:] = table[plane]
        del found
        for parts, value in item.parts:
            _paint_parts(job, parts, value, box, numbers)
    for shard in BlockGrid(item.write.shape, triple(volume.write_unit)):
        here = shard.write.shift(item.write.start)
        both = here.intersect(box)
        if numbers.size and both.size and numbers[both.within(box).slices()].any():
            values = np.zeros(here.shape, np.uint32)
            values[both.within(here).slices()] = numbers[both.within(box).slices()]
            volume.write(here, values)


def _paint_parts(job: LabelJob, parts: Parts, value: NDArray[np.uint32], box: Box, numbers: NDArray[np.uint32]) -> None:
    """Paint what a split component has of a box."""
    cut = parted(job, parts.whole)
    both = parts.whole.box.intersect(box)
    if cut is None or not both.size or not value.any():
        return
    mine = cut.numbers[both.within(cut.box).slices()]
    target = numbers[both.within(box).slices()]
    target[mine > 0] = value[mine[mine > 0] - 1]
