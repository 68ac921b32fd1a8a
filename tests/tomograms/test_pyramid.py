"""The pyramid equals a voxel-by-voxel reference, blockwise as whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfinder_dask.blocks import Box
from deepfinder_dask.errors import SettingsError
from deepfinder_dask.execution import open_executor
from deepfinder_dask.tomograms import build_pyramid, create_image, finish_image, level_shapes, open_image
from deepfinder_dask.tomograms import pyramid as module
from deepfinder_dask.tomograms.pyramid import halve


def reference(values, method):
    """The mean, mode or maximum of the voxels that exist, one output voxel at a time."""
    shape = tuple(-(-n // 2) for n in values.shape)
    out = np.empty(shape, np.float64)
    for index in np.ndindex(shape):
        cell = values[tuple(slice(2 * i, 2 * i + 2) for i in index)].astype(np.float64)
        if method == "mode":
            labels, counts = np.unique(cell, return_counts=True)
            out[index] = labels[np.argmax(counts)]
        else:
            out[index] = cell.mean() if method == "mean" else cell.max()
    return np.rint(out) if method == "mean" and values.dtype.kind != "f" else out


@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    dtype=st.sampled_from(["int8", "uint8", "int16", "uint16", "float16", "float32", "float64"]),
    method=st.sampled_from(["mean", "mode", "max"]),
)
@settings(max_examples=80, deadline=None)
def test_halving_takes_the_voxels_that_exist(noise, shape, dtype, method):
    values = noise(shape, dtype)
    if method == "mode":
        values = np.abs(values % values.dtype.type(3)).astype(dtype)
    found = halve(values, method)
    assert found.dtype == values.dtype
    tolerance = {"float16": 2e-3, "float32": 1e-6}.get(dtype, 1e-12) if method == "mean" else 0
    np.testing.assert_allclose(found, reference(values, method), rtol=tolerance)


@pytest.mark.parametrize("method", ["mean", "mode"])
def test_levels_made_in_blocks_are_levels_made_at_once(tmp_path, noise, monkeypatch, method):
    values = noise((25, 19, 41), "uint8") // 64
    monkeypatch.setattr(module, "SHARD", (8, 8, 16))
    volume = create_image(
        tmp_path / "a.zarr", shape=values.shape, dtype="u1", voxel_size=5, chunk=8, shard=(48, 40, 72)
    )
    volume.write(Box.whole(values.shape), values)
    with open_executor() as executor:
        levels = build_pyramid(tmp_path / "a.zarr", method=method, executor=executor, smallest=12)
    finish_image(tmp_path / "a.zarr", method=method)
    image = open_image(tmp_path / "a.zarr")
    assert image.levels == levels
    assert [level.shape for level in levels] == [(25, 19, 41), (13, 10, 21), (7, 5, 11)]
    for level in levels:
        np.testing.assert_array_equal(level.read(), values)
        values = halve(values, method)


def test_levels_end_when_they_are_small():
    assert level_shapes((464, 928, 928))[-1] == (58, 116, 116)
    assert level_shapes((1, 1, 1)) == [(1, 1, 1)]
    assert level_shapes((3, 30, 300, 129)) == [(3, 30, 300, 129), (3, 15, 150, 65), (3, 8, 75, 33)]


def test_an_unknown_method_is_refused(tmp_path):
    create_image(tmp_path / "a.zarr", shape=(4, 4, 4), dtype="u1", voxel_size=5)
    with pytest.raises(SettingsError, match="mean, mode or max"):
        build_pyramid(tmp_path / "a.zarr", method="median")
