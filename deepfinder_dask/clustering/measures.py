"""What can be said of each particle beside its class, position, size and score: columns of the table, if asked for."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Shape3
from deepfinder_dask.clustering.components import Components
from deepfinder_dask.particles.columns import BOX_START, BOX_STOP, CENTROID
from deepfinder_dask.tomograms import VoxelSize


def measure_particles(
    components: Components, shape: Shape3, voxel_size: VoxelSize, *, centroid: bool
) -> dict[str, NDArray[Any]]:
    """Columns by name, ``n`` values each: size in Å³, bounding box, touching the border, centroid if wanted.

    Parameters
    ----------
    components : Components
        The particles.
    shape : tuple of int
        Extent of the tomogram in voxels, (z, y, x).
    voxel_size : tuple of float
        Å per voxel, (z, y, x).
    centroid : bool
        Whether to add the mean of the voxels, in Å; it is the position itself unless that is a mode.
    """
    columns: dict[str, NDArray[Any]] = {"size_angstrom3": components.sizes * prod(voxel_size)}
    columns |= zip(BOX_START, components.low.T, strict=True)
    columns |= zip(BOX_STOP, components.high.T, strict=True)
    columns["touches_border"] = ((components.low == 0) | (components.high == np.array(shape))).any(axis=1)
    if centroid:
        columns |= zip(CENTROID, (components.centroids * np.asarray(voxel_size)).T, strict=True)
    return columns
