from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deepfinder_dask.errors import OutputExistsError, SettingsError
from deepfinder_dask.particles import Particles, read_classes
from deepfinder_dask.simulation import SimulationConfig, Species, TiltImaging, TomogramConfig, simulate
from deepfinder_dask.tomograms import Tomogram

SMALL = SimulationConfig(
    20.0,
    (Species("ring", 1, min_size=20), Species("stick", 2, phantom="rod", colour="#123456")),
    (
        TomogramConfig("one", 3, (32, 48, 40), {"ring": 3, "stick": 2}, 20.0, TiltImaging(tilt_step=10.0)),
        TomogramConfig("two", 4, (24, 32, 40), {"stick": 1}, 20.0, TiltImaging(tilt_step=10.0)),
    ),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("simulated")
    simulate(SMALL, path)
    return path


def test_the_folder_holds_what_other_verbs_need(folder):
    one = Tomogram.open(folder / "one.zarr")
    assert one.shape == (32, 48, 40)
    assert one.voxel_size == (20.0,) * 3
    assert one.dtype == np.float32
    assert one.imaging_known
    assert one.imaging.contrast == "dark"
    assert one.statistics is not None
    assert one.statistics.std == pytest.approx(one.read().std(dtype=np.float64))
    made = one.source["simulation"]
    assert (made["seed"], made["imaging"]["snr"], made["counts"]) == (3, 0.1, {"ring": 3, "stick": 2})
    ring, stick = read_classes(folder / "classes.toml")
    assert (ring.name, ring.min_size, stick.name, stick.colour) == ("ring", 20, "stick", "#123456")
    assert ring.radius == stick.radius


def test_truth_agrees_between_the_files(folder):
    particles = Particles.read(folder / "one_particles.parquet")
    assert particles.counts() == {"ring": 3, "stick": 2}
    labels, instances = (Tomogram.open(folder / f"one_{kind}.zarr").read() for kind in ("labels", "instances"))
    assert labels.dtype == np.uint8
    table = particles.table
    for number, (position, label, size) in enumerate(
        zip(particles.voxel_positions("one"), table["label"], table["size_voxels"], strict=True), start=1
    ):
        voxels = np.argwhere(instances == number)
        assert voxels.mean(axis=0) == pytest.approx(position, abs=0.3)
        assert set(labels[instances == number]) == {label}
        assert len(voxels) == size
    assert not particles.table[["rot", "tilt", "psi"]].isna().any(axis=None)


def test_same_seed_same_bytes_other_seed_other_bytes(folder, tmp_path):
    again = replace(SMALL, tomograms=SMALL.tomograms[1:])
    (same,) = simulate(again, tmp_path / "a")
    (other,) = simulate(again, tmp_path / "b", seed=99)
    first = Tomogram.open(folder / "two.zarr").read()
    assert same.read().tobytes() == first.tobytes()
    assert other.read().tobytes() != first.tobytes()
    assert other.source["simulation"]["seed"] == 99


def test_outputs_are_not_replaced_unasked(folder):
    before = Tomogram.open(folder / "one.zarr").read()
    with pytest.raises(OutputExistsError, match="overwrite"):
        simulate(SMALL, folder, seed=50)
    assert Tomogram.open(folder / "one.zarr").read().tobytes() == before.tobytes()


def test_a_scene_that_does_not_fit_writes_nothing(tmp_path):
    full = replace(SMALL, tomograms=(replace(SMALL.tomograms[0], counts={"ring": 500}),))
    with pytest.raises(SettingsError, match="cannot place"):
        simulate(full, tmp_path / "full")
    assert not (tmp_path / "full").exists() or not list((tmp_path / "full").iterdir())
