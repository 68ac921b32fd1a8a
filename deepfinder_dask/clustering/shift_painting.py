"""Painting of mean-shift clusters: which particle each voxel of a block belongs to."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Block, BlockGrid, triple
from deepfinder_dask.clustering.mean_shift import Clusters, can_be_nearest
from deepfinder_dask.clustering.painting import numbers_of
from deepfinder_dask.clustering.request import Found
from deepfinder_dask.clustering.shift_job import ShiftJob
from deepfinder_dask.clustering.shifting import Assignment, assign_block
from deepfinder_dask.clustering.suppression import settle
from deepfinder_dask.execution import Executor, Progress
from deepfinder_dask.tomograms import Volume


def paint_clusters(
    volume: Volume,
    job: ShiftJob,
    grid: BlockGrid,
    found: Found,
    clusters: Clusters,
    executor: Executor,
    *,
    progress: bool,
) -> None:
    """Paint the clusters that are in the table, block by block; parameters as for connected components."""
    value = np.zeros(len(clusters), np.uint32)
    value[clusters.occupied] = numbers_of(clusters.components.first, found)
    groups = [clusters.group == group for group in range(len(job.groups))]
    nearest = [(clusters.centers[mine], value[mine]) for mine in groups]
    blocks = list(grid) if value.any() else []
    with Progress("Painting instances", len(blocks), enabled=None if progress else False) as bar:
        for _ in executor.run(
            partial(_paint_nearest, replace(job, members=True), volume, nearest), blocks, label="paint"
        ):
            bar.advance()


def _paint_nearest(
    job: ShiftJob,
    volume: Volume,
    nearest: list[tuple[NDArray[np.float64], NDArray[np.uint32]]],
    block: Block,
) -> None:
    """Write the particles of a block, one shard after the other."""
    for shard in BlockGrid(block.write.shape, triple(volume.write_unit)):
        here = shard.write.shift(block.write.start)
        values = np.zeros(here.size, np.uint32)
        for group, (centres, value) in enumerate(nearest):
            if not len(centres):
                continue
            near = can_be_nearest(centres, here)
            voxels = assign_block(job, Assignment(block.number, group, here, near, centres[near])).members
            if voxels is None or not len(voxels.line):
                continue
            index = np.stack(np.unravel_index(voxels.line, job.shape), axis=1).astype(np.int64)
            owner, doubt = voxels.owner.copy(), voxels.owner < 0
            if doubt.any():
                owner[doubt] = settle(index[doubt], centres)
            inside = np.ravel_multi_index(tuple((index - here.start).T), here.shape)
            values[inside] = value[owner]
        if values.any():
            volume.write(here, values.reshape(here.shape))
