"""A segmentation by jobs of a real SLURM whose workers leave in the middle of it: the bytes of one process."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deepfinder_dask.blocks import Box
from deepfinder_dask.execution.clusters import keeping, open_workforce
from deepfinder_dask.networks import UNet, Weights
from deepfinder_dask.particles import ParticleClass
from deepfinder_dask.segmentation import segment
from deepfinder_dask.tomograms import create_image, finish_image

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SHAPE = (32, 128, 128)


@pytest.fixture
def weights():
    torch.manual_seed(4)
    network = UNet(2)
    for name, values in network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(values, std=0.2)
    return Weights(state=network.state_dict(), classes=(ParticleClass("ring", 1, radius=40.0),), voxel_size=10.0)


@pytest.fixture
def tomogram(tmp_path):
    path = tmp_path / "tomogram.zarr"
    volume = create_image(path, shape=SHAPE, dtype="float32", voxel_size=10.0, chunk=16, shard=None, overwrite=True)
    volume.write(Box.whole(SHAPE), np.random.default_rng(1).normal(5.0, 3.0, SHAPE).astype(np.float32))
    finish_image(path, {})
    return path


def test_jobs_that_come_and_go_leave_the_bytes_of_one_process(slurm, tomogram, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(keeping, "LOOK_EVERY", 0.5)
    alone = segment(tomogram, weights, tmp_path / "alone.zarr", block=(32, 16, 16), precision="fp32")
    table = {
        "kind": "slurm",
        "cores": 1,
        "memory": "3GiB",
        "walltime": "00:20:00",
        "lifetime": "00:00:15",
        "stagger": "00:00:03",
        "jobs": 2,
        "interface": "lo",
        "log_folder": str(tmp_path / "log"),
        "local_folder": str(tmp_path / "dask"),
    }
    with open_workforce(table) as executor:
        jobs = segment(
            tomogram, weights, tmp_path / "jobs.zarr", block=(32, 16, 16), precision="fp32", executor=executor
        )
    assert len(list((tmp_path / "log").glob("*.out"))) > 2
    for name in ("label_map", "probability_map"):
        expected = getattr(alone, name).read()
        assert np.unique(expected).size > 1
        assert np.array_equal(getattr(jobs, name).read(), expected)
