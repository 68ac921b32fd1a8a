"""What cannot be trained on, or drawn, is one line that names it; what can be gone on from is kept."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import mrcfile
import numpy as np
import pytest
import zarr

from deepfinder_dask.blocks import Box
from deepfinder_dask.cli import main
from deepfinder_dask.execution import hold
from deepfinder_dask.networks import load_weights
from deepfinder_dask.particles import ParticleClass, Particles, TomogramFacts, write_classes
from deepfinder_dask.targets import Target
from deepfinder_dask.tomograms import create_image, finish_image, statistics_of

SHAPE = (16, 20, 24)
CLASSES = (ParticleClass("ball", 1, radius=30.0), ParticleClass("rod", 2, radius=30.0))
CENTRES = [(5.0, 5.0, 5.0), (10.0, 14.0, 18.0)]
CONFIG = """steps = 3
patch_size = 8
batch = 1
shift = 0
check_every = 3
validation_patches = 2
[[train]]
tomogram = "t.zarr"
target = "target.zarr"
particles = "p.parquet"
[[validation]]
tomogram = "t.zarr"
target = "target.zarr"
particles = "p.parquet"
"""


def table(centres, labels):
    return Particles.from_voxels(
        np.array(centres), tomogram="t", facts=TomogramFacts(10.0), labels=labels, classes=CLASSES
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """t.zarr, target.zarr, p.parquet, classes.toml and c.toml."""
    folder = tmp_path_factory.mktemp("made")
    volume = create_image(folder / "t.zarr", shape=SHAPE, dtype="float32", voxel_size=10.0)
    volume.write(Box.whole(SHAPE), np.random.default_rng(1).normal(size=SHAPE).astype(np.float32))
    finish_image(folder / "t.zarr", {"statistics": statistics_of(volume).to_dict()})
    table(CENTRES, [1, 2]).write(folder / "p.parquet")
    write_classes(CLASSES, folder / "classes.toml")
    (folder / "c.toml").write_text(CONFIG)
    words = ["--tomogram", str(folder / "t.zarr"), "--classes", str(folder / "classes.toml"), "--no-picture"]
    assert main(["target", str(folder / "p.parquet"), *words, "-o", str(folder / "target.zarr")]) == 0
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def said_by(capsys, *words, code=2):
    """The one line of an error."""
    capsys.readouterr()
    assert main(list(words)) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert said.startswith("error: ")
    return said


TRAIN = ["train", "c.toml", "-o", "run", "--threads", "1"]


def outside(here):
    table([*CENTRES, (5.0, 5.0, 24.0)], [1, 2, 2]).write(here / "p.parquet")


def without_positions(here):
    table(CENTRES, [1, 1]).write(here / "p.parquet")


def other_shape(here):
    shutil.rmtree(here / "target.zarr")
    zarr.create_array(here / "target.zarr", data=np.zeros((16, 20, 20), np.uint8))


def other_mask(here):
    zarr.create_array(here / "mask.zarr", data=np.ones((16, 20, 20), np.uint8))
    (here / "c.toml").write_text(CONFIG.replace("[[validation]]", 'mask = "mask.zarr"\n[[validation]]'))


def constant(here):
    shutil.rmtree(here / "t.zarr")
    volume = create_image(here / "t.zarr", shape=SHAPE, dtype="float32", voxel_size=10.0)
    volume.write(Box.whole(SHAPE), np.ones(SHAPE, np.float32))
    finish_image(here / "t.zarr", {})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            outside,
            "a position lies outside its tomogram: row 2 of p.parquet is at voxel [5.0, 5.0, 24.0] of",
        ),
        (without_positions, "class 'rod' has no positions in any training tomogram; add some or drop it"),
        (other_shape, "target and tomogram must have one shape: target.zarr is (16, 20, 20), t.zarr is (16, 20, 24)"),
        (other_mask, "mask.zarr to have the shape (16, 20, 24) (z, y, x) of the tomogram, found (16, 20, 20)"),
        (constant, "t.zarr is constant (1.0): there is nothing to find, and nothing to learn"),
    ],
)
def test_data_that_cannot_be_learnt_from(here, capsys, spoil, message):
    spoil(here)
    assert message in said_by(capsys, *TRAIN)
    assert not (here / "run").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = = 3\n" + CONFIG, "c.toml is no valid TOML: Invalid value (at line 1"),
        (CONFIG + "[[train\n", "c.toml is no valid TOML"),
        (CONFIG.replace("batch = 1", "batch = 0"), "c.toml, line 3: batch must be 1 or more, got 0"),
        ('normalisation = "median"\n' + CONFIG, "line 1: normalisation must be one of mean-std, robust, got 'median'"),
        (CONFIG.replace("t.zarr", "gone.zarr", 1), "gone.zarr"),
        (CONFIG.replace("target.zarr", "gone.zarr", 1), "gone.zarr"),
        (CONFIG.replace("p.parquet", "gone.parquet", 1), "gone.parquet"),
    ],
)
def test_configurations_that_cannot_work(here, capsys, text, message):
    (here / "c.toml").write_text(text)
    assert message in said_by(capsys, *TRAIN)
    assert not (here / "run").exists()


def test_missing_files(here, capsys):
    assert "no training file 'none.toml'; give a TOML file or one of: demo" in said_by(
        capsys, "train", "none.toml", "-o", "run"
    )
    assert "none.safetensors" in said_by(capsys, *TRAIN, "--init", "none.safetensors")
    assert "no such file" in said_by(capsys, *TRAIN, "--resume")
    assert not (here / "run").exists()


def test_a_huge_learning_rate_keeps_the_last_good_weights(here, capsys):
    (here / "c.toml").write_text("learning_rate = 1e30\nwarm_up = 1\n" + CONFIG.replace("steps = 3", "steps = 9"))
    said = said_by(capsys, *TRAIN, code=1)
    assert "training stopped at step" in said
    assert "the last good weights are kept; use a lower learning_rate" in said
    kept = load_weights(here / "run" / "last.safetensors")  # refuses weights that are not finite
    assert kept.provenance["steps_taken"] < 9
    assert main(["train", "c.toml", "-o", "again", "--init", "run/last.safetensors", "--threads", "1"]) in (0, 1)


def test_a_batch_without_one_of_the_classes_has_a_finite_loss(here, capsys):
    """Batches of one patch of 8 voxels: each lacks a class at least."""
    assert main(TRAIN) == 0
    losses = [json.loads(line)["loss"] for line in (here / "run" / "log.jsonl").read_text().splitlines()]
    assert len(losses) == 3
    assert np.isfinite(losses).all()
    assert sorted(p.name for p in (here / "run").glob(".*")) == []


HOLDER = """
import sys, time
from pathlib import Path
from deepfinder_dask.execution import hold
with hold(Path("run/.lock"), "run"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_two_processes_never_train_in_one_folder(here, capsys):
    """Another one holds it; killed, it does so no more."""
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True, cwd=here) as other:
        assert other.stdout.readline() == "held\n"
        for words in ([], ["--overwrite"], ["--resume"]):
            said = said_by(capsys, *TRAIN, *words)
            assert "another process is at work in run: wait until it ends, or choose another output" in said
        assert [p.name for p in (here / "run").iterdir()] == [".lock"]
        other.kill()
    with hold(here / "run" / ".lock", "run"):
        pass


