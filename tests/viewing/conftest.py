"""A small asymmetric tomogram with balls at known places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deepfinder_dask.blocks import Box
from deepfinder_dask.particles import ParticleClass, Particles, TomogramFacts
from deepfinder_dask.tomograms import Image, Tomogram, create_image, finish_image, open_image

SHAPE = (40, 72, 120)
VOXEL = 10.0
CLASSES = (
    ParticleClass("ribosome", 1, radius=80.0, min_size=900),
    ParticleClass("proteasome", 2, radius=50.0),
    ParticleClass("membrane", 3, kind="structure"),
)
BALLS = (  # (z, y, x), label
    ((20, 15, 20), 1),
    ((20, 15, 100), 1),
    ((10, 55, 30), 1),
    ((20, 40, 60), 2),
    ((30, 60, 110), 2),
)


def write_image(path: Path, values: np.ndarray, voxel_size: float | tuple[float, float, float] = VOXEL) -> Image:
    """An image of one level, chunks that divide nothing."""
    volume = create_image(path, shape=values.shape, dtype=values.dtype, voxel_size=voxel_size, chunk=(16, 24, 32))
    volume.write(Box.whole(volume.space), values)
    finish_image(path)
    return open_image(path)


@pytest.fixture(scope="session")
def arrays() -> tuple[np.ndarray, np.ndarray]:
    """Grey values (dark balls in noise) and labels, (z, y, x)."""
    grid = np.stack(np.indices(SHAPE), -1)
    labels = np.zeros(SHAPE, np.uint8)
    labels[:, 64:66, 70:] = 3
    for centre, label in BALLS:
        radius = CLASSES[label - 1].radius
        assert radius is not None
        labels[((grid - centre) ** 2).sum(-1) <= (radius / VOXEL) ** 2] = label
    rng = np.random.default_rng(5)
    grey = rng.normal(0, 1, SHAPE) - 1.5 * (labels > 0)
    return grey.astype(np.float32), labels


@pytest.fixture(scope="session")
def tomogram(arrays: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Tomogram:
    """The grey values in a store."""
    path = tmp_path_factory.mktemp("tomogram") / "cell.zarr"
    write_image(path, arrays[0])
    return Tomogram.open(path)


@pytest.fixture(scope="session")
def labels(arrays: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The labels in a store."""
    return write_image(tmp_path_factory.mktemp("labels") / "labels", arrays[1])


@pytest.fixture(scope="session")
def particles() -> Particles:
    """The balls as particles."""
    rng = np.random.default_rng(6)
    numbers = [label for _, label in BALLS]
    return Particles.from_voxels(
        [centre for centre, _ in BALLS],
        tomogram="cell",
        facts=TomogramFacts((VOXEL,) * 3, SHAPE),
        labels=numbers,
        classes=CLASSES,
        scores=rng.uniform(0.6, 1, len(BALLS)),
        sizes=[2000 if n == 1 else 500 for n in numbers],
    )
