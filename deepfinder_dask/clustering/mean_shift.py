"""Mean-shift of label maps of any size: exactly what scikit-learn's ``MeanShift(bandwidth, bin_seeding=True)`` finds.

Voxels lie at whole numbers, so that the mean of the voxels in a ball is the same number whatever the order of the sum,
and every trajectory is a function of its seed and the voxels around it alone. So trajectories run where their voxels
are, and go on in the next block when they leave one::

    seeds (each block alone) ──> trajectories (block by block, until none leaves) ──> one list of centres, suppressed
                                                     voxels (each block alone) ──> nearest centre, sizes, votes, scores
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import BlockGrid, Box, Shape3, triple
from deepfinder_dask.clustering.components import Components, combine, concatenate
from deepfinder_dask.clustering.kernels import FEW
from deepfinder_dask.clustering.planning import plan_blocks
from deepfinder_dask.clustering.shift_job import Group, ShiftJob, halo_of
from deepfinder_dask.clustering.shifting import (
    STEPS,
    Assignment,
    BlockSeeds,
    Trajectories,
    Voxels,
    assign_block,
    seed_block,
    shift_block,
)
from deepfinder_dask.clustering.sources import array_sources
from deepfinder_dask.clustering.suppression import distinct_centres, follow_few, settle, suppress
from deepfinder_dask.errors import SettingsError
from deepfinder_dask.execution import Executor, Progress, SerialExecutor
from deepfinder_dask.particles import MAX_LABEL


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """Mean-shift clusters, ``n`` of them, in the order of ``sklearn.cluster.MeanShift``.

    That is: most voxels around the centre first. Where classes were clustered apart, they come in order of label.
    """

    centers: NDArray[np.float64]
    """(n, 3): centres (modes), (z, y, x) in voxels: ``cluster_centers_``."""
    components: Components
    """Voxels of the clusters that have any, m ≤ n of them: sizes, sums, votes … as for connected components."""
    occupied: NDArray[np.int64]
    """(m,): which cluster each of them is, ascending; nearly always all. A centre in a void may be nearest to none."""
    group: NDArray[np.int64]
    """(n,): which of the groups of classes that were clustered apart each centre is of, from 0."""
    members: NDArray[np.int64] | None = None
    """(v,): cluster of each clustered voxel, in C order: ``labels_``. Only where asked for."""

    def __len__(self) -> int:
        return len(self.centers)


def find_clusters(
    labels: Any,
    probability: Any = None,
    *,
    bandwidth: float | Mapping[int, float],
    structures: Iterable[int] = (),
    members: bool = False,
    block: Shape3 | None = None,
    executor: Executor | None = None,
) -> Clusters:
    """Mean-shift clusters of an array of labels, of any size, block by block.

    Centres, their order and the clusters of voxels are bit for bit those of
    ``sklearn.cluster.MeanShift(bandwidth=bandwidth, bin_seeding=True).fit(numpy.argwhere(labels > 0))``.

    Parameters
    ----------
    labels : (z, y, x) array
        Whole numbers from 0 (background) to 255 (*ignore*): NumPy, Dask, or anything with a shape and slices.
    probability : (z, y, x) uint8 array, optional
        Probability of each voxel's label, 255 is 1.
    bandwidth : float or mapping
        Radius of the ball whose voxels are averaged, in voxels: all labels are clustered together. A mapping gives one
        to each label that is to be clustered, each alone; the clusters come in its order of labels.
    structures : iterable of int
        Labels that never enter.
    members : bool
        Whether to return the cluster of every voxel too, which takes memory for all of them.
    block : tuple of int, optional
        Voxels worked on at a time, (z, y, x); any numbers. It does not change the result.
    executor : Executor, optional
        Where blocks are computed; default this process.

    Returns
    -------
    Clusters
        None where there are no voxels.

    Raises
    ------
    FormatError
        The values are no labels.
    GeometryError
        The arrays are no volumes, or have different shapes.
    SettingsError
        A bandwidth is not above 0.
    """
    source, weights = array_sources(labels, probability)
    left_out = set(structures)
    each = bandwidth if isinstance(bandwidth, Mapping) else {0: bandwidth}
    for one in each.values():
        if not 0 < one < float("inf"):
            raise SettingsError(f"bandwidth is a length above 0, got {one!r}")
    if isinstance(bandwidth, Mapping):
        groups = tuple(Group((n,), float(bandwidth[n])) for n in sorted(bandwidth) if n not in left_out)
    else:
        groups = (Group(tuple(n for n in range(1, MAX_LABEL + 1) if n not in left_out), float(bandwidth)),)
    shape = triple(source.shape)
    grid = plan_blocks(shape, (64, 64, 64), labels.dtype.itemsize, block=block, memory=None)
    job = ShiftJob(source, weights, shape, groups, None, members)
    return shift_to_modes(job, grid, executor or SerialExecutor(), "", progress=False)


def shift_to_modes(job: ShiftJob, grid: BlockGrid, executor: Executor, name: str, *, progress: bool) -> Clusters:
    """Mean-shift clusters of all groups, one after the other.

    Parameters
    ----------
    job : ShiftJob
        What is clustered, and how.
    grid : BlockGrid
        The blocks.
    executor : Executor
        Where they are computed.
    name : str
        Name of the tomogram, for the bars.
    progress : bool
        Whether bars may be shown.
    """
    blocks = list(grid)
    seeds: list[dict[int, BlockSeeds]] = [{} for _ in job.groups]
    with Progress(f"Seeding {name}", len(blocks), enabled=None if progress else False) as bar:
        for number, parts in executor.run(partial(seed_block, job), blocks, label="seed"):
            for found, part in zip(seeds, parts, strict=True):
                if part is not None:
                    found[number] = part
            bar.advance()
    scored = job.probability is not None
    centres, offset = [np.zeros((0, 3))], 0
    owners, tables, voxels = [np.zeros(0, np.int64)], [], []
    for group, found in enumerate(seeds):
        modes = _modes(job, group, [found[n] for n in sorted(found)], grid, executor, name, progress=progress)
        pieces = _assign(job, group, found, modes, executor, name, progress=progress) if len(modes) else []
        centres.append(modes)
        for owner, table, everyone in pieces:
            owners.append(owner + offset)
            tables.append(table)
            if everyone is not None:
                voxels.append((everyone.line, everyone.owner + offset))
        offset += len(modes)
    occupied, where = np.unique(np.concatenate(owners), return_inverse=True)
    components = combine(concatenate(tables, scored=scored), where.astype(np.int64), len(occupied))
    members = None
    if job.members:
        line = np.concatenate([np.zeros(0, np.int64), *(pair[0] for pair in voxels)])
        members = np.concatenate([np.zeros(0, np.int64), *(pair[1] for pair in voxels)])[np.argsort(line)]
    group_of = np.repeat(np.arange(len(job.groups)), [len(modes) for modes in centres[1:]])
    return Clusters(np.concatenate(centres), components, occupied, group_of, members)


def _modes(
    job: ShiftJob,
    group: int,
    parts: Sequence[BlockSeeds],
    grid: BlockGrid,
    executor: Executor,
    name: str,
    *,
    progress: bool,
) -> NDArray[np.float64]:
    """(n, 3): centres of one group that stay."""
    if not parts:
        return np.zeros((0, 3))
    bandwidth = job.groups[group].bandwidth
    seeds, voxels = merge_seeds(parts, job.shape, bandwidth)
    if voxels <= FEW:
        few = np.sort(np.concatenate([part.few for part in parts]))
        points = np.stack(np.unravel_index(few, job.shape), axis=1).astype(np.int64)
        centres, counts = follow_few(points, seeds, bandwidth, STEPS)
    else:
        centres, counts = _follow(job, group, seeds, grid, executor, name, progress=progress)
    centres, _ = distinct_centres(centres, counts)
    return centres[suppress(centres, bandwidth)]


def merge_seeds(parts: Sequence[BlockSeeds], shape: Shape3, bandwidth: float) -> tuple[NDArray[np.float64], int]:
    """Where trajectories begin, (k, 3) in the order of their bins' first voxels; and the number of voxels.

    Parameters
    ----------
    parts : sequence of BlockSeeds
        Of all blocks, in any order.
    shape : tuple of int
        Extent of the volume, (z, y, x).
    bandwidth : float
        In voxels.
    """
    bins = np.concatenate([part.bins for part in parts])
    first = np.concatenate([part.first for part in parts])
    voxels = sum(part.voxels for part in parts)
    order = np.lexsort((first, bins[:, 2], bins[:, 1], bins[:, 0]))
    bins, first = bins[order], first[order]
    new = np.append(True, np.any(bins[1:] != bins[:-1], axis=1))
    bins, first = bins[new], first[new]
    order = np.argsort(first)
    if len(bins) == voxels:  # every voxel alone in its bin: scikit-learn begins at the voxels instead
        index = np.unravel_index(first[order], shape)
        return np.stack(index, axis=1).astype(np.float64), voxels
    return (bins[order].astype(np.float32) * bandwidth).astype(np.float64), voxels  # in float32, as scikit-learn


def _follow(
    job: ShiftJob,
    group: int,
    seeds: NDArray[np.float64],
    grid: BlockGrid,
    executor: Executor,
    name: str,
    *,
    progress: bool,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Ends of the trajectories, (k, 3), and the voxels around them, (k,)."""
    position, iteration, count = seeds.copy(), np.zeros(len(seeds), np.int64), np.zeros(len(seeds), np.int64)
    halo = (halo_of(job.groups[group].bandwidth),) * 3
    todo = np.arange(len(seeds))
    with Progress(f"Shifting {name}", len(seeds), unit="seed", enabled=None if progress else False) as bar:
        while len(todo):
            # Positions may lie half a bin outside the volume: the nearest block has them.
            index = np.clip(np.floor_divide(position[todo], grid.core), 0, np.array(grid.counts) - 1).astype(np.int64)
            number = np.ravel_multi_index(tuple(index.T), grid.counts)
            chosen, items = [], []
            for one in np.unique(number):
                these = todo[number == one]
                here = position[these]
                around = Box(triple(np.floor(here.min(axis=0))), triple(np.floor(here.max(axis=0)) + 1))
                region = around.grow(halo, halo).clip(job.shape)
                chosen.append(these)
                items.append(Trajectories(int(one), group, region, here, iteration[these]))
            left = [np.zeros(0, np.int64)]
            for item, part in executor.run(partial(shift_block, job), items, label="shift"):
                these = chosen[item]
                position[these], count[these], iteration[these] = part.position, part.count, part.iteration
                left.append(these[part.left])
                bar.advance(len(these) - len(left[-1]))
            todo = np.sort(np.concatenate(left))
    return position, count


