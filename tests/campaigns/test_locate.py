"""``locate`` on tomograms with known particles: found, the same for any blocks and workers, safe to interrupt."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import zarr

from deepfinder_dask import tomograms
from deepfinder_dask.campaigns import locate
from deepfinder_dask.campaigns.locating import verb
from deepfinder_dask.errors import FormatError, InputError, OutputExistsError, SettingsError
from deepfinder_dask.evaluation import evaluate
from deepfinder_dask.execution import hold
from deepfinder_dask.networks import import_keras_weights
from deepfinder_dask.particles import ParticleClass, Particles, read_particles
from deepfinder_dask.tomograms import Tomogram, convert


@pytest.fixture(scope="session")
def golden(data_dir, tmp_path_factory):
    """The original's weights, with the radii of the balls they find, and its tomogram."""
    folder = data_dir / "original_deepfinder"
    classes = (ParticleClass("small", 1, radius=40.0), ParticleClass("large", 2, radius=70.0))
    return folder, import_keras_weights(folder / "weights_3_classes.h5").with_classes(classes)


@pytest.fixture(scope="session")
def whole(golden, tmp_path_factory):
    """Located with one block for the whole volume."""
    folder, weights = golden
    return locate(folder / "tomogram.mrc", weights, tmp_path_factory.mktemp("whole") / "out", block=(100, 140, 160))


def test_the_objects_of_the_original_are_found(golden, whole):
    folder, weights = golden
    truth = read_particles(folder / "tomogram_objects.xml", voxel_size=10.0)
    truth = Particles(
        truth.table.assign(**{"class": truth.table["label"].map({1: "small", 2: "large"})}),
        truth.tomograms,
        weights.classes,
    )
    result = evaluate(truth, whole.particles, tolerance="1r").to_dict()
    assert result["localisation"]["true"] == 60
    assert result["localisation"]["f1"] >= 0.95
    assert result["overall"]["f1"] >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"block": (96, 96, 96)}, {"block": (96, 96, 96), "workers": 2}, {}])
def test_blocks_and_workers_give_the_same_table(golden, whole, tmp_path, options):
    folder, weights = golden
    found = locate(folder / "tomogram.mrc", weights, tmp_path / "out", **options)
    pd.testing.assert_frame_equal(found.particles.table, whole.particles.table, check_exact=True)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [None, 2])
def test_small_blocks_give_the_same_table(golden, whole, tmp_path, workers):
    folder, weights = golden
    found = locate(folder / "tomogram.mrc", weights, tmp_path / "out", block=(48, 48, 48), workers=workers)
    pd.testing.assert_frame_equal(found.particles.table, whole.particles.table, check_exact=True)
    assert np.array_equal(found.segmentation.label_map.read(), whole.segmentation.label_map.read())


def test_the_folder_holds_what_it_promises(whole):
    out = whole.folder
    assert sorted(p.name for p in out.iterdir()) == [
        "copick",
        "distributions.png",
        "optimisation_set.star",
        "particles.csv",
        "particles.parquet",
        "particles.star",
        "particles.xml",
        "projection.png",
        "segmentation.zarr",
        "slices.png",
        "summary.json",
        "tomogram.zarr",
    ]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["particles"] == len(whole.particles) == len(Particles.read(out / "particles.parquet"))
    assert summary["tomogram"]["voxel_size"] == [10.0, 10.0, 10.0]
    assert sum(one["found"] for one in summary["classes"].values()) == summary["particles"]
    assert Tomogram.open(out / "tomogram.zarr").shape == (100, 140, 160)
    table = whole.particles.table
    assert table["score"].between(0.5, 1).all()
    assert set(table["tomogram"]) == {"tomogram"}
    assert [note.split(":")[0] for note in summary["notes"]] == ["tomogram 'tomogram'"]
    assert "unbinned" in summary["notes"][0]  # the centre of RELION hangs on that size


