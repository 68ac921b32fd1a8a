"""The halo and the regions are exactly what one pass over the whole volume needs."""

from __future__ import annotations

import pytest
import torch

from deepfinder_dask.blocks import Box
from deepfinder_dask.errors import GeometryError
from deepfinder_dask.networks import derive_halo, forward_core, needed_regions, padded_shape
from deepfinder_dask.networks.unet import INPUT, deepfinder_program

SHAPE = (8, 12, 176)
CORE = Box((0, 0, 64), (8, 12, 96))


@pytest.fixture(scope="module")
def volume() -> torch.Tensor:
    return torch.randn(1, 1, *SHAPE, generator=torch.Generator().manual_seed(3))


def cropped(network, volume, low, high, offset=0):
    """Logits of the core from a plain pass over the core with a halo along x."""
    start, stop = CORE.start[2] + offset - low, CORE.stop[2] + offset + high
    with torch.inference_mode():
        return network(volume[..., start:stop])[..., low - offset : low - offset + CORE.shape[2]]


@pytest.fixture(scope="module")
def whole(random_network, volume):
    with torch.inference_mode():
        return random_network(volume)[(..., *CORE.slices())]


def test_halo_follows_from_the_steps():
    assert derive_halo(deepfinder_program(5)) == (32, 36)


def test_a_block_with_the_halo_equals_the_whole_volume(random_network, volume, whole):
    assert torch.equal(cropped(random_network, volume, 32, 36), whole)


@pytest.mark.parametrize(("low", "high", "offset"), [(28, 36, 0), (32, 32, 0), (36, 40, 2)])
def test_less_halo_or_another_origin_does_not(random_network, volume, whole, low, high, offset):
    assert not torch.equal(cropped(random_network, volume, low, high, offset), whole)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("start", [0, 4, 62, 63, 144])
def test_regions_give_the_whole_volume_bit_for_bit(random_network, volume, start, threads):
    core = Box((0, 4, start), (6, 12, start + 32))
    read = needed_regions(random_network.program, core, SHAPE)[INPUT]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            part = forward_core(random_network, volume[(..., *read.slices())], read, core, SHAPE)
            assert torch.equal(part, random_network(volume)[(..., *core.slices())])
    finally:
        torch.set_num_threads(before)


def test_regions_hold_no_voxel_too_many(random_network, volume):
    """Each border voxel of the region matters; none outside does."""
    core = Box((0, 0, 64), (8, 12, 68))
    read = needed_regions(random_network.program, core, SHAPE)[INPUT]

    def changes(x):
        shaken = volume.clone()
        shaken[..., x] += 100.0
        with torch.inference_mode():
            return not torch.equal(random_network(shaken)[(..., *core.slices())], reference)

    with torch.inference_mode():
        reference = random_network(volume)[(..., *core.slices())]
    assert changes(read.start[2])
    assert changes(read.stop[2] - 1)
    assert not changes(read.start[2] - 1)
    assert not changes(read.stop[2])


def test_missing_voxels_are_refused(random_network, volume):
    core = Box((0, 0, 64), (8, 12, 96))
    read = Box((0, 0, 36), (8, 12, 132))
    with pytest.raises(GeometryError, match="needs voxels"):
        forward_core(random_network, volume[(..., *read.slices())], read, core, SHAPE)
    with pytest.raises(GeometryError, match="multiples of 4"):
        needed_regions(random_network.program, core, (8, 12, 175))
    with pytest.raises(GeometryError, match="outside"):
        needed_regions(random_network.program, core.shift((0, 0, 90)), SHAPE)


def test_shapes_are_padded_up():
    assert padded_shape((1, 8, 93)) == (4, 8, 96)
