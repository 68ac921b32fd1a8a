"""A tomogram of a store as an MRC file, some planes at a time."""

from __future__ import annotations

import warnings
from pathlib import Path

import mrcfile
import numpy as np

from deepfinder_dask.blocks import Box
from deepfinder_dask.particles.files import atomic_write
from deepfinder_dask.tomograms import Tomogram

PLANES = 64
"""z slices read at a time: a chunk."""


def write_mrc(tomogram: Tomogram, path: Path) -> None:
    """Write a tomogram as MRC of 32-bit floats, whole or not at all.

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    depth, height, width = tomogram.shape
    with atomic_write(path) as temporary, warnings.catch_warnings():
        # Header statistics are set below: reading all voxels again would need them all in memory.
        warnings.simplefilter("ignore")
        with mrcfile.new_mmap(temporary, shape=tomogram.shape, mrc_mode=2, overwrite=True) as file:
            for z in range(0, depth, PLANES):
                stop = min(z + PLANES, depth)
                file.data[z:stop] = tomogram.read(Box((z, 0, 0), (stop, height, width)))
            file.voxel_size = tuple(reversed(tomogram.voxel_size))
            if tomogram.statistics is not None:
                header, known = file.header, tomogram.statistics
                header.dmin, header.dmax = np.float32(known.minimum), np.float32(known.maximum)
                header.dmean, header.rms = np.float32(known.mean), np.float32(known.std)