@pytest.mark.parametrize("name", ["particles.csv", "particles.xml", "particles.star", "copick"])
def test_every_export_lands_where_the_table_says(whole, name):
    facts = whole.particles.tomograms["tomogram"]
    back = read_particles(whole.folder / name, voxel_size=10.0, shape=facts.shape, binning=1.0)

    def positions(particles):
        rows = particles.table[["x", "y", "z"]].to_numpy()
        return rows[np.lexsort(rows.T)]

    assert np.abs(positions(back) - positions(whole.particles)).max() < 1e-2  # Å, a thousandth of a voxel


def small_mrc(path, shape=(40, 44, 48)):
    import mrcfile

    noise = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    grid = np.indices(shape).reshape(3, -1).T
    for centre in ((12, 12, 12), (28, 30, 34)):
        noise.reshape(-1)[((grid - centre) ** 2).sum(1) < 36] -= 4
    with mrcfile.new(path) as stream:
        stream.set_data(noise)
        stream.voxel_size = 10.0


@pytest.mark.slow
def test_killed_and_run_again_it_ends_the_same(golden, tmp_path):
    """SIGKILL at different times from outside; the same command then gives the undisturbed table."""
    from deepfinder_dask.networks import save_weights

    _, weights = golden
    save_weights(weights, tmp_path / "w.safetensors")
    small_mrc(tmp_path / "t.mrc")
    undisturbed = locate(tmp_path / "t.mrc", tmp_path / "w.safetensors", tmp_path / "reference")
    assert len(undisturbed.particles) >= 2
    out = tmp_path / "out"
    command = [sys.executable, "-m", "deepfinder_dask", "locate", str(tmp_path / "t.mrc")]
    command += ["-w", str(tmp_path / "w.safetensors"), "-o", str(out)]

    def reached():
        return (
            out.exists(),
            (out / "tomogram.zarr" / "zarr.json").exists(),
            (out / "segmentation.zarr").exists(),
        )

    for stage in range(3):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            limit = time.monotonic() + 120
            while not reached()[stage] and process.poll() is None and time.monotonic() < limit:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        assert not (out / "summary.json").exists()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found = Particles.read(out / "particles.parquet")
    pd.testing.assert_frame_equal(found.table, undisturbed.particles.table, check_exact=True)
    assert not [p.name for p in out.iterdir() if p.name.startswith(".")]


