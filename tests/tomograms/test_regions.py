"""Regions of interest: blocks of any size see the same mask, whatever file it is in; only what is needed is read."""

from __future__ import annotations

import gzip
import pickle

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st

from deepfinder_dask.blocks import BlockGrid, Box
from deepfinder_dask.errors import FormatError, GeometryError, SettingsError, VoxelSizeError
from deepfinder_dask.tomograms import MaskedSource, Region, create_image, finish_image
from deepfinder_dask.tomograms.boxes import ArraySource

SHAPE = (37, 52, 45)


def blobs(shape=SHAPE, seed=0, regions=3, dtype=np.uint8):
    """Some boxes with the numbers 1 to ``regions`` in zeros."""
    rng = np.random.default_rng(seed)
    values = np.zeros(shape, dtype)
    for number in range(1, regions + 1):
        start = [int(rng.integers(0, n - 12)) for n in shape]
        values[tuple(slice(a, a + int(rng.integers(5, 12))) for a in start)] = number
    return values


class Counting:
    """A source that says what was read of it."""

    def __init__(self, array):
        self.array = array
        self.shape = array.shape
        self.boxes = []

    def read(self, box):
        self.boxes.append(box)
        return self.array[box.slices()]


def stored_as(kind, values, folder, mrc):
    """The mask in a file or store of that kind; its path."""
    if kind == "mrc":
        return mrc(folder / "mask.mrc", values.astype(np.int8))
    if kind == "tiff":
        tifffile.imwrite(folder / "mask.tif", values)
        return folder / "mask.tif"
    if kind == "hdf5":
        with h5py.File(folder / "mask.h5", "w") as file:
            file["volume"] = values
        return f"{folder}/mask.h5:/volume"
    path = folder / "mask.zarr"
    if kind == "plain":
        zarr.create_array(path, data=values, chunks=(16, 16, 16))
        return path
    inner = f"{path}/labels" if kind == "segmentation" else path
    if kind == "segmentation":
        zarr.create_group(path)
    volume = create_image(inner, shape=values.shape, dtype=values.dtype, voxel_size=10.0, chunk=16, shard=(32, 32, 32))
    for block in BlockGrid(values.shape, (32, 32, 32)):
        volume.write(block.write, values[block.write.slices()])
    finish_image(inner)
    return path


@pytest.mark.parametrize("kind", ["mrc", "tiff", "hdf5", "plain", "image", "segmentation"])
def test_every_kind_of_mask(kind, tmp_path, mrc) -> None:
    """Boxes, positions, sizes and identity are those of the array, also after a journey to another process."""
    values = blobs()
    path = stored_as(kind, values, tmp_path, mrc)
    region = Region.open(path, shape=SHAPE, voxel_size=(10.0, 12.5, 20.0), border=40.0)
    region = pickle.loads(pickle.dumps(region))  # noqa: S301  # our own
    expected = values.copy()
    inner = np.zeros(SHAPE, bool)
    inner[4:-4, 4:-4, 2:-2] = True  # 40 Å are 4, 3.2 and 2 voxels
    expected[~inner] = 0
    for block in BlockGrid(SHAPE, (20, 17, 45)):
        np.testing.assert_array_equal(region.read(block.write), expected[block.write.slices()] != 0)
        np.testing.assert_array_equal(region.read_numbers(block.write), expected[block.write.slices()])
        assert region.is_empty(block.write) == (not expected[block.write.slices()].any())
    voxels = np.argwhere(np.ones(SHAPE, bool))[::7]
    np.testing.assert_array_equal(region.contains(voxels), expected[tuple(voxels.T)] != 0)
    np.testing.assert_array_equal(region.numbers_at(voxels), expected[tuple(voxels.T)])
    assert region.sizes() == {n: int((expected == n).sum()) for n in (1, 2, 3) if (expected == n).any()}
    assert region.identity() == Region.of(values, margin=(4, 4, 2)).identity()


@given(st.tuples(*[st.integers(1, 9)] * 3), st.tuples(*[st.integers(0, 2)] * 3), st.integers(0, 9), st.data())
def test_boxes_and_positions(shape, margin, seed, data) -> None:
    """Any box, beyond the volume too, and any position, by the rule that a voxel reaches half a voxel around."""
    values = np.random.default_rng(seed).integers(0, 3, shape).astype(np.int16)
    if any(n - 2 * m < 1 for n, m in zip(shape, margin, strict=True)):
        with pytest.raises(GeometryError, match="leaves nothing"):
            Region.of(values, margin=margin)
        return
    region = Region.of(values, margin=margin)
    region = Region(shape, region.mask, margin, unit=data.draw(st.tuples(*[st.integers(1, 5)] * 3)), itemsize=2)
    inner = tuple(slice(m, n - m) for n, m in zip(shape, margin, strict=True))
    expected = np.zeros(shape, np.int64)
    expected[inner] = values[inner]
    corners = [sorted(data.draw(st.tuples(st.integers(-2, n + 2), st.integers(-2, n + 2)))) for n in shape]
    box = Box(tuple(a for a, _ in corners), tuple(b for _, b in corners))
    around = np.pad(expected, 2)
    slices = box.shift((2, 2, 2)).slices()
    np.testing.assert_array_equal(region.read_numbers(box), around[slices])
    np.testing.assert_array_equal(region.read(box), around[slices] != 0)
    assert region.is_empty(box) == (not around[slices].any())
    assert region.is_empty() == (not expected.any())
    positions = np.array(data.draw(st.lists(st.tuples(*[st.floats(-2, n + 1) for n in shape]), max_size=20)))
    numbers = [around[tuple(np.floor(p + 0.5).astype(int) + 2)] for p in positions]
    np.testing.assert_array_equal(region.numbers_at(positions), numbers)
    np.testing.assert_array_equal(region.contains(positions), np.array(numbers) != 0)


