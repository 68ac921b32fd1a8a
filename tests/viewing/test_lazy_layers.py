"""Layers for napari, without napari: lazy arrays, Å, colours; and who misses napari is told which extra to install."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import dask.array
import numpy as np
import pytest

from deepfinder_dask.blocks import Box
from deepfinder_dask.errors import SettingsError
from deepfinder_dask.particles import ParticleClass, Particles, TomogramFacts
from deepfinder_dask.tomograms import Volume, build_pyramid, create_image, finish_image
from deepfinder_dask.viewing import napari_layers
from deepfinder_dask.viewing.lazy_layers import layer_data

SHAPE, VOXEL = (12, 20, 140), (20.0, 10.0, 5.0)
CLASSES = (ParticleClass("ribosome", 1, radius=60.0, colour="#ff0000"), ParticleClass("proteasome", 2, radius=30.0))


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, np.ndarray]:
    """A tomogram and labels of two levels, and the grey values."""
    folder = tmp_path_factory.mktemp("napari")
    values = np.random.default_rng(4).integers(0, 200, SHAPE).astype(np.uint8)
    for name, data in (("cell.zarr", values), ("labels.zarr", values % 3)):
        volume = create_image(folder / name, shape=SHAPE, dtype="uint8", voxel_size=VOXEL)
        volume.write(Box.whole(SHAPE), data)
        build_pyramid(folder / name, smallest=100)
        finish_image(folder / name, label_colours={1: "#ff0000"} if "labels" in name else None)
    return folder / "cell.zarr", folder / "labels.zarr", values


def test_layers_are_lazy_and_in_angstrom(
    stores: tuple[Path, Path, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, labels, values = stores
    particles = Particles.from_voxels(
        [(3, 10, 100), (8, 4, 30.5)], tomogram="cell", facts=TomogramFacts(VOXEL, SHAPE), labels=[1, 2], classes=CLASSES
    )
    with monkeypatch.context() as patch:
        patch.setattr(Volume, "read", lambda *_: pytest.fail("reads voxels"))
        image, label, points = layer_data(path, particles, labels=str(labels))
    data, arguments, kind = image
    assert (kind, arguments["name"], arguments["scale"], arguments["multiscale"]) == (
        "image",
        "cell",
        list(VOXEL),
        True,
    )
    assert [one.shape for one in data] == [SHAPE, (6, 10, 70)]
    assert all(isinstance(one, dask.array.Array) for one in data)
    assert np.array_equal(data[0][2:5, 3, 60:70].compute(), values[2:5, 3, 60:70])
    data, arguments, kind = label
    assert (kind, arguments["scale"]) == ("labels", list(VOXEL))
    assert arguments["colormap"][1] == "#ff0000"
    assert np.array_equal(data[0].compute(), values % 3)
    data, arguments, kind = points
    assert kind == "points"
    assert np.array_equal(data, [[60, 100, 500], [160, 40, 152.5]])  # z, y, x in Å
    assert arguments["size"].tolist() == [120, 60]
    assert arguments["face_color"] == ["#ff0000", CLASSES[1].colour]
    assert arguments["features"]["class"].tolist() == ["ribosome", "proteasome"]


@pytest.mark.skipif(importlib.util.find_spec("napari") is not None, reason="napari is installed")
def test_who_misses_napari_is_told(stores: tuple[Path, Path, np.ndarray]) -> None:
    with pytest.raises(SettingsError, match=r"pip install 'deepfinder_dask\[napari\]'"):
        napari_layers(stores[0])
