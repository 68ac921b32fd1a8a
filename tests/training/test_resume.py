"""Runs in real processes: killed from outside and resumed, and shared by two processes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from deepfinder_dask.networks import load_weights
from deepfinder_dask.simulation import SimulationConfig, Species, TiltImaging, TomogramConfig, simulate
from deepfinder_dask.training import train

CONFIG = """
steps = 8
patch_size = 16
batch = 2
shift = 3
check_every = 2
validation_patches = 1
learning_rate = 2e-3
warm_up = 4
background = true
{more}
[[train]]
tomogram = "a.zarr"
target = "a_labels.zarr"
particles = "a_particles.parquet"
[[validation]]
tomogram = "b.zarr"
target = "b_labels.zarr"
particles = "b_particles.parquet"
"""
WITH_ALL = "average = 0.9\nhard_negatives = true\naugment_intensity = 0.2\naugment_amplitudes = 0.2"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    first = TomogramConfig("a", 1, (24, 40, 32), {"ring": 2, "rod": 1}, 20.0, TiltImaging(tilt_step=10.0))
    species = (Species("ring", 1), Species("rod", 2))
    simulate(SimulationConfig(20.0, species, (first, replace(first, name="b", seed=2))), folder)
    (folder / "all.toml").write_text(CONFIG.format(more=WITH_ALL))
    (folder / "plain.toml").write_text(CONFIG.format(more="").replace("steps = 8", "steps = 2"))
    return folder


def log_of(folder):
    path = folder / "log.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def without_times(record):
    return [{key: value for key, value in entry.items() if key != "seconds"} for entry in record]


@pytest.mark.slow
@pytest.mark.timeout(1200)  # three runs, on a machine that may be shared
def test_a_run_killed_at_any_time_goes_on_bit_for_bit(data, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(data / "all.toml", whole, threads=2)
    words = [sys.executable, "-m", "deepfinder_dask", "train", str(data / "all.toml"), "-o", str(killed), "--threads=2"]
    after = random.randrange(1, 8)
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while len(log_of_unfinished(killed)) < after:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert len(log_of_unfinished(killed)) < 8
    train(data / "all.toml", killed, resume=True)
    assert without_times(log_of(killed)) == without_times(log_of(whole)), f"killed after step {after}"
    for name in ("best", "last"):
        first, second = (load_weights(folder / f"{name}.safetensors") for folder in (whole, killed))
        assert first.sha256 == second.sha256, f"{name}, killed after step {after}"


def log_of_unfinished(folder):
    """Lines so far; the last may be half written."""
    path = folder / "log.jsonl"
    return path.read_text().split("\n")[:-1] if path.exists() else []


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_processes_learn_what_one_does(data, tmp_path):
    """Each takes half of the batch: the same losses and F1, but for the order of sums in fp32."""
    train(data / "plain.toml", tmp_path / "one", threads=1)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = ["-m", "deepfinder_dask", "train", str(data / "plain.toml"), "-o", str(tmp_path / "two"), "--device=cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launcher, *words], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained") == 1, "only the first process says so"
    one, two = (log_of(tmp_path / name) for name in ("one", "two"))
    assert [e["step"] for e in two] == [1, 2]
    assert two[0]["loss"] == pytest.approx(one[0]["loss"], rel=1e-5)
    for mine, theirs in zip(one, two, strict=True):
        assert theirs["loss"] == pytest.approx(mine["loss"], rel=1e-3)
    first, second = (load_weights(tmp_path / name / "last.safetensors").state for name in ("one", "two"))
    for name, values in first.items():
        assert (values - second[name]).abs().max() < 1e-3