def test_only_a_border() -> None:
    """Without a mask all that the border leaves is region 1, and positions are known without reading."""
    region = Region.open(shape=(20, 20, 20), voxel_size=(10.0, 10.0, 13.333333333), border=40.0)
    assert region.margin == (4, 4, 3)  # three voxels of 13.3 Å are 40 Å
    assert region.sizes() == {1: 12 * 12 * 14}
    assert region.is_empty(Box((0, 0, 0), (4, 20, 20)))
    assert not region.is_empty(Box((0, 0, 0), (5, 5, 4)))
    assert region.contains([(3.49, 10, 10), (3.5, 10, 10), (15.49, 10, 10), (15.5, 10, 10)]).tolist() == [0, 1, 1, 0]
    assert region.contains([(np.nan, 10, 10), (np.inf, 1, 1)]).tolist() == [False, False]


def test_reads_only_what_is_needed() -> None:
    """A border is not read, nor a second chunk once there is something; a few positions take a few voxels."""
    source = Counting(blobs())
    region = Region(SHAPE, source, (4, 4, 4), unit=(8, 8, 8))
    assert region.is_empty(Box((0, 0, 0), (4, 52, 45)))
    assert not region.read(Box((0, 0, 0), (37, 52, 4))).any()
    assert source.boxes == []
    region.contains([(10, 10, 10), (11.2, 10, 10), (30, 40, 40), (1, 1, 1)])
    assert sorted(box.size for box in source.boxes) == [1, 2]
    source = Counting(np.ones((64, 64, 64), np.uint8))
    region = Region((64, 64, 64), source, unit=(64, 64, 64), itemsize=2**20)
    assert not region.is_empty()
    assert len(source.boxes) == 1


def test_identity_is_what_is_inside() -> None:
    values = blobs((130, 70, 66))
    region = Region.of(values)
    assert region.identity() == Region.of((values > 0).astype(np.float32) * 7).identity()
    assert region.identity() == Region(values.shape, region.mask, itemsize=2**16).identity()  # other bands
    moved = values.copy()
    moved[129, 69, 65] = 1
    assert region.identity() != Region.of(moved).identity()
    assert region.identity() != Region.of(values, margin=(0, 0, 1)).identity()
    assert region.identity() != Region.of(values[:, ::-1]).identity()


def test_masked_source() -> None:
    """Zero outside, untouched inside; what is wholly outside is not read, and the user's array stays as it is."""
    values = np.random.default_rng(1).integers(0, 5, SHAPE).astype(np.int32)
    mask = blobs(seed=3)
    kept = values.copy()
    masked = MaskedSource(ArraySource(values), Region.of(mask))
    for block in BlockGrid(SHAPE, (16, 16, 16)):
        expected = (values * (mask > 0))[block.write.slices()]
        np.testing.assert_array_equal(masked.read(block.write), expected)
    np.testing.assert_array_equal(values, kept)
    source = Counting(values)
    MaskedSource(source, Region.of(np.zeros(SHAPE, bool))).read(Box.whole(SHAPE))
    assert source.boxes == []


def test_refusals(tmp_path, mrc) -> None:
    mask = mrc(tmp_path / "mask.mrc", blobs((8, 9, 10), regions=0).astype(np.int8))
    with pytest.raises(GeometryError, match=r"mask.mrc to have the shape \(16, 18, 20\).*found \(8, 9, 10\): bring it"):
        Region.open(mask, shape=(16, 18, 20))
    with pytest.raises(FormatError, match="no such mask"):
        Region.open(tmp_path / "none.mrc", shape=SHAPE)
    (tmp_path / "mask.mrc.gz").write_bytes(gzip.compress(mask.read_bytes()))
    with pytest.raises(FormatError, match="unpack it"):
        Region.open(tmp_path / "mask.mrc.gz", shape=(8, 9, 10))
    with pytest.raises(SettingsError, match="0 or more, got -1"):
        Region.open(shape=SHAPE, voxel_size=(10.0,) * 3, border=-1)
    with pytest.raises(VoxelSizeError, match="--voxel-size"):
        Region.open(shape=SHAPE, border=10)
    with pytest.raises(GeometryError, match="leaves nothing"):
        Region.open(shape=SHAPE, voxel_size=(10.0,) * 3, border=190)
    halves = Region.of(np.full((4, 4, 4), 0.5, np.float32))
    assert halves.contains([(1, 1, 1)]).all()
    with pytest.raises(FormatError, match=r"whole numbers, found 0\.5"):
        halves.numbers_at([(1, 1, 1)])
    with pytest.raises(FormatError, match="found NaN"):
        Region.of(np.full((4, 4, 4), np.nan)).read(Box.whole((4, 4, 4)))