TARGET = ["target", "p.parquet", "--tomogram", "t.zarr", "--classes", "classes.toml", "-o", "new.zarr", "--no-picture"]


def mask(name, shape=(9, 9, 9), voxel_size=10.0):
    values = np.zeros(shape, np.int8)
    values[2:-2, 2:-2, 2:-2] = 1
    with mrcfile.new(name, values) as file:
        file.voxel_size = voxel_size


def test_masks_and_positions_that_cannot_be_drawn(here, capsys):
    mask("flat.mrc", (9, 9, 11))
    said = said_by(capsys, *TARGET, "--shapes", "ball=flat.mrc")
    assert "flat.mrc, must be cubic, so that it can be turned about its centre: found 9 × 9 × 11 voxels" in said
    mask("odd.mrc", voxel_size=0.0)
    said = said_by(capsys, *TARGET, "--shapes", "ball=odd.mrc")
    assert "odd.mrc, does not say its voxel size: give it with --shape-voxel-size" in said
    outside(here)
    assert "a position is outside its tomogram" in said_by(capsys, *TARGET)
    without_positions(here)
    assert "'rod'" in said_by(capsys, *TARGET)
    assert not (here / "new.zarr").exists()


def test_a_mask_of_another_known_voxel_size_is_resampled(here):
    """A cube of 50 Å is 5 voxels of 10 Å an edge, and as many with finer or coarser voxels in its file."""
    angles = Particles.read("p.parquet")
    angles.table[["rot", "tilt", "psi"]] = 0.0
    angles.write("p.parquet")
    counts = {}
    for voxel_size, edge in ((10.0, 9), (5.0, 15), (2.0, 29)):
        values = np.zeros((edge,) * 3, np.int8)
        half = round(25 / voxel_size)
        middle = edge // 2
        inside = slice(middle - half, middle + half + 1) if voxel_size < 10 else slice(middle - 2, middle + 3)
        values[inside, inside, inside] = 1
        with mrcfile.new(f"m{voxel_size:g}.mrc", values) as file:
            file.voxel_size = voxel_size
        words = ["--shapes", f"ball=m{voxel_size:g}.mrc", "--overwrite"]
        assert main([*TARGET, *words]) == 0
        counts[voxel_size] = int((Target.open("new.zarr").label_map.read() == 1).sum())
    assert counts[10.0] == 125
    assert counts[5.0] == pytest.approx(125, rel=0.35)
    assert counts[2.0] == pytest.approx(125, rel=0.35)
