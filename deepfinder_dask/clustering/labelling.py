"""The components of one block: labelled with cc3d, measured in integers, with the voxels at its faces for merging.

A block needs no halo. What it returns is a few numbers per component and eight bytes per foreground voxel of the faces
that it shares with other blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cc3d
import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Block, Box, Shape3
from deepfinder_dask.clustering.components import Components, SizeLimits, combine, concatenate
from deepfinder_dask.clustering.settings import Connectivity
from deepfinder_dask.errors import FormatError
from deepfinder_dask.particles import BACKGROUND, IGNORE

SLAB_VOXELS = 1 << 20
"""Voxels measured at a time: what is needed per voxel, about 64 bytes, is never needed for a whole block."""


class Source(Protocol):
    """A volume of which boxes can be read, here and in other processes, such as a ``Volume``."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent in voxels, (z, y, x)."""
        ...

    def read(self, box: Box) -> NDArray[Any]:
        """Values of a box of voxels, (z, y, x)."""
        ...


@dataclass(frozen=True, slots=True)
class LabelJob:
    """What a block of components is made from; picklable, the same for all blocks."""

    labels: Source
    """The label map, (z, y, x)."""
    probability: Source | None
    """Probability of each voxel's label, (z, y, x) uint8, 255 is 1; None where unknown."""
    shape: Shape3
    """Extent of both in voxels, (z, y, x)."""
    connectivity: Connectivity
    """6, 18 or 26."""
    per_class: bool
    """Whether only voxels of the same label connect."""
    structures: tuple[int, ...]
    """Labels that are segmented but never clustered."""
    particles: tuple[int, ...] | None
    """Labels that are clustered; None takes all but the structures, the background and 255 (*ignore*)."""
    limits: SizeLimits
    """Sizes that count; applied here only to components that end inside the block."""


@dataclass(frozen=True, slots=True, eq=False)
class BlockComponents:
    """Components of one block, and the voxels through which they may go on in other blocks."""

    components: Components
    """The components, in coordinates of the volume."""
    face_index: NDArray[np.uint32]
    """(f,): linear index (C order) in the block of its foreground voxels at faces shared with others, ascending."""
    face_component: NDArray[np.uint32]
    """(f,): component of each of them."""


def label_block(job: LabelJob, block: Block) -> BlockComponents:
    """Label and measure the components of one block.

    Peak memory is the label map as stored, 7 bytes a voxel (mask 1, component 4, probability 1, and 1 for a copy cut
    down to the foreground), 64 MiB for measuring, and about 350 bytes per component, which matters only for noise.

    Parameters
    ----------
    job : LabelJob
        What to read, and which voxels connect.
    block : Block
        The voxels to label (its ``write``).

    Raises
    ------
    FormatError
        The values are no labels, or belong to none of the classes.
    """
    found = number_voxels(job, block.write)
    if found is None:
        return BlockComponents(Components.empty(scored=job.probability is not None), *[np.zeros(0, np.uint32)] * 2)
    box, numbers = found.box, found.numbers
    probability = None if job.probability is None else job.probability.read(box)
    components = measure(numbers, found.n, found.mask, found.labels, probability, box, job.shape)
    _check_known(components, job)
    face_index, face_component = face_voxels(numbers, box, block.write, job.shape)
    keep = job.limits.accept(components)
    keep[face_component] = True
    renumbered = np.cumsum(keep, dtype=np.uint32) - np.uint32(1)
    return BlockComponents(components.take(keep), face_index, renumbered[face_component])


@dataclass(frozen=True, slots=True, eq=False)
class Numbered:
    """The objects in a box of voxels, numbered."""

    box: Box
    """Smallest box around them, in the volume; the arrays have its shape, (z, y, x)."""
    labels: NDArray[np.uint8]
    """Labels, those too that do not count."""
    mask: NDArray[np.bool_]
    """Which voxels count."""
    numbers: NDArray[np.unsignedinteger[Any]]
    """Object of each voxel, from 1; 0 for none."""
    n: int
    """Number of objects."""


