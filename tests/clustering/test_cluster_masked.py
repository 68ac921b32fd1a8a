"""Clustering inside a region is clustering of the label map times the mask, and what is outside is not read."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import zarr

from deepfinder_dask.blocks import BlockGrid
from deepfinder_dask.cli import main
from deepfinder_dask.clustering import cluster
from deepfinder_dask.errors import FormatError, GeometryError
from deepfinder_dask.execution import open_executor
from deepfinder_dask.particles import ParticleClass, Particles, classes_to_dicts
from deepfinder_dask.tomograms import Volume, create_group, create_image, finish_group, finish_image

SHAPE = (40, 48, 56)
VOXEL = (10.0, 12.5, 20.0)
CLASSES = (
    ParticleClass("ribosome", 1, radius=50.0),
    ParticleClass("membrane", 2, kind="structure"),
    ParticleClass("proteasome", 5, radius=45.0),
)
BORDER = 45.0
"""4.5, 3.6 and 2.25 voxels: 5, 4 and 3 are left out."""


def balls():
    """Balls of three classes, some touching, and probabilities."""
    rng = np.random.default_rng(5)
    labels = np.zeros(SHAPE, np.uint8)
    index = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    for _ in range(30):
        centre, radius = rng.uniform(0, SHAPE), rng.uniform(2, 6)
        inside = sum((i - c) ** 2 for i, c in zip(index, centre, strict=True)) <= radius**2
        labels[inside] = rng.choice([1, 2, 5])
    return labels, rng.integers(100, 256, SHAPE, dtype=np.uint8)


def slanted():
    """A mask whose border cuts through balls, and which leaves some blocks empty."""
    z, y, x = np.indices(SHAPE)
    return ((x + y - z > 22) & (x < 50)).astype(np.uint8)


def write_image(path, values):
    volume = create_image(path, shape=SHAPE, dtype=values.dtype, voxel_size=VOXEL, chunk=8, shard=(16, 16, 16))
    for block in BlockGrid(SHAPE, (16, 16, 16)):
        volume.write(block.write, np.ascontiguousarray(values[block.write.slices()]))
    finish_image(path)


def write_segmentation(path, labels, probability):
    create_group(path, kind="segmentation")
    write_image(f"{path}/labels", labels)
    write_image(f"{path}/probability", probability)
    finish_group(path, {"tomogram": "TS_01", "classes": classes_to_dicts(CLASSES)})
    return str(path)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """A segmentation; the same times mask and border; the mask."""
    folder = tmp_path_factory.mktemp("masked")
    labels, probability = balls()
    mask = slanted()
    inner = np.zeros(SHAPE, bool)
    inner[5:-5, 4:-4, 3:-3] = True
    full = write_segmentation(folder / "full.zarr", labels, probability)
    cut = write_segmentation(folder / "cut.zarr", labels * mask, probability)
    both = write_segmentation(folder / "both.zarr", labels * mask * inner, probability)
    zarr.create_array(folder / "mask.zarr", data=mask * 3, chunks=(16, 16, 16))
    return full, cut, both, str(folder / "mask.zarr")


METHODS = [{"connectivity": 18}, {"method": "mean-shift", "bandwidth": 4}]


@pytest.mark.parametrize("options", [{}, {"block": (12, 16, 20)}])
@pytest.mark.parametrize("method", METHODS)
def test_as_if_multiplied_by_the_mask(stores, options, method) -> None:
    full, cut, both, mask = stores
    free = cluster(full, **method).table
    expected = cluster(cut, **method).table
    assert len(expected) > 3
    assert not expected.equals(free)
    pd.testing.assert_frame_equal(cluster(full, mask=mask, **method, **options).table, expected, check_exact=True)
    expected = cluster(both, **method).table
    found = cluster(full, mask=mask, border=BORDER, **method, **options).table
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


@pytest.mark.slow
def test_workers_change_nothing(stores) -> None:
    full, _, both, mask = stores
    with open_executor(2) as executor:
        for method in METHODS:
            found = cluster(full, mask=mask, border=BORDER, block=(12, 16, 20), executor=executor, **method).table
            pd.testing.assert_frame_equal(found, cluster(both, **method).table, check_exact=True)


@pytest.mark.parametrize("method", METHODS)
def test_blocks_outside_are_not_read(stores, method, monkeypatch) -> None:
    full, _, _, mask = stores
    read = []
    original = Volume.read

    def reading(self, box=None):
        if "full.zarr/labels" in str(self):
            read.append(box)
        return original(self, box)

    monkeypatch.setattr(Volume, "read", reading)
    cluster(full, mask=mask, block=(8, 8, 8), **method)
    assert read
    inside = slanted() > 0
    assert all(inside[box.slices()].any() for box in read)
    assert len({box for box in read if box.shape == (8, 8, 8)}) < len(BlockGrid(SHAPE, (8, 8, 8)))


def test_on_the_command_line(stores, tmp_path, capsys) -> None:
    full, _, both, mask = stores
    out = tmp_path / "p.parquet"
    assert main(["cluster", full, "-o", str(out), "--mask", mask, "--border", str(BORDER), "-q"]) == 0
    assert Particles.read(out).table.equals(cluster(both).table)
    small = tmp_path / "small.zarr"
    zarr.create_array(small, data=np.ones((20, 24, 28), np.uint8))
    assert main(["cluster", full, "-o", str(tmp_path / "q.parquet"), "--mask", str(small)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "small.zarr to have the shape (40, 48, 56)" in error
    assert not (tmp_path / "q.parquet").exists()


def test_masks_that_cannot_be(stores, tmp_path) -> None:
    full = stores[0]
    with pytest.raises(FormatError, match="no such mask"):
        cluster(full, mask=str(tmp_path / "none.mrc"))
    with pytest.raises(GeometryError, match="leaves nothing"):
        cluster(full, border=300.0)
