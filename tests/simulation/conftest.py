"""Scenes and maps that the tests of the simulator share."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
from scipy import ndimage

from deepfinder_dask.simulation import SimulationConfig, Species, Structure, TiltImaging, TomogramConfig


@pytest.fixture(scope="session")
def write_map() -> Callable[..., Path]:
    """Writes an MRC file of a density map; the voxel size is one number or x, y, z."""

    def write(path: Path, values: np.ndarray, voxel_size: float | tuple[float, float, float]) -> Path:
        with mrcfile.new(path, overwrite=True) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NaN is what some maps are to hold
            file.set_data(values.astype(np.float32))
            file.voxel_size = voxel_size
        return path

    return write


@pytest.fixture(scope="session")
def chiral() -> np.ndarray:
    """A map (z, y, x) of four blobs of unlike strength, its centre at 12: no turn maps it to its mirror image."""
    values = np.zeros((24, 24, 24))
    for z, y, x, strength in ((-5, 0, 0, 1.0), (3, 5, 0, 0.8), (3, -3, 6, 0.6), (0, 0, 0, 0.5)):
        values[12 + z, 12 + y, 12 + x] = strength
    return ndimage.gaussian_filter(values, 1.8) * 200


@pytest.fixture(scope="session")
def blobs(tmp_path_factory: pytest.TempPathFactory, write_map: Callable[..., Path], chiral: np.ndarray) -> Path:
    """A file of the chiral map, 10 Å per voxel."""
    return write_map(tmp_path_factory.mktemp("maps") / "blobs.mrc", chiral, 10.0)


@pytest.fixture(scope="session")
def scene_of() -> Callable[..., SimulationConfig]:
    """Makes a configuration of one tomogram: species as name → count, more by keyword."""

    def make(
        counts: dict[str, int],
        shape: tuple[int, int, int] = (40, 72, 64),
        voxel_size: float = 20.0,
        species: tuple[Species, ...] | None = None,
        imaging: TiltImaging | None = None,
        **more: Any,
    ) -> SimulationConfig:
        kinds = species or tuple(Species(name, label) for label, name in enumerate(counts, start=1))
        more = {"seed": 5, "gap": 40.0, **more}
        one = TomogramConfig("one", shape=shape, counts=counts, imaging=imaging or TiltImaging(), **more)
        structures = (Structure("membrane", 201, "membrane"), Structure("gold", 202, "gold"))
        return SimulationConfig(voxel_size, kinds, (one,), structures)

    return make
