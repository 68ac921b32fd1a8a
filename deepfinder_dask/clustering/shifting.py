"""Mean-shift, block by block: what a worker does.

Three passes: the first voxel of each bin that has any (:func:`seed_block`), the trajectories that begin or go on in a
region (:func:`shift_block`), the nearest centre of each voxel (:func:`assign_block`). Each is a function of the voxels
alone, so that blocks and their order change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Block, Box, Shape3, triple
from deepfinder_dask.clustering.components import Components
from deepfinder_dask.clustering.kernels import FEW, first_in_bins, follow, pack
from deepfinder_dask.clustering.nearest import assign
from deepfinder_dask.clustering.shift_job import LABELS, Group, ShiftJob
from deepfinder_dask.errors import FormatError
from deepfinder_dask.particles import BACKGROUND, IGNORE

STEPS = 300
"""Most steps of a trajectory, as in scikit-learn."""
ROOM = 1 << 16
"""Voxels in doubt for which there is room at first; with more, a block is done again."""


@dataclass(frozen=True, slots=True, eq=False)
class BlockSeeds:
    """Bins of one block that have voxels."""

    bins: NDArray[np.int64]
    """(k, 3): the bins, (z, y, x) in units of the bandwidth."""
    first: NDArray[np.int64]
    """(k,): linear index (C order) in the volume of the first voxel of the block in each."""
    voxels: int
    """Voxels of the block."""
    few: NDArray[np.int64]
    """Linear indices of its first voxels, eleven at most."""
    box: Box
    """Smallest box around its voxels, in the volume."""


def seed_block(job: ShiftJob, block: Block) -> list[BlockSeeds | None]:
    """Bins of a block for each group; None for a group without voxels.

    Raises
    ------
    FormatError
        The values are no labels, or belong to none of the classes.
    """
    labels = job.read(block.write)
    seen = np.zeros(LABELS, bool)
    found = [_seeds(pack(labels, group.table(), seen), block.write, job.shape, group) for group in job.groups]
    if job.known is not None:
        unknown = np.setdiff1d(np.flatnonzero(seen), [BACKGROUND, IGNORE, *job.known])
        if len(unknown):
            raise FormatError(
                f"label {unknown[0]} in {job.labels} belongs to none of the classes, whose labels are "
                f"{sorted(job.known)}: list it in a file of classes (--classes)"
            )
    return found


def _seeds(bits: NDArray[np.uint64], box: Box, shape: Shape3, group: Group) -> BlockSeeds | None:
    bins, numbers = [], []
    for start, stop in zip(box.start, box.stop, strict=True):
        # Half to even, as scikit-learn rounds; only bins that voxels can be in, should they be narrower than a voxel.
        rounded = np.round(np.arange(start, stop) / group.bandwidth)
        different, number = np.unique(rounded, return_inverse=True)
        bins.append(different.astype(np.int64))
        numbers.append(number.astype(np.int64))
    counts = triple(len(b) for b in bins)
    first, few = np.full(prod(counts), -1, np.int64), np.full(FEW, -1, np.int64)
    extent = _array([*shape, 0, 0, 0])
    z, y, x = numbers
    voxels = first_in_bins(bits, _array(box.start), _array(shape), z, y, x, _array(counts), first, few, extent)
    if voxels == 0:
        return None
    filled = np.flatnonzero(first >= 0)
    index = np.unravel_index(filled, counts)
    return BlockSeeds(
        np.stack([b[i] for b, i in zip(bins, index, strict=True)], axis=1),
        first[filled],
        int(voxels),
        few[: min(FEW, voxels)],
        Box(triple(extent[:3]), triple(extent[3:])),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Trajectories:
    """Trajectories of one group that are in the same block."""

    number: int
    """The block that owns their positions."""
    group: int
    """The group."""
    region: Box
    """Voxels to read: around all the positions, at least the bandwidth and two voxels more."""
    position: NDArray[np.float64]
    """(k, 3): where they are, (z, y, x) in voxels of the volume."""
    iteration: NDArray[np.int64]
    """(k,): steps taken."""


@dataclass(frozen=True, slots=True, eq=False)
class Shifted:
    """Where trajectories came to."""

    position: NDArray[np.float64]
    """(k, 3): (z, y, x) in voxels of the volume."""
    count: NDArray[np.int64]
    """(k,): voxels around the position before the last step; 0 where there were none: no centre."""
    iteration: NDArray[np.int64]
    """(k,): steps taken."""
    left: NDArray[np.bool_]
    """(k,): which go on elsewhere."""


def shift_block(job: ShiftJob, item: Trajectories) -> Shifted:
    """Follow trajectories until each has converged or needs voxels outside the region."""
    group = job.groups[item.group]
    bits = pack(job.read(item.region), group.table(), np.zeros(LABELS, bool))
    start, stop = _array(item.region.start), _array(item.region.stop)
    # One voxel more than the ball needs, so that rounding cannot matter; outside the volume is nothing.
    low = np.where(start > 0, start + group.bandwidth + 1.0, -np.inf)
    high = np.where(stop < job.shape, stop - group.bandwidth - 2.0, np.inf)
    count, left = np.zeros(len(item.position), np.int64), np.zeros(len(item.position), bool)
    found = Shifted(np.array(item.position), count, np.array(item.iteration), left)
    tables = (found.position, found.count, found.iteration, found.left)
    follow(bits, start, stop, np.stack([low, high], axis=1), group.bandwidth, STEPS, *tables)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Assignment:
    """Voxels of one block and group, and the centres that can be nearest to one of them."""

    number: int
    """The block."""
    group: int
    """The group."""
    box: Box
    """Where its voxels are."""
    owner: NDArray[np.int64]
    """(k,): numbers of the centres."""
    centres: NDArray[np.float64]
    """(k, 3): the centres, (z, y, x)."""


@dataclass(frozen=True, slots=True, eq=False)
class Assigned:
    """What the centres got of a block."""

    owner: NDArray[np.int64]
    """(n,): numbers of the centres that got voxels."""
    components: Components
    """What they got, ``n`` rows."""
    doubtful: Voxels
    """Voxels to which two centres are as good as equally near."""
    members: Voxels | None
    """All voxels, if wanted."""


@dataclass(frozen=True, slots=True, eq=False)
class Voxels:
    """Some voxels."""

    line: NDArray[np.int64]
    """(v,): linear index (C order) in the volume."""
    label: NDArray[np.uint8]
    """(v,): label."""
    weight: NDArray[np.uint8]
    """(v,): probability, 255 is 1; 0 where unknown."""
    owner: NDArray[np.int64]
    """(v,): number of the nearest centre; -1 where that is in doubt."""


def assign_block(job: ShiftJob, item: Assignment) -> Assigned:
    """Give the voxels of a block to their nearest centres; those in doubt are handed back."""
    labels = job.read(item.box)
    weights = np.zeros((0, 0, 0), np.uint8)
    if job.probability is not None:
        weights = np.array(job.probability.read(item.box), np.uint8, order="C")
    seen, table = np.zeros(LABELS, bool), job.groups[item.group].table()
    bits = pack(labels, table, seen)
    present = np.flatnonzero(seen & table)
    slot = np.zeros(LABELS, np.int64)
    slot[present] = np.arange(len(present))
    members = np.full(labels.shape if job.members else (0, 0, 0), -1, np.int32)
    voxels_there = (bits, labels, weights, slot, _array(item.box.start), _array(job.shape))
    n, doubts, room = len(item.centres), ROOM, 0
    scratch = (np.arange(n), np.empty((2, n), np.int64), np.empty((n, 3)), np.empty((3, 3), np.int64))
    while doubts > room:
        room = doubts
        sizes, sums, high = np.zeros(n, np.int64), np.zeros((n, 3), np.int64), np.zeros((n, 3), np.int64)
        first, low = np.full(n, np.iinfo(np.int64).max), np.full((n, 3), np.iinfo(np.int64).max)
        votes, probability = np.zeros((n, len(present)), np.int64), np.zeros((n, len(present)), np.int64)
        doubtful = np.empty(room, np.int64)
        tables = (sizes, sums, first, low, high, votes, probability, doubtful)
        doubts = assign(*voxels_there, np.array(item.centres), members, *scratch, *tables)
    doubtful = doubtful[:doubts]
    got = np.flatnonzero(sizes)
    votes, probability = votes[got], probability[got]
    component, column = np.nonzero(votes)
    components = Components(
        sizes[got],
        sums[got],
        first[got],
        low[got],
        high[got],
        component.astype(np.int64),
        present[column].astype(np.int64),
        votes[component, column],
        probability[component, column],
        job.probability is not None,
    )

    def voxels(inside: NDArray[np.int64], owner: NDArray[np.int64]) -> Voxels:
        index = [i + s for i, s in zip(np.unravel_index(inside, labels.shape), item.box.start, strict=True)]
        weight = weights.ravel()[inside] if weights.size else np.zeros(len(inside), np.uint8)
        line = np.ravel_multi_index(tuple(index), job.shape).astype(np.int64)
        return Voxels(line, labels.ravel()[inside], weight, owner)

    everyone = None
    if job.members:
        inside = np.flatnonzero(members != -1)
        local = members.ravel()[inside]
        everyone = voxels(inside, np.where(local < 0, -1, item.owner[local]))
    return Assigned(item.owner[got], components, voxels(doubtful, np.full(len(doubtful), -1)), everyone)


def _array(values: Any) -> NDArray[np.int64]:
    return np.array(values, np.int64)
