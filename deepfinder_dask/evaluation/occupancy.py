"""SHREC's rule: a found position hits the particle whose voxel it lies on."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Box, triple
from deepfinder_dask.clustering.sources import open_label_map
from deepfinder_dask.errors import FormatError, VoxelSizeError
from deepfinder_dask.evaluation.matching import Edges
from deepfinder_dask.particles.facts import VoxelSize

BLOCK = 64
"""Edge of the blocks that are read, in voxels."""


class Boxes(Protocol):
    """A volume that is read box by box."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent in voxels, (z, y, x)."""
        ...

    def read(self, box: Box) -> NDArray[Any]:
        """Values of a box of voxels, (z, y, x)."""
        ...


def hits_by_voxel(
    template: str,
    tomogram: str,
    *,
    voxel_size: VoxelSize | None,
    found: NDArray[np.float64],
    numbers: NDArray[np.int64],
    centres: NDArray[np.float64],
) -> Edges:
    """Pairs of a true and a found particle by the number of the voxel that the found position lies on.

    Parameters
    ----------
    template
        The volume of particle numbers, or ``{tomogram}`` in the place of the name.
    tomogram
        Name of the tomogram.
    voxel_size
        Å per voxel (z, y, x) where the volume does not say it.
    found : (m, 3) float64
        Found positions, (z, y, x) in Å.
    numbers : (n,) int64
        Number of each true particle in the volume.
    centres : (n, 3) float64
        True positions, (z, y, x) in Å, to check that numbers and volume belong together.

    Returns
    -------
    Edges
        Index of the true and of the found particle; a found one is in no more than one pair.

    Raises
    ------
    FormatError
        The volume cannot be read, or its numbers are not those of the true particles.
    VoxelSizeError
        The voxel size is unknown.

    Notes
    -----
    As the evaluation of SHREC 2020 and 2021 (Gubins et al. 2020, Comput. Graph. 91, 279; 2021, Eurographics 3DOR) does:
    positions are rounded to voxels, those outside count at the border, and numbers spread by one voxel along the axes
    (the largest wins) to close holes. A particle that is hit more than once is found once, and the other hits lower the
    precision. The contests judge the class by the first listed hit of a particle; here a hit of the right class counts,
    whichever it is.
    """
    path = template.replace("{tomogram}", tomogram)
    with tempfile.TemporaryDirectory(prefix="deepfinder-") as scratch, open_label_map(path, Path(scratch)) as volume:
        size = volume.voxel_size or voxel_size
        if size is None:
            raise VoxelSizeError(f"{path}: its voxel size is unknown; give --voxel-size")
        of_found = spread_values(volume.labels, found / np.asarray(size))
        of_truth = spread_values(volume.labels, centres / np.asarray(size))
    filled = of_truth > 0
    if filled.any() and (of_truth[filled] == numbers[filled]).mean() < 0.5:
        raise FormatError(
            f"{path}: expected the number of each true particle (its row in the tomogram, from 1, or instance_id) in "
            f"the voxels it fills, found other numbers at {int((of_truth != numbers)[filled].sum())} of "
            f"{int(filled.sum())} true positions; give the volume and the list that belong together"
        )
    order = np.argsort(numbers)
    place = np.searchsorted(numbers[order], of_found)
    known = place < len(numbers)
    known[known] = numbers[order][place[known]] == of_found[known]
    return order[place[known]].astype(np.int64), np.flatnonzero(known).astype(np.int64)


def spread_values(volume: Boxes, positions: NDArray[np.float64]) -> NDArray[np.int64]:
    """Largest value of the voxel at each position and of its six neighbours, (n,) int64; read block by block.

    Parameters
    ----------
    volume
        Whole numbers, (z, y, x).
    positions : (n, 3) float64
        (z, y, x) in voxels; rounded, and moved to the border where outside.
    """
    shape = triple(volume.shape)
    voxels = np.clip(np.round(positions), 0, np.asarray(shape) - 1).astype(np.int64)
    result = np.zeros(len(voxels), dtype=np.int64)
    if not len(voxels):
        return result
    blocks, of_block = np.unique(voxels // BLOCK, axis=0, return_inverse=True)
    for number, block in enumerate(blocks):
        here = np.flatnonzero(of_block.ravel() == number)
        start = np.maximum(block * BLOCK - 1, 0)
        stop = np.minimum((block + 1) * BLOCK + 1, shape)
        values = np.asarray(volume.read(Box(triple(start), triple(stop)))).astype(np.int64)
        inside = voxels[here] - start
        around = [values[tuple(inside.T)]]
        for axis in range(3):
            for step in (-1, 1):
                moved = inside.copy()
                moved[:, axis] = np.clip(moved[:, axis] + step, 0, values.shape[axis] - 1)
                around.append(values[tuple(moved.T)])
        result[here] = np.max(around, axis=0)
    return result