def number_voxels(job: LabelJob, box: Box) -> Numbered | None:
    """Connect the voxels of a box; None where none counts.

    Raises
    ------
    FormatError
        The values are no labels.
    """
    labels = as_labels(job.labels.read(box), str(job.labels))
    if not labels.any():
        return None
    mask = labels != BACKGROUND
    for label in (IGNORE, *job.structures):
        mask &= labels != label
    inner = bounding_box(mask)
    if inner is None:
        return None
    mask, labels = (np.ascontiguousarray(a[inner.slices()]) for a in (mask, labels))
    # Never as bool: cc3d's binary mode underestimates how many labels an odd shape can need, and raises (3x3x3, say).
    objects = labels * mask if job.per_class else mask.view(np.uint8)
    numbers, n = cc3d.connected_components(objects, connectivity=job.connectivity, out_dtype=np.uint32, return_N=True)
    return Numbered(inner.shift(box.start), labels, mask, numbers, n)


def as_labels(values: NDArray[Any], where: str) -> NDArray[np.uint8]:
    """Labels as uint8, from booleans, integers of any type, or floats that hold whole numbers.

    Raises
    ------
    FormatError
        A value is no whole number from 0 to 255.
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.view(np.uint8)
    if values.dtype.kind == "f":
        for part in values:
            broken = np.rint(part) != part
            if broken.any():
                raise FormatError(
                    f"expected a label map in {where}, whole numbers from 0 to 255, found the value "
                    f"{part[broken][0]:.6g}: segment the tomogram first"
                )
    low, high = values.min(), values.max()
    if low < 0 or high > IGNORE:
        wrong = low if low < 0 else high
        raise FormatError(
            f"expected a label map in {where}, labels from 0 to 255, found {wrong:.12g}: "
            f"neither grey values nor numbered objects can be clustered"
        )
    return values.astype(np.uint8)


def bounding_box(mask: NDArray[np.bool_]) -> Box | None:
    """Smallest box around what is True; None where nothing is."""
    lines = np.logical_or.reduce(mask, axis=2)  # (z, y)
    z0, z1 = _extent(np.logical_or.reduce(lines, axis=1))
    if z0 == z1:
        return None
    y0, y1 = _extent(np.logical_or.reduce(lines[z0:z1], axis=0))
    x0, x1 = _extent(np.logical_or.reduce(mask[z0:z1, y0:y1], axis=(0, 1)))
    return Box((z0, y0, x0), (z1, y1, x1))


def _extent(line: NDArray[np.bool_]) -> tuple[int, int]:
    """First True and one past the last; (0, 0) where there is none."""
    where = np.flatnonzero(line)
    return (int(where[0]), int(where[-1]) + 1) if len(where) else (0, 0)


def measure(
    numbers: NDArray[np.unsignedinteger[Any]],
    n: int,
    mask: NDArray[np.bool_],
    labels: NDArray[np.uint8],
    probability: NDArray[np.uint8] | None,
    box: Box,
    shape: Shape3,
) -> Components:
    """Table of the components 1 to ``n`` in ``numbers``, measured slab by slab.

    Parameters
    ----------
    numbers, mask, labels, probability : (z, y, x)
        Component (0 for none), foreground, label and probability of the voxels of the box.
    n : int
        Number of components.
    box : Box
        Where the arrays lie in the volume.
    shape : tuple of int
        Extent of the volume, (z, y, x).
    """
    pieces, owners = [], [np.zeros(0, np.int64)]
    for slab in _slabs(numbers.shape):
        inside = np.flatnonzero(mask[slab])
        if not len(inside):
            continue
        owner, piece = _compact(numbers[slab].ravel()[inside].astype(np.int64) - 1, n)
        index = np.unravel_index(inside, numbers[slab].shape)
        start = (box.start[0] + slab.start, box.start[1], box.start[2])
        weights = None if probability is None else probability[slab].ravel()[inside]
        pieces.append(_measure_voxels(piece, len(owner), index, start, labels[slab].ravel()[inside], weights, shape))
        owners.append(owner)
    return combine(concatenate(pieces, scored=probability is not None), np.concatenate(owners), n)


def _measure_voxels(
    owner: NDArray[np.int64],
    n: int,
    index: Sequence[NDArray[np.int64]],
    start: Shape3,
    labels: NDArray[np.uint8],
    weights: NDArray[np.uint8] | None,
    shape: Shape3,
) -> Components:
    """Table of ``n`` components from their voxels: component, index (z, y, x) from ``start``, label, probability."""
    sizes = np.bincount(owner, minlength=n)
    sums, low, high = (np.empty((n, 3), np.int64) for _ in range(3))
    line = np.zeros(len(owner), np.int64)
    for axis in range(3):
        # bincount adds in float64: exact, since these are whole numbers far below 2**53.
        sums[:, axis] = np.bincount(owner, index[axis], n).astype(np.int64) + sizes * start[axis]
        position = index[axis] + start[axis]
        low[:, axis] = _smallest(owner, n, position)
        high[:, axis] = 1 - _smallest(owner, n, -position)
        line = line * shape[axis] + position
    present, which = _compact(labels.astype(np.int64), IGNORE + 1)
    key, vote = _compact(owner * len(present) + which, n * len(present))
    component, label = np.divmod(key, len(present))
    votes = np.bincount(vote, minlength=len(key))
    probability = np.zeros(len(key), np.int64)
    if weights is not None:
        probability = np.bincount(vote, weights, len(key)).astype(np.int64)
    return Components(
        sizes,
        sums,
        _smallest(owner, n, line),
        low,
        high,
        component,
        present[label],
        votes,
        probability,
        weights is not None,
    )


def first_voxels(found: Numbered, shape: Shape3) -> NDArray[np.int64]:
    """(n,): smallest linear index (C order) in a volume of this shape of a voxel of each object."""
    first = np.full(found.n, np.iinfo(np.int64).max)
    for slab in _slabs(found.numbers.shape):
        inside = np.flatnonzero(found.mask[slab])
        line = np.zeros(len(inside), np.int64)
        start = (found.box.start[0] + slab.start, *found.box.start[1:])
        for axis, index in enumerate(np.unravel_index(inside, found.numbers[slab].shape)):
            line = line * shape[axis] + index + start[axis]
        np.minimum.at(first, found.numbers[slab].ravel()[inside].astype(np.int64) - 1, line)
    return first


def _slabs(shape: tuple[int, ...]) -> Iterator[slice]:
    """Ranges of planes with about ``SLAB_VOXELS`` voxels each."""
    step = max(1, SLAB_VOXELS // (shape[1] * shape[2]))
    return (slice(z, min(z + step, shape[0])) for z in range(0, shape[0], step))


def _compact(values: NDArray[np.int64], bound: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Different values, ascending, and the position of each value among them; all in ``range(bound)``."""
    if bound > 4 * len(values) + 4096:
        different, where = np.unique(values, return_inverse=True)
        return different, where
    present = np.zeros(bound, bool)
    present[values] = True
    return np.flatnonzero(present), (np.cumsum(present) - 1)[values]


