"""Tomograms without grey values, maps, and tables of particles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from deepfinder_dask.particles import ParticleClass, Particles, TomogramFacts
from deepfinder_dask.tomograms import Tomogram, create_image, finish_image

SHAPE = (40, 48, 56)
CLASSES = (
    ParticleClass("ribosome", 1, radius=80.0),
    ParticleClass("proteasome", 2, radius=50.0),
    ParticleClass("membrane", 3, kind="structure"),
)


@pytest.fixture
def empty_tomogram(tmp_path: Path) -> Callable[..., Tomogram]:
    """Make a tomogram of zeros: shape, voxel size, name."""

    def make(shape=SHAPE, voxel_size=10.0, name="TS_01") -> Tomogram:
        path = tmp_path / f"{name}.zarr"
        create_image(path, shape=shape, dtype="float32", voxel_size=voxel_size, chunk=32, shard=(32, 32, 32))
        finish_image(path)
        return Tomogram.open(path)

    return make


@pytest.fixture
def write_mrc(tmp_path: Path) -> Callable[..., str]:
    """Write a map: name, values (z, y, x), voxel size (0 for unknown)."""

    def write(name: str, values: np.ndarray, voxel_size: float = 10.0) -> str:
        path = tmp_path / name
        with mrcfile.new(path, overwrite=True) as file:
            file.set_data(values)
            file.voxel_size = voxel_size
        return str(path)

    return write


def table(centres, names, *, classes=CLASSES, tomogram="TS_01", angles=None, voxel_size=10.0, shape=None) -> Particles:
    """Particles at voxels (z, y, x)."""
    labels = {one.name: one.label for one in classes}
    return Particles.from_voxels(
        centres,
        tomogram=tomogram,
        facts=TomogramFacts(voxel_size, shape),
        labels=[labels[name] for name in names],
        classes=classes,
        orientations=angles,
    )
