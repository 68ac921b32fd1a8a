"""Projected cost equals what the regions of all blocks add up to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfinder_dask.blocks import BlockGrid
from deepfinder_dask.networks import UNet, needed_regions
from deepfinder_dask.networks.cost import axis_extents, multiply_adds, peak_bytes
from deepfinder_dask.networks.unet import INPUT, deepfinder_program

PROGRAM = deepfinder_program(4)


def test_size_of_the_network_is_that_of_the_paper():
    assert sum(values.numel() for values in UNet(4).parameters()) == 903_060


def test_one_pass_costs_what_design_says():
    voxels = {name: np.array(float(region.size)) for name, region in whole((64, 64, 64)).items()}
    assert multiply_adds(PROGRAM, voxels) / 64**3 == pytest.approx(193e3, rel=0.005)


def whole(shape):
    grid = BlockGrid(shape, shape)
    return needed_regions(PROGRAM, grid[0].write, shape)


@settings(max_examples=15, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 20).map(lambda n: 4 * n)] * 3),
    core=st.tuples(*[st.integers(2, 12).map(lambda n: 4 * n)] * 3),
)
def test_extents_of_axes_multiply_to_the_regions_of_all_blocks(shape, core):
    total = dict.fromkeys([INPUT, *PROGRAM], 0)
    largest = dict.fromkeys([INPUT, *PROGRAM], 0)
    for block in BlockGrid(shape, core):
        for name, region in needed_regions(PROGRAM, block.write, shape).items():
            total[name] += region.size
            largest[name] = max(largest[name], region.size)
    axes = [axis_extents(4, n, c) for n, c in zip(shape, core, strict=True)]
    for name in total:
        assert np.prod([axis.total[name] for axis in axes]) == total[name]
        assert np.prod([axis.largest[name] for axis in axes]) >= largest[name]


def test_peak_is_at_the_widest_layers():
    voxels = {name: np.array(float(region.size)) for name, region in whole((32, 32, 32)).items()}
    # The joined 48 + 32 channels, their two sources, and a copy for the convolution that reads them.
    floor = (80 + 48 + 32) * 4 * 32**3
    assert floor < peak_bytes(PROGRAM, voxels) < 2.5 * floor
