"""The label map of a box of voxels: particles claim, given maps fill, what nobody annotated is ignored.

Who gets a voxel, in this order:

1. the mask: outside of it everything is ignored;
2. particles: of several, the one whose centre is nearer (in Å); at the same distance the smaller label, then the
   smaller z, y, x; neither the order of the table nor the blocks matter;
3. given maps: of several, the smallest label;
4. the shell around particles, which is ignored;
5. background.

Voxels of classes that are not annotated are ignored, but claimed all the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Block, Box, triple
from deepfinder_dask.particles import IGNORE
from deepfinder_dask.targets.given import GivenLabels
from deepfinder_dask.targets.kernels import as_floats, as_ints, visit_shape, visit_sphere
from deepfinder_dask.targets.objects import SPHERE, Objects
from deepfinder_dask.targets.shapes import Shape
from deepfinder_dask.tomograms import Volume, VoxelSize
from deepfinder_dask.tomograms.regions import Region

LABELS = 256
"""Values of a label map."""


@dataclass(frozen=True)
class Canvas:
    """What all blocks of a target have in common; picklable."""

    voxel_size: VoxelSize
    """Å per voxel, (z, y, x)."""
    shapes: tuple[Shape, ...]
    """Shapes that particles are drawn from."""
    given: tuple[GivenLabels, ...]
    """Label maps to merge."""
    mask: Region | None
    """What was annotated; None for everything."""
    shell: float | None
    """Background voxels up to this far from a particle's, in Å, are ignored."""
    kept: tuple[int, ...]
    """Labels of the classes that are annotated; voxels of others are ignored."""


@dataclass(frozen=True)
class Task:
    """A block, and the particles that may touch what it reads."""

    block: Block
    """Which voxels."""
    objects: Objects
    """The particles, in order."""

    @property
    def number(self) -> int:
        """Number of the block."""
        return self.block.number


@dataclass(frozen=True)
class Tally:
    """What was counted in a block: a few kilobytes."""

    voxels: NDArray[np.int64]
    """(256,) int64: voxels by label."""
    rows: NDArray[np.int64]
    """(n,) int64: rows of the particles that may touch the block."""
    won: NDArray[np.int64]
    """(n,) int64: voxels that each of them got, ignored ones included."""
    lost: dict[tuple[int, int], int]
    """Voxels by (label that kept them, label that had claimed them too)."""


def paint(canvas: Canvas, task: Task) -> tuple[NDArray[np.uint8], Tally]:
    """Labels of a block, (z, y, x) uint8, and what was counted in it."""
    core, read = task.block.write, task.block.read
    objects = task.objects
    owner = np.full(read.shape, -1, dtype=np.int32)
    best = np.full(read.shape, np.inf)
    for number in range(len(objects)):
        _visit(canvas, objects, number, read, read, owner, best, np.zeros(0, np.int64))
    del best
    lost = np.zeros((LABELS, LABELS), dtype=np.int64)
    won = np.zeros(len(objects), dtype=np.int64)
    for number in range(len(objects)):
        counted = np.zeros(LABELS + 1, dtype=np.int64)
        _visit(canvas, objects, number, core, read, owner, np.zeros((1, 1, 1)), counted)
        won[number] = counted[LABELS]
        lost[:, objects.label[number]] += counted[:LABELS]
    mine = owner[core.within(read).slices()]
    labels = np.append(objects.label, np.uint8(0))[mine]  # -1, nobody's, is the last
    _merge(labels, [given.read(core) for given in canvas.given], mine < 0, lost)
    if canvas.shell is not None:
        near = _near(owner >= 0, canvas.shell, canvas.voxel_size)[core.within(read).slices()]
        labels[near & (labels == 0)] = IGNORE
    drawn = np.full(LABELS, IGNORE, dtype=np.uint8)
    drawn[[0, *canvas.kept]] = [0, *canvas.kept]
    labels = drawn[labels]
    if canvas.mask is not None:
        labels[~canvas.mask.read(core)] = IGNORE
    pairs = {(int(a), int(b)): int(lost[a, b]) for a, b in np.argwhere(lost)}
    return labels, Tally(np.bincount(labels.ravel(), minlength=LABELS), objects.row, won, pairs)


@dataclass(frozen=True)
class PaintBlock:
    """Paints a block into a store; what executors run."""

    canvas: Canvas
    """What all blocks have in common."""
    volume: Volume
    """Where the labels go; a block is a shard."""

    def __call__(self, task: Task) -> Tally:
        """Paint and write one block."""
        labels, tally = paint(self.canvas, task)
        self.volume.write(task.block.write, labels)
        return tally


def _visit(
    canvas: Canvas,
    objects: Objects,
    number: int,
    inside: Box,
    read: Box,
    owner: NDArray[np.int32],
    best: NDArray[np.float64],
    counted: NDArray[np.int64],
) -> None:
    """Claim or count the voxels of one particle in a box."""
    low = np.maximum(objects.low[number], inside.start)
    high = np.minimum(objects.high[number], inside.stop)
    if np.any(low >= high):
        return
    scale = as_floats(canvas.voxel_size)
    centre, rank = as_floats(objects.centre[number]), float(objects.rank[number])
    first, last, start = as_ints(low), as_ints(high), as_ints(read.start)
    if objects.shape[number] == SPHERE:
        square = float(objects.radius[number]) ** 2
        visit_sphere(number, first, last, centre, scale, square, rank, start, owner, best, objects.label, counted)
        return
    shape = canvas.shapes[objects.shape[number]]
    turn = as_floats(objects.turn[number] / np.asarray(shape.voxel_size)[:, None])
    values, middle = shape.values, as_floats(shape.centre)
    visit_shape(
        number, first, last, centre, scale, values, middle, turn, rank, start, owner, best, objects.label, counted
    )


def _merge(
    labels: NDArray[np.uint8], claims: list[NDArray[np.uint8]], free: NDArray[np.bool_], lost: NDArray[np.int64]
) -> None:
    """Put given maps below the particles, the smallest label first, and count what they are refused."""
    for claim in claims:
        fills = free & (claim > 0) & ((labels == 0) | (claim < labels))
        labels[fills] = claim[fills]
    for claim in claims:
        refused = (claim > 0) & (claim != labels)
        pairs = labels[refused].astype(np.int64) * LABELS + claim[refused]
        lost += np.bincount(pairs, minlength=LABELS * LABELS).reshape(LABELS, LABELS)


def _near(particles: NDArray[np.bool_], shell: float, voxel_size: VoxelSize) -> NDArray[np.bool_]:
    """Voxels up to ``shell`` Å from a particle's voxel, centre to centre; particles themselves included."""
    from scipy.ndimage import distance_transform_edt

    if not particles.any():
        return np.zeros_like(particles)
    distance = distance_transform_edt(~particles, sampling=voxel_size)
    near: NDArray[np.bool_] = distance <= shell * (1 + 1e-9)
    return near


def halo_of(shell: float | None, voxel_size: VoxelSize) -> tuple[int, int, int]:
    """Voxels that a block reads around its core, (z, y, x)."""
    return (0, 0, 0) if shell is None else triple(int(shell * (1 + 1e-9) // v) + 1 for v in voxel_size)
