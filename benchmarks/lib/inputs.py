"""Tomograms of noise and networks with random weights: what the cost of segmenting does not depend on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deepfinder_dask.blocks import BlockGrid, Shape3, triple
from deepfinder_dask.tomograms import create_image, finish_image
from deepfinder_dask.tomograms.statistics import statistics_of

VOXEL_SIZE = 10.0
"""Å per voxel of all of them."""


def parse_shape(text: str) -> Shape3:
    """Voxels z, y, x from ``160,256,256``."""
    z, y, x = (int(n) for n in text.split(","))
    return z, y, x


def make_tomogram(path: Path, shape: Shape3, seed: int = 0) -> None:
    """Store a tomogram of noise, made block by block, (z, y, x) float32 at 10 Å per voxel, with its statistics."""
    volume = create_image(path, shape=shape, dtype="float32", voxel_size=VOXEL_SIZE)
    for number, block in enumerate(BlockGrid(shape, triple(volume.write_unit))):
        rng = np.random.default_rng([seed, number])
        volume.write(block.write, rng.standard_normal(block.write.shape, dtype=np.float32))
    finish_image(path, {"statistics": statistics_of(volume).to_dict()})


def make_weights(path: Path, classes: int, seed: int = 0) -> None:
    """Store a network with random weights and biases; ``classes`` count the background."""
    import torch

    from deepfinder_dask.networks import UNet, Weights, save_weights
    from deepfinder_dask.particles import placeholder_classes

    torch.manual_seed(seed)
    network = UNet(classes)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    save_weights(Weights(network.state_dict(), placeholder_classes(range(1, classes)), voxel_size=VOXEL_SIZE), path)
