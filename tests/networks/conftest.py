"""Networks with random weights and biases: zero biases would hide mistakes at borders."""

from __future__ import annotations

import pytest
import torch

from deepfinder_dask.networks import UNet, Weights
from deepfinder_dask.particles import ParticleClass


@pytest.fixture(scope="session")
def random_network() -> UNet:
    torch.manual_seed(20)
    network = UNet(4).eval().requires_grad_(False)
    for name, values in network.named_parameters():
        if name.endswith("bias"):
            values.normal_(std=0.1)
    return network


@pytest.fixture(scope="session")
def random_weights(random_network) -> Weights:
    classes = tuple(ParticleClass(f"class {label}", label) for label in (1, 2, 3))
    return Weights(random_network.state_dict(), classes, voxel_size=10.0)
