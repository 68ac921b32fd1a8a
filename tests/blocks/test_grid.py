"""Blocks cover a volume exactly once, and read what they write and their halo."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepfinder_dask.blocks import BlockGrid, Box
from deepfinder_dask.errors import GeometryError

sizes = st.tuples(*[st.integers(1, 23)] * 3)
halos = st.tuples(*[st.integers(0, 9)] * 3)


@given(shape=sizes, core=sizes, low=halos, high=halos)
def test_blocks_write_each_voxel_once_and_read_their_halo(shape, core, low, high):
    grid = BlockGrid(shape, core, low, high)
    written = np.zeros(shape, int)
    read = 0
    for number, block in enumerate(grid):
        assert block.number == number
        assert grid[number] == grid.at(block.index) == block
        written[block.write.slices()] += 1
        wanted = [
            (max(0, a - lo), min(n, b + hi))
            for a, b, lo, hi, n in zip(block.write.start, block.write.stop, low, high, shape, strict=True)
        ]
        assert list(zip(block.read.start, block.read.stop, strict=True)) == wanted
        read += block.read.size
    assert (written == 1).all()
    assert grid.waste == pytest.approx(read / written.size)


@given(a=st.tuples(sizes, sizes), b=st.tuples(sizes, sizes))
def test_intersection_holds_the_voxels_of_both(a, b):
    volume = np.zeros((2, 25, 25, 25), bool)
    boxes = [Box(tuple(map(min, *pair)), tuple(map(max, *pair))) for pair in (a, b)]
    for layer, box in zip(volume, boxes, strict=True):
        layer[box.slices()] = True
    both = np.zeros_like(volume[0])
    both[boxes[0].intersect(boxes[1]).slices()] = True
    assert np.array_equal(both, volume.all(axis=0))
    assert boxes[0].intersect(boxes[1]).size == both.sum()


@given(box=st.tuples(sizes, sizes), outer=sizes)
def test_within_counts_from_the_outer_box(box, outer):
    a = Box(tuple(map(min, *box)), tuple(map(max, *box)))
    frame = Box(outer, tuple(n + 50 for n in outer))
    grown = a.shift(outer)
    assert grown.within(frame) == a
    assert grown.shape == a.shape


@pytest.mark.parametrize(
    ("shape", "core", "halo"), [((0, 4, 4), (4, 4, 4), 0), ((4, 4, 4), (4, 0, 4), 0), ((4, 4, 4), (4, 4, 4), -1)]
)
def test_impossible_grids_are_refused(shape, core, halo):
    with pytest.raises(GeometryError, match="at least"):
        BlockGrid(shape, core, (halo,) * 3)
