"""Only what lies inside a mask counts, and what that means for a pair across its edge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Shape3
from deepfinder_dask.errors import FormatError, GeometryError, VoxelSizeError
from deepfinder_dask.evaluation.matching import Edges, match_edges
from deepfinder_dask.evaluation.outcome import Side
from deepfinder_dask.particles.facts import VoxelSize
from deepfinder_dask.tomograms import Region


@dataclass(frozen=True, eq=False)
class Inside:
    """One tomogram without what does not count."""

    truth: Side
    """True particles inside."""
    found: Side
    """Found particles inside."""
    edges: Edges
    """Pairs of them near enough to match."""
    outside: tuple[int, int]
    """True and found particles outside."""
    across: int
    """Pairs with one inside and one outside, of which neither counts."""


def keep_inside(
    truth: Side, found: Side, edges: Edges, inside_truth: NDArray[np.bool_], inside_found: NDArray[np.bool_]
) -> Inside:
    """Leave out what lies outside, and pairs across the edge.

    Particles inside are matched with each other first, whatever their classes. Of what is left, a particle inside that
    matches one outside (and would have done so without the mask) is neither missed nor false: it is left out with its
    partner, as the true place of one of them is beyond what was asked for.

    Parameters
    ----------
    truth, found
        Particles of both sides.
    edges
        Index of the true and of the found particle of each pair near enough to match.
    inside_truth, inside_found : (n,) and (m,) bool
        Which of them lie inside.
    """
    rows, columns = edges
    both = inside_truth[rows] & inside_found[columns]
    within = match_edges(truth.positions, found.positions, (rows[both], columns[both]))
    free_truth, free_found = np.ones(len(truth), dtype=bool), np.ones(len(found), dtype=bool)
    free_truth[within.truth], free_found[within.found] = False, False
    left = free_truth[rows] & free_found[columns]
    rest = match_edges(truth.positions, found.positions, (rows[left], columns[left]))
    across = inside_truth[rest.truth] != inside_found[rest.found]
    keep_truth, keep_found = inside_truth.copy(), inside_found.copy()
    keep_truth[rest.truth[across]], keep_found[rest.found[across]] = False, False
    kept = keep_truth[rows] & keep_found[columns]
    number_truth, number_found = np.cumsum(keep_truth) - 1, np.cumsum(keep_found) - 1
    return Inside(
        truth[keep_truth],
        found[keep_found],
        (number_truth[rows[kept]].astype(np.int64), number_found[columns[kept]].astype(np.int64)),
        (int((~inside_truth).sum()), int((~inside_found).sum())),
        int(across.sum()),
    )


def region_of(
    mask: str | None, border: float | None, tomogram: str, shape: Shape3 | None, voxel_size: VoxelSize | None
) -> Region:
    """Region of a tomogram that a mask and a border leave.

    Parameters
    ----------
    mask
        Volume, or ``{tomogram}`` in the place of the name; None for the border only.
    border
        Å to leave out at all faces; None for none.
    tomogram
        Name of the tomogram.
    shape
        Its extent in voxels, (z, y, x); None where unknown.
    voxel_size
        Å per voxel, (z, y, x); None where unknown.

    Raises
    ------
    GeometryError
        The shape is unknown, or not that of the mask.
    VoxelSizeError
        The voxel size is unknown.
    """
    if voxel_size is None:
        raise VoxelSizeError(
            f"tomogram {tomogram!r}: its voxel size is unknown, so positions cannot be looked up in a "
            "mask; give --voxel-size"
        )
    if shape is None:
        raise GeometryError(
            f"tomogram {tomogram!r}: its shape is unknown, so that of a mask cannot be checked; give --shape Z,Y,X"
        )
    path = None if mask is None else mask.replace("{tomogram}", tomogram)
    return Region.open(path, shape=shape, voxel_size=voxel_size, border=border)


def numbers_in(region: Region, positions: NDArray[np.float64]) -> NDArray[np.int64]:
    """Number of the region that each position lies in, (n,) int64; 0 is outside, 1 inside a mask of fractions.

    Parameters
    ----------
    region
        Of the tomogram.
    positions : (n, 3) float64
        (z, y, x) in voxels.
    """
    try:
        return region.numbers_at(positions)
    except FormatError:
        return region.contains(positions).astype(np.int64)
