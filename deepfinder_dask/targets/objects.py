"""What is drawn, particle by particle: where, from what, turned how, and which voxels it may touch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import BlockGrid, Shape3
from deepfinder_dask.particles import ParticleClass
from deepfinder_dask.particles.angles import to_matrices
from deepfinder_dask.targets.shapes import Shape
from deepfinder_dask.tomograms import VoxelSize

SPHERE = -1
"""Number of the shape of particles that are spheres."""
RIM = 1e-9
"""Part by which a sphere is larger than its radius: rounding decides nothing at its rim."""


@dataclass(frozen=True, eq=False)
class Objects:
    """Particles to draw, in the order in which the first of equal rank wins. Arrays of one length."""

    centre: NDArray[np.float64]
    """(n, 3) float64: position in voxels of the tomogram, (z, y, x)."""
    label: NDArray[np.uint8]
    """(n,) uint8: label of its class."""
    shape: NDArray[np.int32]
    """(n,) int32: number of its shape, -1 for a sphere."""
    radius: NDArray[np.float64]
    """(n,) float64: Å, of spheres."""
    turn: NDArray[np.float64]
    """(n, 3, 3) float64: from the tomogram to the object, on (z, y, x) columns in Å."""
    rank: NDArray[np.float64]
    """(n,) float64: NaN where the nearer centre wins, else the smaller number does."""
    row: NDArray[np.int64]
    """(n,) int64: row of the table."""
    low: NDArray[np.int64]
    """(n, 3) int64: first voxel that it may touch, (z, y, x); may be outside the tomogram."""
    high: NDArray[np.int64]
    """(n, 3) int64: one past the last."""

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: Sequence[int] | NDArray[np.intp]) -> Objects:
        """Some of them, in the order given."""
        index = np.asarray(rows, dtype=np.intp)
        return Objects(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


def objects_of(
    centres: NDArray[np.float64],
    angles: NDArray[np.float64],
    names: Sequence[str],
    classes: Mapping[str, ParticleClass],
    shapes: Sequence[Shape],
    voxel_size: VoxelSize,
) -> Objects:
    """Particles to draw, ordered by label, position and angles: their order in the table decides nothing.

    Parameters
    ----------
    centres : (n, 3) float64
        Positions in voxels, (z, y, x).
    angles : (n, 3) float64
        ``rot, tilt, psi`` in degrees; where NaN, a sphere is drawn.
    names : sequence of str
        Class of each.
    classes : mapping
        Classes by name; those without a shape have a radius.
    shapes : sequence of Shape
        Shapes, each of another class.
    voxel_size : tuple of float
        Å per voxel, (z, y, x).
    """
    scale = np.asarray(voxel_size)
    numbers = {one.name: number for number, one in enumerate(shapes)}
    known = ~np.isnan(angles).any(axis=1)
    shape = np.array([numbers.get(name, SPHERE) for name in names], dtype=np.int32)
    shape[~known] = SPHERE
    radius = np.array([classes[name].radius or 0.0 for name in names], dtype=np.float64) * (1 + RIM)
    label = np.array([classes[name].label for name in names], dtype=np.uint8)
    reach = np.where(shape == SPHERE, radius, np.array([*(s.reach for s in shapes), 0.0])[shape])
    extent = reach[:, None] / scale
    whole = Objects(
        centre=centres,
        label=label,
        shape=shape,
        radius=radius,
        turn=np.swapaxes(to_matrices(angles), 1, 2)[:, ::-1, ::-1],
        rank=np.full(len(label), np.nan),
        row=np.arange(len(label)),
        low=np.floor(centres - extent).astype(np.int64),
        high=np.ceil(centres + extent).astype(np.int64) + 1,
    )
    keys = np.concatenate([label[:, None], centres, np.nan_to_num(angles)], axis=1)
    return whole.take(np.lexsort(keys.T[::-1]))


def as_the_original(objects: Objects, shapes: Sequence[Shape], voxel_size: VoxelSize) -> Objects:
    """The original DeepFinder's placement: whole voxels, later particles over earlier ones.

    Centres are rounded down, so that a mask lies up to a voxel towards the origin. Spheres are cut out of one cube
    whose edge is twice the largest radius, from ``-radius`` to ``radius - 1`` voxels: the largest lack the voxels at
    ``+radius`` on the axes.

    Parameters
    ----------
    objects : Objects
        As :func:`objects_of` gives them.
    shapes : sequence of Shape
        Masks as they are.
    voxel_size : tuple of float
        Å per voxel; the same on all axes.
    """
    order = np.argsort(objects.row, kind="stable")
    objects = objects.take(order)
    centre = np.floor(objects.centre)
    low, high = objects.low + 0, objects.high + 0
    spheres = objects.shape == SPHERE
    edge = np.ceil(objects.radius[spheres].max(initial=0) / voxel_size[0] * (1 - 2 * RIM)).astype(np.int64)
    for axis in range(3):
        corner = centre[:, axis].astype(np.int64)
        low[spheres, axis] = np.maximum(low[spheres, axis], corner[spheres] - edge)
        high[spheres, axis] = np.minimum(high[spheres, axis], corner[spheres] + edge)
    for number, shape in enumerate(shapes):
        mine = objects.shape == number
        half = np.asarray(shape.values.shape) // 2
        corner = centre[mine].astype(np.int64) - half
        low[mine], high[mine] = corner, corner + np.asarray(shape.values.shape)
    return replace(objects, centre=centre, rank=-objects.row.astype(np.float64), low=low, high=high)


def touching(objects: Objects, grid: BlockGrid) -> dict[int, NDArray[np.intp]]:
    """Which particles may touch what each block reads, by number of block: their numbers, in order.

    Parameters
    ----------
    objects : Objects
    grid : BlockGrid
        Its halo counts.
    """
    found: dict[int, list[int]] = {}
    core, counts = np.asarray(grid.core), np.asarray(grid.counts)
    inside = np.all((objects.high > 0) & (objects.low < np.asarray(grid.shape)), axis=1)
    first = np.clip((objects.low - np.asarray(grid.halo_high)) // core, 0, counts - 1)
    last = np.clip((objects.high - 1 + np.asarray(grid.halo_low)) // core, 0, counts - 1)
    for number in np.flatnonzero(inside).tolist():
        for index in np.ndindex(*(last[number] - first[number] + 1)):
            z, y, x = (int(v) for v in first[number] + index)
            found.setdefault((z * grid.counts[1] + y) * grid.counts[2] + x, []).append(number)
    return {block: np.array(numbers, dtype=np.intp) for block, numbers in found.items()}


def rows_outside(centres: NDArray[np.float64], shape: Shape3) -> NDArray[np.intp]:
    """Rows whose position, (z, y, x) in voxels, is outside every voxel of a volume."""
    outside = np.any((centres < -0.5) | (centres > np.asarray(shape) - 0.5), axis=1)
    return np.flatnonzero(outside)