def _smallest(owner: NDArray[np.int64], n: int, values: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,): smallest of the values that belong to each owner."""
    result = np.full(n, np.iinfo(np.int64).max)
    np.minimum.at(result, owner, values)
    return result


def face_voxels(
    numbers: NDArray[np.unsignedinteger[Any]], box: Box, block: Box, shape: Shape3
) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Foreground voxels of a block at the faces that it shares with other blocks, and their components.

    Parameters
    ----------
    numbers : (z, y, x) uint32
        Component of each voxel of the box, from 1; 0 for none.
    box : Box
        Where ``numbers`` lies in the volume; inside the block.
    block : Box
        The block.
    shape : tuple of int
        Extent of the volume, (z, y, x).

    Returns
    -------
    index, component : (f,) uint32
        Linear index (C order) in the block, ascending, and component from 0.
    """
    found = [np.zeros(0, np.int64)]
    for axis in range(3):
        for at, shared in (
            (block.start[axis], block.start[axis] > 0),
            (block.stop[axis] - 1, block.stop[axis] < shape[axis]),
        ):
            if not shared or not box.start[axis] <= at < box.stop[axis]:
                continue
            plane = np.moveaxis(numbers, axis, 0)[at - box.start[axis]]
            index = list(np.nonzero(plane))
            index.insert(axis, np.full(len(index[0]), at - box.start[axis]))
            found.append(np.ravel_multi_index(tuple(index), numbers.shape))
    inside = np.unique(np.concatenate(found))
    offset = box.within(block).start
    index = [i + o for i, o in zip(np.unravel_index(inside, numbers.shape), offset, strict=True)]
    local = np.ravel_multi_index(tuple(index), block.shape).astype(np.uint32)
    return local, numbers.ravel()[inside].astype(np.uint32) - np.uint32(1)


def _check_known(components: Components, job: LabelJob) -> None:
    """Refuse labels that belong to none of the classes."""
    if job.particles is None:
        return
    unknown = np.setdiff1d(components.vote_label, job.particles)
    if len(unknown):
        raise FormatError(
            f"label {unknown[0]} in {job.labels} belongs to none of the classes, whose labels are "
            f"{sorted((*job.particles, *job.structures))}: list it in a file of classes (--classes)"
        )
