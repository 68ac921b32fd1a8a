"""Every verb run for real on a small tomogram, with what the next one needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deepfinder_dask.cli import main
from deepfinder_dask.particles import Particles
from deepfinder_dask.tomograms import Tomogram, open_image


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def _restore() -> object:
    import warnings

    from deepfinder_dask.execution import silence

    with warnings.catch_warnings():
        yield
    silence(False)


def run(*words: object, capsys: pytest.CaptureFixture[str]) -> str:
    """Standard output of a command that must succeed and say nothing else."""
    assert main([str(word) for word in words]) == 0, capsys.readouterr().err
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_one_step_after_the_other(here: Path, mrc: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """convert, info, segment, cluster, export, import, evaluate: each takes what the one before left."""
    said = run("convert", mrc, "-o", "TS_01.zarr", capsys=capsys)
    assert "24 × 28 × 36 voxels of 10 Å" in said
    assert said.count("\n") == 1

    facts = json.loads(run("info", "TS_01.zarr", "--json", capsys=capsys))
    assert facts["shape"] == [24, 28, 36]
    assert facts["voxel_size"] == [10, 10, 10]
    assert "24 × 28 × 36" in run("info", "TS_01.zarr", capsys=capsys)

    run("segment", "TS_01.zarr", "-w", weights, "-o", "seg.zarr", "-b", "24,28,20", "--memory", "2GiB", capsys=capsys)
    labels = open_image("seg.zarr/labels").levels[0].read()
    assert labels.shape == (24, 28, 36)
    assert set(np.unique(labels)) <= {0, 1, 2}

    said = run("cluster", "seg.zarr", "-o", "found.parquet", capsys=capsys)
    found = Particles.read("found.parquet")
    assert f"found {len(found)} particles" in said
    assert len(found) > 0

    run("export", "found.parquet", "-o", "found.xml", capsys=capsys)
    said = run("import", "found.xml", "-v", "10", "-o", "back.parquet", capsys=capsys)
    assert f"imported {len(found)} particles" in said
    np.testing.assert_allclose(Particles.read("back.parquet").positions(), found.positions(), atol=0.01)

    scores = json.loads(run("evaluate", "found.parquet", "found.parquet", "--json", capsys=capsys))
    assert scores["overall"]["f1"] == 1
    assert set(scores) >= {"localisation", "overall", "classes"}
    assert set(scores["overall"]) >= {"precision", "recall", "f1", "true", "found", "matched"}
    table = run("evaluate", "found.parquet", "found.parquet", capsys=capsys)
    assert "ribosome" in table
    assert "1.000" in table


def test_many_sources_go_to_a_folder(here: Path, mrc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "raw").mkdir()
    for name in ("a.mrc", "b.rec"):
        (here / "raw" / name).write_bytes(mrc.read_bytes())
    assert "converted 2 tomograms" in run("convert", "raw", "-o", "converted", capsys=capsys)
    assert sorted(p.name for p in (here / "converted").iterdir()) == ["a.zarr", "b.zarr"]
    (here / "raw" / "c.mrc").write_bytes(b"soup")
    assert main(["convert", "raw/a.mrc", "raw/c.mrc", "-o", "more"]) == 1, "done in part"
    captured = capsys.readouterr()
    assert "c.mrc" in captured.err
    assert captured.err.count("\n") == 1
    assert Tomogram.open("more/a.zarr").shape == (24, 28, 36)


def test_existing_output_needs_overwrite(here: Path, mrc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("convert", mrc, "-o", "a.zarr", "-q", capsys=capsys)
    assert main(["convert", str(mrc), "-o", "a.zarr"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run("convert", mrc, "-o", "a.zarr", "--overwrite", "-q", capsys=capsys) == ""


def test_weights_of_the_original(here: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from deepfinder_dask.networks import load_weights

    old = data_dir / "original_deepfinder" / "weights_3_classes.h5"
    said = run("weights", "import", old, "-o", "new.safetensors", capsys=capsys)
    assert said.startswith("imported weights of 2 classes at 10 Å")
    assert [c.name for c in load_weights("new.safetensors").classes] == ["class_1", "class_2"]


def test_workers_are_quiet(here: Path, mrc: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Dask workers, PyTorch and zarr leave no word on standard error, and the result does not change."""
    run("convert", mrc, "-o", "a.zarr", capsys=capsys)
    segment = ["segment", "a.zarr", "-w", str(weights), "-b", "24,28,20"]
    run(*segment, "-o", "one.zarr", capsys=capsys)
    done = subprocess.run(
        [sys.executable, "-m", "deepfinder_dask", *segment, "-o", "two.zarr", "--workers", "2"],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={k: v for k, v in os.environ.items() if k != "PYTHONWARNINGS"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    one, two = (open_image(f"{name}.zarr/labels").levels[0].read() for name in ("one", "two"))
    np.testing.assert_array_equal(one, two)


def test_an_interrupt_while_the_command_is_loaded_is_one_line():
    code = (
        "import builtins, sys\n"
        "load = builtins.__import__\n"
        "def interrupted(name, *rest):\n"
        "    if name == 'cyclopts': raise KeyboardInterrupt\n"
        "    return load(name, *rest)\n"
        "builtins.__import__ = interrupted\n"
        "from deepfinder_dask.cli import main\n"
        "sys.exit(main(['--help']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "error: interrupted before anything was done\n")


def test_options_work_where_pydantic_is_loaded(tmp_path):
    pytest.importorskip("pydantic")
    code = "import pydantic, sys; from deepfinder_dask.cli import main; sys.exit(main(sys.argv[1:]))"
    words = ["segment", "missing.zarr", "-w", "demo", "-o", "out.zarr"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 2
    assert "missing.zarr" in done.stderr
    assert "validation" not in done.stderr
