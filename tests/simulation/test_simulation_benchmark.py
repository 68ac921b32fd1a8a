"""The benchmark of the simulator runs small, and its scenes are what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deepfinder_dask.simulation import place_scene, read_config

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.slow
def test_the_benchmark_runs_and_says_where(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "simulation.py"), "--shape", "48,96,96", "--particles", "8"]
    command += ["--phantoms", "--folder", str(tmp_path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert (figures["particles"], figures["species"]) == (8, 6)
    assert figures["snr"] == pytest.approx(0.1, rel=0.1)
    assert figures["peak_mib"] > 50
    assert figures["cpu_seconds"] > 0
    assert {"cpu", "torch", "commit"} <= set(figures["machine"])
    assert not any(tmp_path.iterdir())


def test_scenes_for_testing_share_nothing_with_those_for_training(monkeypatch):
    monkeypatch.setenv("DEEPFINDER_DATA", "/data")
    training, test = (read_config(BENCHMARKS / "scenes" / f"accuracy_cpu_{n}.toml") for n in ("training", "test"))
    assert training.species == test.species
    seen = training.tomograms
    for one in test.tomograms:
        assert one.seed not in [t.seed for t in seen]
        assert one.imaging.defocus not in [t.imaging.defocus for t in seen]
    for one in (*seen, *test.tomograms):
        assert one.imaging.snr in (0.1, 0.02)
        assert (one.imaging.tilt_limit, one.imaging.tilt_step) == (60, 3)
        assert all(one.counts[s.name] >= 30 for s in training.species)


@pytest.mark.slow
def test_the_twelve_species_all_fit(data_dir, monkeypatch):
    monkeypatch.setenv("DEEPFINDER_DATA", str(data_dir))
    config = read_config(BENCHMARKS / "scenes" / "twelve_species.toml")
    assert sum(config.tomograms[0].counts.values()) == 1500
    scene = place_scene(config, config.tomograms[0])
    assert len(scene.particles) == 1500
