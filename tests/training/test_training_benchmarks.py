"""The benchmarks of training run, tiny, and do nothing twice."""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from deepfinder_dask.networks import load_weights
from deepfinder_dask.particles import Particles
from deepfinder_dask.tomograms import Tomogram

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def printed(script: str, *words: str) -> str:
    command = [sys.executable, str(BENCHMARKS / script), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def ablation():
    """The script as a module."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import ablation

        yield ablation
    finally:
        sys.path.remove(str(BENCHMARKS))
        for name in [name for name in sys.modules if name in ("ablation", "lib") or name.startswith("lib.")]:
            del sys.modules[name]


@pytest.mark.slow
def test_an_option_is_compared_with_the_plain_training(ablation, tmp_path):
    same = {"size": "tiny", "seed": 1, "folder": tmp_path, "device": "cpu", "threads": 1, "json": True}
    first = ablation.run(Namespace(option=["none", "mean-std"], show=False, **same))
    assert set(first["options"]) == {"none", "mean-std"}
    assert set(first["options"]["none"]) == {"test", "test_spoilt", "seconds"}
    weights = [
        load_weights(tmp_path / "networks" / name / "run" / "best.safetensors") for name in ("none_1", "mean-std_1")
    ]
    assert [w.normalisation.name for w in weights] == ["robust", "mean-std"]
    logs = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("log.jsonl")}
    again = ablation.run(Namespace(option=[], show=True, **same))
    assert again["options"] == first["options"]
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("log.jsonl")} == logs
    plain, spoilt = (Tomogram.open(tmp_path / "scenes" / "test" / f"{n}.zarr") for n in ("test", "test_spoilt"))
    assert spoilt.statistics.std > 1.5 * plain.statistics.std, "gold decides plain statistics"
    assert spoilt.statistics.robust.std == pytest.approx(plain.statistics.robust.std, rel=0.15)
    edge = plain.shape[1] // 4
    assert (spoilt.read()[:, :edge] == 0).all()
    assert np.mean(spoilt.read()[:, edge:] == plain.read()[:, edge:]) > 0.9
    truth = Particles.read(tmp_path / "scenes" / "test" / "test_spoilt_particles.parquet").of_tomogram("test_spoilt")
    assert (truth.positions()[:, 1] / plain.voxel_size[1] >= edge).all()


@pytest.mark.slow
def test_steps_of_a_training_are_timed_beside_bare_ones():
    words = ["--patch", "16", "--batch", "2", "--steps", "2", "--shape", "32,32,32", "--tomograms", "1,2"]
    lines = printed("training.py", *words).splitlines()
    rows = [line.split() for line in lines if " bare " in line or " training " in line]
    assert [(row[0], row[1]) for row in rows if row[0].isdigit()] == [
        ("1", "bare"),
        ("1", "training"),
        ("2", "bare"),
        ("2", "training"),
    ]
    for row in rows:
        if row[0].isdigit():
            assert float(row[2]) > 0
            assert float(row[3]) > 0
