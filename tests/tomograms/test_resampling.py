"""Resampling: blocks give the same bits as the whole, and the values mean what they should."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfinder_dask.blocks import BlockGrid, Box
from deepfinder_dask.errors import GeometryError, OutputExistsError
from deepfinder_dask.tomograms import (
    Tomogram,
    Volume,
    create_image,
    resample_labels,
    rescale,
    rescaled_shape,
    statistics_of,
)
from deepfinder_dask.tomograms import resampling as module


def stored(path, values, **options):
    volume = create_image(path, shape=values.shape, dtype=values.dtype, voxel_size=10, **options)
    volume.write(Box.whole(volume.space), values)
    return volume


def at_once(values, old, new):
    """The whole output from the whole input."""
    ratio = tuple(b / a for a, b in zip(old, new, strict=True))
    box = Box.whole(rescaled_shape(values.shape, old, new))
    return module.interpolate(values, Box.whole(values.shape), box, ratio, values.shape)


sizes = st.sampled_from([4.0, 5.5, 9.7, 10.0, 10.4, 13.48, 16.4, 20.0, 31.0])


@given(
    shape=st.tuples(*[st.integers(1, 14)] * 3),
    core=st.tuples(*[st.integers(1, 9)] * 3),
    old=st.tuples(sizes, sizes, sizes),
    new=st.tuples(sizes, sizes, sizes),
)
@settings(max_examples=60, deadline=None)
def test_blocks_of_any_size_give_the_bits_of_the_whole(noise, shape, core, old, new):
    values = noise(shape)
    expected = at_once(values, old, new)
    ratio = tuple(b / a for a, b in zip(old, new, strict=True))
    found = np.empty_like(expected)
    for block in BlockGrid(expected.shape, core):
        read = module._input_box(block.write, ratio, shape)
        part = module.interpolate(values[read.slices()], read, block.write, ratio, shape)
        found[block.write.slices()] = part
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("block", [(9, 8, 16), (64, 64, 64)])
@pytest.mark.parametrize("piece", [1, 10**9])
def test_stored_blocks_change_no_bit(tmp_path, noise, monkeypatch, block, piece):
    monkeypatch.setattr(module, "PIECE_BYTES", piece)
    values = noise((15, 18, 21), "int16")
    old, new = (13.0, 13.0, 13.0), (9.1, 17.0, 13.0)
    volume = stored(tmp_path / "a.zarr", values)
    imaging = {"imaging": {"contrast": "bright"}}
    result = rescale(volume, tmp_path / "b.zarr", old, new, block=block, attributes=imaging)
    np.testing.assert_array_equal(result.read(), at_once(values, old, new))
    tomogram = Tomogram.open(tmp_path / "b.zarr")
    assert tomogram.voxel_size == new
    assert tomogram.imaging.contrast == "bright"
    assert tomogram.statistics == statistics_of(tomogram.volume)
    with pytest.raises(OutputExistsError):
        rescale(volume, tmp_path / "b.zarr", old, new)


@pytest.mark.parametrize("new", [5.0, 7.3, 10.0, 14.0, 33.0])
def test_positions_stay_and_straight_lines_stay_straight(new):
    z, y, x = np.indices((24, 25, 26), dtype=np.float32) * 10
    values = 3 * z - 2 * y + x + 7
    old = (10.0,) * 3
    found = at_once(values, old, (new,) * 3)
    assert found.shape == rescaled_shape(values.shape, old, (new,) * 3)
    j = np.indices(found.shape) * new
    expected = 3 * j[0] - 2 * j[1] + j[2] + 7
    rim = int(np.ceil(max(1.0, new / 10) * 10 / new)) + 1  # there the border voxel goes on
    inner = (slice(rim, -rim),) * 3
    np.testing.assert_allclose(found[inner], expected[inner], atol=1e-2)
    if new <= 10:
        np.testing.assert_allclose(found, expected, atol=1e-2)
    np.testing.assert_allclose(at_once(np.full((9, 9, 9), 4.5, np.float32), old, (new,) * 3), 4.5, rtol=1e-6)


def test_the_same_voxel_size_changes_nothing(noise):
    values = noise((7, 8, 9))
    np.testing.assert_array_equal(at_once(values, (10.0,) * 3, (10.0,) * 3), values)


def test_fine_detail_does_not_fold_into_larger_voxels():
    values = np.where(np.indices((40, 40, 40)).sum(axis=0) % 2, 1.0, -1.0).astype(np.float32)
    inner = (slice(3, -3),) * 3
    assert np.abs(at_once(values, (10.0,) * 3, (20.0,) * 3)[inner]).max() < 1e-6
    assert np.abs(at_once(values, (10.0,) * 3, (27.0,) * 3)[inner]).max() < 0.05


@pytest.mark.parametrize("shard", [(8, 8, 8), (64, 64, 64)])
def test_labels_come_back_onto_the_grid_of_the_tomogram(tmp_path, noise, shard):
    labels = noise((2, 12, 13, 14), "uint8")
    source = stored(tmp_path / "s.zarr", labels, axes=("class", "z", "y", "x"))
    options = {"axes": ("class", "z", "y", "x"), "chunk": 4, "shard": shard}
    target = create_image(tmp_path / "t.zarr", shape=(2, 17, 18, 19), dtype="u1", voxel_size=10, **options)
    resample_labels(source, target, 14.0, 10.0)
    z, y, x = (
        np.minimum(np.floor(np.arange(n) * 10 / 14 + 0.5).astype(int), m - 1) for n, m in ((17, 12), (18, 13), (19, 14))
    )
    np.testing.assert_array_equal(target.read(), labels[:, z[:, None, None], y[:, None], x])


def test_there_and_back_keeps_labels(tmp_path):
    labels = np.repeat(np.repeat(np.repeat(np.arange(27, dtype="u1").reshape(3, 3, 3), 6, 0), 6, 1), 6, 2)
    coarse = create_image(
        tmp_path / "c.zarr", shape=rescaled_shape(labels.shape, (10,) * 3, (15,) * 3), dtype="u1", voxel_size=15
    )
    fine = create_image(tmp_path / "f.zarr", shape=labels.shape, dtype="u1", voxel_size=10)
    resample_labels(stored(tmp_path / "a.zarr", labels), coarse, 10.0, 15.0)
    resample_labels(coarse, fine, 15.0, 10.0)
    assert (Volume(fine.path, "0").read() == labels).mean() > 0.5
    centres = (slice(2, None, 6),) * 3
    np.testing.assert_array_equal(fine.read()[centres], labels[centres])


def test_volumes_that_do_not_fit_are_refused(tmp_path, noise):
    source = stored(tmp_path / "s.zarr", noise((3, 3, 3), "uint8"))
    target = create_image(tmp_path / "t.zarr", shape=(3, 3, 3), dtype="f4", voxel_size=10)
    with pytest.raises(GeometryError, match="uint8"):
        resample_labels(source, target, 1.5, 2.5)
    flat = stored(tmp_path / "u.zarr", noise((2, 3, 3, 3)), axes=("class", "z", "y", "x"))
    with pytest.raises(GeometryError, match="one volume"):
        rescale(flat, tmp_path / "o.zarr", 10.0, 12.0)
