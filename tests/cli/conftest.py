"""A small tomogram file and weights, for verbs that run for real."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from deepfinder_dask.networks import UNet, Weights, save_weights
from deepfinder_dask.particles import ParticleClass


@pytest.fixture(scope="session")
def mrc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TS_01.mrc: 24 × 28 × 36 voxels (z, y, x) of 10 Å."""
    path = tmp_path_factory.mktemp("mrc") / "TS_01.mrc"
    values = np.random.default_rng(3).normal(size=(24, 28, 36)).astype(np.float32)
    with mrcfile.new(path) as file:
        file.set_data(values)
        file.voxel_size = 10.0
    return path


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network of two classes: it finds nonsense, but in earnest."""
    torch.manual_seed(4)
    state = {name: values.detach().clone() for name, values in UNet(3).state_dict().items()}
    path = tmp_path_factory.mktemp("weights") / "nonsense.safetensors"
    classes = (ParticleClass("ribosome", 1, radius=40.0), ParticleClass("proteasome", 2, radius=30.0))
    save_weights(Weights(state, classes, voxel_size=10.0), path)
    return path
