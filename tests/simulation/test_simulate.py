from __future__ import annotations

import json
from dataclasses import replace

import mrcfile
import numpy as np
import pytest

from deepfinder_dask.cli import main
from deepfinder_dask.errors import InputError, OutputExistsError, SettingsError
from deepfinder_dask.execution import hold
from deepfinder_dask.particles import Particles, read_classes
from deepfinder_dask.simulation import (
    Membranes,
    SimulateSettings,
    SimulationConfig,
    Species,
    Structure,
    TiltImaging,
    TomogramConfig,
    job,
    simulate,
    simulate_tomogram,
)
from deepfinder_dask.tomograms import Tomogram, open_image

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
    assert not list(folder.glob(".*"))
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


RICH = SimulationConfig(
    20.0,
    (Species("ring", 1), Species("stuck", 2, phantom="rod", bound=True)),
    (
        TomogramConfig(
            "rich",
            7,
            (36, 80, 72),
            {"ring": 4, "stuck": 2},
            20.0,
            membranes=(Membranes("sphere", radius=(250.0, 280.0)),),
            gold=3,
            thick=0.3,
            imaging=TiltImaging(
                tilt_step=6.0, dose=100.0, dose_scheme="cosine", tilt_error=0.2, ice_thickness=800.0, snr=0.2
            ),
        ),
    ),
    (Structure("vesicle", 3, "membrane", colour="#aabbcc"), Structure("gold", 4, "gold")),
)


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    path = tmp_path_factory.mktemp("rich")
    simulate(RICH, path, mrc=True, density=True, tilt_series=True)
    return path


@pytest.fixture(scope="module")
def in_memory():
    return simulate_tomogram(RICH, RICH.tomograms[0])


def test_slab_by_slab_is_bit_for_bit_as_in_memory(rich, in_memory):
    """80 rows are two slabs; in memory there are none."""
    for ending, values in (
        ("", in_memory.values),
        ("_labels", in_memory.truth.labels),
        ("_instances", in_memory.truth.instances),
        ("_density", in_memory.truth.density),
        ("_tilts", in_memory.images),
    ):
        stored = open_image(rich / f"rich{ending}.zarr").levels[0].read()
        assert stored.dtype == values.dtype
        assert stored.tobytes() == values.tobytes(), ending


@pytest.mark.slow
def test_workers_give_the_same_bytes(rich, tmp_path):
    simulate(RICH, tmp_path / "two", workers=2)
    for ending in ("", "_labels", "_instances"):
        first, second = (open_image(f / f"rich{ending}.zarr").levels[0].read() for f in (rich, tmp_path / "two"))
        assert first.tobytes() == second.tobytes()
    one, two = (Particles.read(f / "rich_particles.parquet").table for f in (rich, tmp_path / "two"))
    assert one.equals(two)


def test_structures_are_classes_without_particles(rich):
    classes = {c.name: c for c in read_classes(rich / "classes.toml")}
    assert {n: c.kind for n, c in classes.items()} == {
        "ring": "particle",
        "stuck": "particle",
        "vesicle": "structure",
        "gold": "structure",
    }
    particles = Particles.read(rich / "rich_particles.parquet")
    assert particles.counts() == {"ring": 4, "stuck": 2, "vesicle": 0, "gold": 0}
    gold = Particles.read(rich / "rich_gold.parquet")
    labels = Tomogram.open(rich / "rich_labels.zarr").read()
    assert len(gold) == 3
    for z, y, x in np.rint(gold.voxel_positions("rich")).astype(int):
        assert labels[z, y, x] == 4
    assert gold.table["size_voxels"].sum() == (labels == 4).sum()
    assert (labels == 3).any()


