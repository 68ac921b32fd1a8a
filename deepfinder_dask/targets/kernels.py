"""Compiled loops over the voxels that one particle may claim.

Everything is computed from a voxel's index in the whole tomogram, so that no block changes a bit. A particle's voxels
are visited twice: first to claim them (``counted`` is empty), where the smallest rank wins and of equal ranks the
first; and when all have claimed, to count what it got, and to whom it lost the others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.execution.compiling import compiled

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@compiled
def visit_sphere(
    number: int,
    low: Ints,
    high: Ints,
    centre: Floats,
    scale: Floats,
    square: float,
    rank: float,
    start: Ints,
    owner: NDArray[np.int32],
    best: Floats,
    labels: NDArray[np.uint8],
    counted: Ints,
) -> None:
    """Claim or count the voxels whose centre is within a sphere.

    Parameters
    ----------
    number : int
        The particle, as in ``owner``.
    low, high : (3,) int64
        Voxels to look at, (z, y, x), ``low <= index < high``.
    centre : (3,) float64
        Position in voxels, (z, y, x).
    scale : (3,) float64
        Length of a voxel, (z, y, x).
    square : float
        Square of the radius, in those lengths.
    rank : float
        Of all its voxels; NaN takes the square of the distance from the centre.
    start : (3,) int64
        First voxel of the arrays.
    owner : (z, y, x) int32
        Particle that has each voxel, -1 for none.
    best : (z, y, x) float64
        Its rank there.
    labels : (n,) uint8
        Label of each particle.
    counted : (257,) int64
        Empty to claim. To count: takes the voxels that it lost to other particles, by their label; the last those it
        got.
    """
    counting = counted.size > 0
    for z in range(low[0], high[0]):
        dz = (z - centre[0]) * scale[0]
        for y in range(low[1], high[1]):
            dy = (y - centre[1]) * scale[1]
            plane = dz * dz + dy * dy
            if plane > square:
                continue
            for x in range(low[2], high[2]):
                dx = (x - centre[2]) * scale[2]
                distance = plane + dx * dx
                if distance > square:
                    continue
                i, j, k = z - start[0], y - start[1], x - start[2]
                if counting:
                    got = owner[i, j, k]
                    counted[256 if got == number else labels[got]] += 1
                else:
                    mine = distance if np.isnan(rank) else rank
                    if mine < best[i, j, k]:
                        best[i, j, k] = mine
                        owner[i, j, k] = number


@compiled
def visit_shape(
    number: int,
    low: Ints,
    high: Ints,
    centre: Floats,
    scale: Floats,
    values: NDArray[np.float32],
    middle: Floats,
    turn: Floats,
    rank: float,
    start: Ints,
    owner: NDArray[np.int32],
    best: Floats,
    labels: NDArray[np.uint8],
    counted: Ints,
) -> None:
    """Claim or count the voxels at whose centre a turned shape is at least one half, by trilinear interpolation.

    Parameters
    ----------
    number, low, high, centre, scale, rank, start, owner, best, labels, counted
        As :func:`visit_sphere`; the scale is Å per voxel of the tomogram.
    values : (z, y, x) float32
        The shape.
    middle : (3,) float64
        Its voxel that lies at the position, (z, y, x).
    turn : (3, 3) float64
        From Å in the tomogram to voxels of the shape, both (z, y, x).
    """
    counting = counted.size > 0
    nz, ny, nx = values.shape
    for z in range(low[0], high[0]):
        dz = (z - centre[0]) * scale[0]
        for y in range(low[1], high[1]):
            dy = (y - centre[1]) * scale[1]
            for x in range(low[2], high[2]):
                dx = (x - centre[2]) * scale[2]
                c = turn[2, 0] * dz + turn[2, 1] * dy + turn[2, 2] * dx + middle[2]
                if not 0.0 <= c <= nx - 1:
                    continue
                b = turn[1, 0] * dz + turn[1, 1] * dy + turn[1, 2] * dx + middle[1]
                if not 0.0 <= b <= ny - 1:
                    continue
                a = turn[0, 0] * dz + turn[0, 1] * dy + turn[0, 2] * dx + middle[0]
                if not 0.0 <= a <= nz - 1:
                    continue
                ia, ib, ic = int(a), int(b), int(c)
                ja, jb, jc = min(ia + 1, nz - 1), min(ib + 1, ny - 1), min(ic + 1, nx - 1)
                fa, fb, fc = a - ia, b - ib, c - ic
                near = (values[ia, ib, ic] * (1.0 - fc) + values[ia, ib, jc] * fc) * (1.0 - fb)
                near += (values[ia, jb, ic] * (1.0 - fc) + values[ia, jb, jc] * fc) * fb
                far = (values[ja, ib, ic] * (1.0 - fc) + values[ja, ib, jc] * fc) * (1.0 - fb)
                far += (values[ja, jb, ic] * (1.0 - fc) + values[ja, jb, jc] * fc) * fb
                if near * (1.0 - fa) + far * fa < 0.5:
                    continue
                i, j, k = z - start[0], y - start[1], x - start[2]
                if counting:
                    got = owner[i, j, k]
                    counted[256 if got == number else labels[got]] += 1
                else:
                    mine = dz * dz + dy * dy + dx * dx if np.isnan(rank) else rank
                    if mine < best[i, j, k]:
                        best[i, j, k] = mine
                        owner[i, j, k] = number


def as_ints(values: Any) -> Ints:
    """An int64 array, as the compiled loops take it."""
    return np.ascontiguousarray(values, dtype=np.int64)


def as_floats(values: Any) -> Floats:
    """A float64 array, as the compiled loops take it."""
    return np.ascontiguousarray(values, dtype=np.float64)
