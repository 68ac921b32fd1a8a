"""``deepfinder target``: from a table to a label map and its picture, and back through ``cluster`` and ``evaluate``."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.image
import mrcfile
import numpy as np
import pytest

from deepfinder_dask.blocks import Box
from deepfinder_dask.cli import main
from deepfinder_dask.particles import ParticleClass, Particles, TomogramFacts, write_classes
from deepfinder_dask.targets import Target
from deepfinder_dask.tomograms import create_image, finish_image

SHAPE = (32, 40, 48)
CLASSES = (
    ParticleClass("ribosome", 1, radius=80.0),
    ParticleClass("proteasome", 2, radius=40.0),
    ParticleClass("membrane", 3, kind="structure"),
)
CENTRES = [(12.0, 12.5, 12.0), (16.0, 28.0, 34.0), (14.0, 20.0, 40.0)]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """TS_01.zarr, particles.parquet of two tomograms, classes.toml and membranes.mrc."""
    monkeypatch.chdir(tmp_path)
    volume = create_image("TS_01.zarr", shape=SHAPE, dtype="float32", voxel_size=10.0)
    volume.write(Box.whole(SHAPE), np.random.default_rng(1).normal(size=SHAPE).astype(np.float32))
    finish_image("TS_01.zarr")
    tables = [
        Particles.from_voxels(
            np.array(CENTRES) + shift,
            tomogram=name,
            facts=TomogramFacts(10.0, SHAPE),
            labels=[1, 2, 2],
            classes=CLASSES,
        )
        for name, shift in (("TS_01", 0.0), ("TS_02", 1.0))
    ]
    Particles.concat(tables).write("particles.parquet")
    write_classes(CLASSES, "classes.toml")
    values = np.zeros(SHAPE, np.int8)
    values[:, 30:33] = 1
    with mrcfile.new("membranes.mrc") as file:
        file.set_data(values)
        file.voxel_size = 10.0
    return tmp_path


COMMAND = ["target", "particles.parquet", "--tomogram", "TS_01.zarr", "--classes", "classes.toml", "-o", "T.zarr"]


def test_particles_become_a_target_and_come_back(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMMAND, "--add", "membranes.mrc=membrane", "--ignore-shell", "20", "-b", "16,20,24"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.startswith("drew 3 particles (1 ribosome, 2 proteasome) and membrane → T.zarr, T.png; ")
    assert "voxels claimed twice (proteasome over membrane" in captured.out
    assert captured.out.count("\n") == 1
    made = Target.open("T.zarr")
    labels = made.label_map.read()
    assert set(np.unique(labels)) == {0, 1, 2, 3, 255}
    picture = matplotlib.image.imread("T.png")[..., :3]
    for colour in ("#4e79a7", "#f28e2b", "#59a14f"):  # the classes, over white and grey
        rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        direction = rgb - rgb.mean()
        seen = picture - picture.mean(axis=2, keepdims=True)
        norm = np.linalg.norm(seen, axis=2)
        alike = (seen @ direction) / (norm * np.linalg.norm(direction) + 1e-9)
        assert ((alike > 0.99) & (norm > 0.1)).sum() > 200
    assert main(["cluster", "T.zarr", "-o", "back.parquet", "-q"]) == 0
    Particles.read("particles.parquet").of_tomogram("TS_01").write("truth.parquet")
    assert main(["evaluate", "truth.parquet", "back.parquet", "--tolerance", "0.5vox", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["overall"]["f1"] == 1


def test_bad_input_is_one_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMMAND, "--name", "TS_07"]) == 2
    assert capsys.readouterr().err == (
        "error: no tomogram 'TS_07' in particles.parquet, which has TS_01, TS_02: say which it is with --name NAME\n"
    )
    assert main([*COMMAND, "--add", "membranes.mrc=5"]) == 2
    assert "label 5 belongs to none of the classes" in capsys.readouterr().err
    assert not Path("T.zarr").exists()
    assert main([*COMMAND, "--no-picture", "-q"]) == 0
    assert not Path("T.png").exists()
    capsys.readouterr()
    assert main(COMMAND) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main([*COMMAND, "--overwrite", "-q"]) == 0
    assert capsys.readouterr() == ("", "")


def test_workers_draw_the_same(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMMAND, "-q"]) == 0
    assert main([*COMMAND[:-1], "U.zarr", "-j", "2", "-b", "16", "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    one, two = (Target.open(path).label_map.read() for path in ("T.zarr", "U.zarr"))
    np.testing.assert_array_equal(one, two)