def test_the_summary_tells_the_snr_that_was_measured(rich):
    (told,) = json.loads((rich / "summary.json").read_text())["tomograms"]
    assert told["particles"] == {"ring": 4, "stuck": 2}
    assert (told["gold"], told["membranes"], told["left_out"]) == (3, 1, {})
    assert told["snr"] == pytest.approx(0.2, rel=0.04)
    assert told["snr_asked"] == 0.2
    labels = Tomogram.open(rich / "rich_labels.zarr").read()
    assert told["filled"] == pytest.approx(np.isin(labels, (1, 2)).mean())
    noise = [t["noise_variance"] for t in told["tilts"]]
    assert max(noise) > 1.05 * min(noise), "as the dose and the ice have it"
    assert [t["tilt"] for t in told["tilts"]] == list(range(-60, 61, 6))


def test_the_mrc_file_is_the_tomogram(rich, in_memory):
    with mrcfile.open(rich / "rich.mrc") as file:
        assert file.data.tobytes() == in_memory.values.tobytes()
        assert float(file.voxel_size.x) == 20.0
        assert file.header.rms == pytest.approx(in_memory.values.std())
    assert mrcfile.validate(rich / "rich.mrc")


def test_the_picture_shows_truth_and_tomogram(rich):
    from matplotlib.image import imread

    pixels = imread(rich / "rich.png")[..., :3]
    vesicle = np.abs(pixels - np.array([0xAA, 0xBB, 0xCC]) / 255).max(axis=-1) < 0.01
    assert vesicle.sum() > 500, "the colour of the membrane"
    assert pixels.std() > 0.1


def test_crowded_scenes_say_what_was_left_out(tmp_path):
    crowded = replace(SMALL.tomograms[0], counts={"ring": 1, "stick": 1}, crowding=0.5)
    simulate(replace(SMALL, tomograms=(crowded,)), tmp_path)
    (told,) = json.loads((tmp_path / "summary.json").read_text())["tomograms"]
    assert sum(told["left_out"].values()) > 0
    assert 0.05 < told["filled"] < 0.5


def test_the_command_takes_a_file_with_maps_beside_it(tmp_path, blobs, capsys):
    (tmp_path / "maps").symlink_to(blobs.parent)
    (tmp_path / "scene.toml").write_text(
        """
        voxel_size = 20.0
        [[species]]
        name = "blob"
        label = 1
        map = "maps/blobs.mrc"
        [[tomogram]]
        name = "t"
        seed = 1
        shape = [24, 32, 32]
        counts = { blob = 3 }
        imaging = { tilt_step = 20.0 }
        """
    )
    assert main(["simulate", str(tmp_path / "scene.toml"), "-o", str(tmp_path / "out"), "--seed", "8", "-q"]) == 0
    assert Tomogram.open(tmp_path / "out" / "t.zarr").source["simulation"]["seed"] == 8
    (blob,) = read_classes(tmp_path / "out" / "classes.toml")
    assert 30 < blob.radius < 60
    capsys.readouterr()
    assert main(["simulate", str(tmp_path / "scene.toml"), "-o", str(tmp_path / "out")]) == 2
    assert "overwrite" in capsys.readouterr().err


def test_a_failure_leaves_nothing_that_looks_whole(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(job._ReconstructSlab, "__call__", broken)
    with pytest.raises(OSError, match="No space"):
        simulate(SMALL, tmp_path / "x")
    monkeypatch.undo()
    assert not list((tmp_path / "x").glob(".*"))
    assert not (tmp_path / "x" / "one_particles.parquet").exists()
    simulate(SMALL, tmp_path / "x")  # replaces what was left without being told to
    assert Tomogram.open(tmp_path / "x" / "one.zarr").shape == (32, 48, 40)


def test_two_at_once_in_one_folder_are_refused(tmp_path):
    with hold(tmp_path / ".busy.lock", "x"), pytest.raises(InputError, match="another process is at work"):
        simulate(SMALL, tmp_path / "busy")


def test_a_gpu_that_is_not_there_is_missed(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SettingsError, match="use --device cpu"):
        simulate(SMALL, tmp_path, device="cuda")
    with pytest.raises(SettingsError, match="expected device cpu or cuda"):
        SimulateSettings(device="tpu")
