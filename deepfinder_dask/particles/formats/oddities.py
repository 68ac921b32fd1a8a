"""What is strange about particles that were read, but no reason to stop: said once, counted and named."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from deepfinder_dask.particles.formats.base import ParticlesWarning
from deepfinder_dask.particles.table import Particles


def warn_of_oddities(particles: Particles, path: str | Path, *, empty: bool = True) -> None:
    """Warn of a list without particles, unless ``empty`` is False, and of particles outside of their tomograms.

    Particles can only be outside where shape and voxel size of the tomogram are known.
    """
    if empty and not len(particles):
        warnings.warn(f"{path}: no particles in it", ParticlesWarning, stacklevel=3)
    names = particles.table["tomogram"].to_numpy()
    outside = np.zeros(len(particles), dtype=bool)
    for name, facts in particles.tomograms.items():
        rows = np.flatnonzero(names == name)
        if facts.shape is None or facts.voxel_size is None or not len(rows):
            continue
        voxels = particles.positions()[rows] / np.asarray(facts.voxel_size)
        # Half a voxel of the surface belongs to the volume; a little more is rounding.
        outside[rows] = ((voxels < -0.501) | (voxels > np.asarray(facts.shape) - 0.499)).any(axis=1)
    if outside.any():
        row = int(np.argmax(outside))
        one = particles.table.iloc[row]
        where = f"{one['tomogram']!r} of {particles.tomograms[one['tomogram']].shape} voxels (z, y, x)"
        warnings.warn(
            f"{path}: {int(outside.sum())} of {len(particles)} particles lie outside of their tomograms, first "
            f"particle {row} at x, y, z = {one['x']:.1f}, {one['y']:.1f}, {one['z']:.1f} Å in {where}; "
            "are binning, voxel size and centre right?",
            ParticlesWarning,
            stacklevel=3,
        )