def _assign(
    job: ShiftJob,
    group: int,
    seeds: dict[int, BlockSeeds],
    centres: NDArray[np.float64],
    executor: Executor,
    name: str,
    *,
    progress: bool,
) -> list[tuple[NDArray[np.int64], Components, Voxels | None]]:
    """What the centres of one group get, in pieces: numbers of the centres, tables, and all voxels if wanted."""
    items = []
    for number, block in sorted(seeds.items()):
        near = can_be_nearest(centres, block.box)
        items.append(Assignment(number, group, block.box, near, centres[near]))
    found: list[tuple[NDArray[np.int64], Components, Voxels | None]] = []
    with Progress(f"Assigning {name}", len(items), enabled=None if progress else False) as bar:
        for _, part in executor.run(partial(assign_block, job), items, label="assign"):
            members, doubtful = part.members, part.doubtful
            if len(doubtful.line):
                index = np.stack(np.unravel_index(doubtful.line, job.shape), axis=1).astype(np.int64)
                owner = settle(index, centres)
                found.append((*_tally(doubtful, owner, index, scored=job.probability is not None), None))
                if members is not None:  # in C order, so those in doubt come in the order of their lines
                    settled = members.owner.copy()
                    settled[settled < 0] = owner[np.argsort(doubtful.line)]
                    members = replace(members, owner=settled)
            found.append((part.owner, part.components, members))
            bar.advance()
    return found


def can_be_nearest(centres: NDArray[np.float64], box: Box) -> NDArray[np.int64]:
    """Numbers of the centres that can be nearest, or as good as that, to a voxel of the box."""
    low, high = np.array(box.start), np.array(box.stop) - 1
    far = np.maximum(np.abs(centres - low), np.abs(centres - high))
    near = np.maximum(0, np.maximum(low - centres, centres - high))
    return np.flatnonzero((near**2).sum(axis=1) <= (far**2).sum(axis=1).min() + 1e-3)


def _tally(
    voxels: Voxels, owner: NDArray[np.int64], index: NDArray[np.int64], *, scored: bool
) -> tuple[NDArray[np.int64], Components]:
    """Table of single voxels, a row for each, and whose they are."""
    count = len(owner)
    components = Components(
        np.ones(count, np.int64),
        index,
        voxels.line,
        index,
        index + 1,
        np.arange(count),
        voxels.label.astype(np.int64),
        np.ones(count, np.int64),
        voxels.weight.astype(np.int64) * scored,
        scored,
    )
    owners, where = np.unique(owner, return_inverse=True)
    return owners, combine(components, where.astype(np.int64), len(owners))