def test_what_was_assumed_is_said_and_kept(golden, tmp_path, capsys):
    """Weights without radii: components in place of mean-shift, with a note in the summary and under the result."""
    from deepfinder_dask.cli import main
    from deepfinder_dask.networks import save_weights

    weights, out = tmp_path / "w.safetensors", tmp_path / "out"
    save_weights(golden[1].with_classes((ParticleClass("small", 1), ParticleClass("large", 2))), weights)
    small_mrc(tmp_path / "t.mrc")
    with warnings.catch_warnings():
        assert main(["locate", str(tmp_path / "t.mrc"), "-w", str(weights), "-o", str(out)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    done, *notes = said.out.splitlines()
    assert done.startswith("found ")
    assert done.endswith(" s)")
    summary = json.loads((out / "summary.json").read_text())
    assert notes == [f"note: {note}" for note in summary["notes"]]
    assert "no radius is known, so particles are its connected components" in notes[0]
    assert "unbinned" in notes[1]


def test_two_at_once_never_work_in_one_folder(golden, tmp_path):
    small_mrc(tmp_path / "t.mrc")
    out = tmp_path / "out"
    with hold(out / ".locate.lock", out), pytest.raises(InputError, match=r"another process is at work in .*out:"):
        locate(tmp_path / "t.mrc", golden[1], out)
    assert not out.exists()


def test_a_kill_before_anything_was_written_is_no_obstacle(golden, tmp_path):
    _, weights = golden
    small_mrc(tmp_path / "t.mrc")
    out = tmp_path / "out"
    out.mkdir()
    (out / "..locate.json.12ab34cd.partial").write_text("{")
    (out / ".locate.lock").touch()
    locate(tmp_path / "t.mrc", weights, out)
    assert not [p.name for p in out.iterdir() if p.name.startswith(".")]


def test_finished_steps_are_kept_only_for_the_same_work(golden, tmp_path):
    _, weights = golden
    small_mrc(tmp_path / "t.mrc")
    out = tmp_path / "out"
    locate(tmp_path / "t.mrc", weights, out)

    def interrupt():
        """Leave what a kill before the summary leaves."""
        state = json.loads((tmp_path / "state.json").read_text())
        (out / "summary.json").unlink()
        (out / ".locate.json").write_text(json.dumps(state))

    from deepfinder_dask.campaigns import LocateSettings
    from deepfinder_dask.campaigns.locating.verb import _origin

    source = str(tmp_path / "t.mrc")
    origin = _origin(source, source, weights, LocateSettings())
    (tmp_path / "state.json").write_text(json.dumps(origin))
    made = (out / "segmentation.zarr" / "zarr.json").stat().st_mtime_ns
    interrupt()
    locate(tmp_path / "t.mrc", weights, out)
    assert (out / "segmentation.zarr" / "zarr.json").stat().st_mtime_ns == made
    interrupt()
    os.utime(tmp_path / "t.mrc")  # another file, as far as anyone can tell
    locate(tmp_path / "t.mrc", weights, out)
    assert (out / "segmentation.zarr" / "zarr.json").stat().st_mtime_ns != made


def test_results_and_foreign_files_are_safe(golden, tmp_path):
    _, weights = golden
    small_mrc(tmp_path / "t.mrc")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(OutputExistsError, match="holds other files"):
            locate(tmp_path / "t.mrc", weights, mine, overwrite=overwrite)
    assert [p.name for p in mine.iterdir()] == ["thesis.tex"]
    out = tmp_path / "out"
    locate(tmp_path / "t.mrc", weights, out)
    with pytest.raises(OutputExistsError, match="pass --overwrite"):
        locate(tmp_path / "t.mrc", weights, out)
    locate(tmp_path / "t.mrc", weights, out, overwrite=True)


@pytest.fixture(scope="session")
def finished_once(golden, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    small_mrc(folder / "t.mrc")
    locate(folder / "t.mrc", golden[1], folder / "out")
    return folder


@pytest.fixture
def results(finished_once, tmp_path):
    """Results of a small tomogram, ``t.mrc`` beside them."""
    shutil.copytree(finished_once, tmp_path, dirs_exist_ok=True)
    return tmp_path / "out"


def blind(weights):
    """Weights that find nothing."""
    bias = weights.state["convs.classify.bias"].clone()
    bias[0] = 1e3
    return replace(weights, state={**weights.state, "convs.classify.bias": bias})


@pytest.mark.parametrize("finished", [True, False])
def test_steps_of_other_work_are_never_kept(golden, results, tmp_path, monkeypatch, finished):
    """A folder with results, or half results, of other weights: begun anew, interrupted, and run again."""
    _, weights = golden
    out = results
    assert len(Particles.read(out / "particles.parquet")) >= 2
    picks = out / "copick" / "ExperimentRuns" / "t" / "Picks"
    (picks / "deepfinder_0_of-another-class.json").touch()
    if not finished:
        (out / "summary.json").unlink()
        (out / ".locate.json").write_text("{}")

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tomograms, "convert", interrupted)
        with pytest.raises(KeyboardInterrupt):
            locate(tmp_path / "t.mrc", blind(weights), out, overwrite=finished)
    assert len(locate(tmp_path / "t.mrc", blind(weights), out).particles) == 0
    assert sorted(p.name for p in picks.iterdir()) == ["deepfinder_0_large.json", "deepfinder_0_small.json"]


def test_a_folder_stays_usable_after_a_failure_in_it(golden, results, tmp_path):
    _, weights = golden
    (tmp_path / "broken.mrc").write_bytes(b"MAP " * 100)
    with pytest.raises(FormatError, match="truncated"):
        locate(tmp_path / "broken.mrc", weights, results, overwrite=True)
    locate(tmp_path / "t.mrc", weights, results)


def test_another_tomogram_at_the_same_url_is_other_work(golden, tmp_path):
    url = "memory://campaigns/t.zarr"
    origins = []
    for shape in ((40, 44, 48), (44, 40, 48)):
        small_mrc(tmp_path / f"{shape[0]}.mrc", shape)
        convert(tmp_path / f"{shape[0]}.mrc", url, overwrite=True)
        origins.append([verb._origin(url, url, golden[1], verb.LocateSettings()) for _ in range(2)])
    assert origins[0][0] == origins[0][1]
    assert origins[0][0] != origins[1][0]


def test_half_files_of_others_are_safe(golden, tmp_path):
    _, weights = golden
    small_mrc(tmp_path / "t.mrc")
    mine = tmp_path / "mine" / ".download.partial"
    mine.parent.mkdir()
    mine.write_text("half a movie")
    with pytest.raises(OutputExistsError, match="holds other files"):
        locate(tmp_path / "t.mrc", weights, mine.parent)
    assert mine.read_text() == "half a movie"


def test_a_tomogram_in_the_output_folder_is_safe(golden, results):
    _, weights = golden
    with pytest.raises(SettingsError, match="lies in the output folder"):
        locate(results / "tomogram.zarr", weights, results, overwrite=True)
    assert (results / "summary.json").exists()
    assert Tomogram.open(results / "tomogram.zarr").shape == (40, 44, 48)


def test_a_dataset_of_an_hdf5_file_is_located(golden, tmp_path):
    import h5py
    import mrcfile

    _, weights = golden
    small_mrc(tmp_path / "t.mrc")
    with h5py.File(tmp_path / "t.h5", "w") as stream, mrcfile.open(tmp_path / "t.mrc") as tomogram:
        stream["a/first"] = stream["a/second"] = tomogram.data
    found = locate(f"{tmp_path / 't.h5'}:/a/second", weights, tmp_path / "out", voxel_size=10.0)
    assert len(found.particles) >= 2
    assert found.summary["tomogram"]["name"] == "t"


def test_an_output_that_is_a_url_is_refused(golden, tmp_path):
    _, weights = golden
    small_mrc(tmp_path / "t.mrc")
    with pytest.raises(SettingsError, match="local folder"):
        locate(tmp_path / "t.mrc", weights, "s3://bucket/out")


def test_bad_input_leaves_no_folder(golden, tmp_path):
    _, weights = golden
    with pytest.raises(InputError, match="no such file"):
        locate(tmp_path / "none.mrc", weights, tmp_path / "out")
    with pytest.raises(SettingsError, match="multiples of 4"):
        locate(tmp_path / "none.mrc", weights, tmp_path / "out", block=(10, 10, 10))
    (tmp_path / "broken.mrc").write_bytes(b"MAP " * 100)
    with pytest.raises(FormatError, match="truncated"):
        locate(tmp_path / "broken.mrc", weights, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_inside_a_mask_and_a_border_only(golden, whole, tmp_path):
    """The mask reaches segment and cluster: labels and particles are those of the whole, where the region is."""
    folder, weights = golden
    mask = np.zeros((100, 140, 160), np.uint8)
    mask[:, 20:80, 96:] = 1
    zarr.create_array(tmp_path / "mask.zarr", data=mask, chunks=(50, 70, 80))
    mask[:4], mask[-4:], mask[:, :, -4:] = 0, 0, 0
    options = {"mask": str(tmp_path / "mask.zarr"), "border": 40.0, "block": (96, 96, 96)}
    found = locate(folder / "tomogram.mrc", weights, tmp_path / "out", **options)
    labels = whole.segmentation.label_map.read()
    assert np.array_equal(found.segmentation.label_map.read(), labels * mask)
    assert 0 < len(found.particles) < len(whole.particles)
    assert found.summary["settings"]["border"] == 40.0
    with pytest.raises(SettingsError, match="lies in the output folder"):
        locate(folder / "tomogram.mrc", weights, tmp_path, mask=str(tmp_path / "mask.zarr"))


def test_settings_of_clustering_are_refused_before_anything_is_segmented(golden, tmp_path):
    small_mrc(tmp_path / "t.mrc")
    for options in ({"min_size": {"typo": 5}}, {"min_distance": "1r"}, {"split": True}):
        weights = golden[1].with_classes((ParticleClass("small", 1), ParticleClass("large", 2)))
        with pytest.raises(SettingsError):
            locate(tmp_path / "t.mrc", weights, tmp_path / "out", overwrite=True, **options)
        assert not (tmp_path / "out" / "segmentation.zarr").exists()
