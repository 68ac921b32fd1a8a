"""A small noisy tomogram and a random network: every voxel's label hangs on its whole neighbourhood."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deepfinder_dask.blocks import Box
from deepfinder_dask.networks import UNet, Weights
from deepfinder_dask.particles import ParticleClass
from deepfinder_dask.tomograms import Imaging, Tomogram, create_image, finish_image
from deepfinder_dask.tomograms.statistics import statistics_of


@pytest.fixture(scope="session")
def weights() -> Weights:
    torch.manual_seed(4)
    network = UNet(3)
    for name, values in network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(values, std=0.2)
    classes = (ParticleClass("ring", 1, radius=40.0), ParticleClass("membrane", 2, kind="structure"))
    return Weights(state=network.state_dict(), classes=classes, voxel_size=10.0)


@pytest.fixture
def make_tomogram(tmp_path):
    """Write a tomogram of noise and give its handle."""

    def make(
        shape, *, voxel_size=10.0, imaging: Imaging | None = None, values=None, chunk=16, name="tomo", statistics=False
    ) -> Tomogram:
        path = tmp_path / f"{name}.zarr"
        volume = create_image(
            path, shape=shape, dtype="float32", voxel_size=voxel_size, chunk=chunk, shard=None, overwrite=True
        )
        noise = np.random.default_rng(1).normal(5.0, 3.0, shape).astype(np.float32)
        volume.write(Box.whole(shape), noise if values is None else values)
        facts = {} if imaging is None else {"imaging": imaging.to_dict()}
        if statistics:
            facts["statistics"] = statistics_of(volume).to_dict()
        finish_image(path, facts)
        return Tomogram.open(path)

    return make
