"""A campaign of tiny tomograms: noise, a random network, components; no pictures, which take longest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

TOML = """\
name = "tiny"
output = "out"
weights = "w.safetensors"
tomograms = ["*.mrc"]

[cluster]
method = "components"

[export]
files = ["particles.star"]
pictures = false

[limits]
free_disk = 0
backoff = 0.01
"""


def write_noise(path: Path, seed: int, shape: tuple[int, int, int] = (16, 20, 24)) -> None:
    """An MRC file of noise, 10 Å a voxel."""
    import mrcfile

    with mrcfile.new(path, overwrite=True) as stream:
        stream.set_data(np.random.default_rng(seed).normal(size=shape).astype(np.float32))
        stream.voxel_size = 10.0


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a random network with two classes."""
    import torch

    from deepfinder_dask.networks import UNet, Weights, save_weights
    from deepfinder_dask.particles import ParticleClass

    torch.manual_seed(4)
    network = UNet(3)
    for name, values in network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(values, std=0.2)
    classes = (ParticleClass("ring", 1, radius=40.0), ParticleClass("rod", 2, radius=60.0))
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_weights(Weights(state=network.state_dict(), classes=classes, voxel_size=10.0), path)
    return path


@pytest.fixture
def campaign(tmp_path: Path, tiny_weights: Path) -> Callable[..., Path]:
    """Make a campaign of some tomograms, and give its file."""

    def make(tomograms: int = 2, extra: str = "", **replaced: str) -> Path:
        (tmp_path / "w.safetensors").write_bytes(tiny_weights.read_bytes())
        for number in range(tomograms):
            if not (tmp_path / f"t{number}.mrc").exists():
                write_noise(tmp_path / f"t{number}.mrc", number, (16, 20 + 4 * (number % 3), 24))
        text = TOML + extra
        for before, after in replaced.items():
            text = text.replace(before, after)
        file = tmp_path / "c.toml"
        file.write_text(text)
        return file

    return make


@pytest.fixture(name="write_noise")
def noise_writer() -> Callable[..., None]:
    """Write an MRC file of noise: path, seed, shape."""
    return write_noise
