"""Statistics: near NumPy's, and the same bits however the volume is cut."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfinder_dask.errors import FormatError
from deepfinder_dask.tomograms import Statistics, Volume, statistics_of
from deepfinder_dask.tomograms.statistics import PERCENTILES, StatisticsBuilder

DTYPES = ["int8", "uint8", "int16", "uint16", "int32", "float16", "float32", "float64"]


def whole(values):
    builder = StatisticsBuilder(values.shape, values.dtype)
    builder.add(0, 0, values)
    return builder.result()


@given(
    shape=st.tuples(st.integers(1, 7), st.integers(1, 9), st.integers(1, 70)),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 99),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_no_cut_and_no_order_changes_a_bit(noise, shape, dtype, seed, data):
    values = noise(shape, dtype, seed)
    cuts_z = sorted({0, shape[0], *data.draw(st.lists(st.integers(0, shape[0]), max_size=3))})
    cuts_y = sorted({0, shape[1], *data.draw(st.lists(st.integers(0, shape[1]), max_size=3))})
    pieces = [(z0, y0, values[z0:z1, y0:y1]) for z0, z1 in pairwise(cuts_z) for y0, y1 in pairwise(cuts_y)]
    builder = StatisticsBuilder(shape, values.dtype)
    for piece in data.draw(st.permutations(pieces)):
        builder.add(*piece)
    assert builder.result() == whole(values)


@pytest.mark.parametrize("dtype", DTYPES)
def test_statistics_are_those_of_numpy(noise, dtype):
    values = noise((6, 50, 140), dtype)
    found = whole(values)
    wide = values.astype(np.float64)
    assert found.count == values.size
    assert found.mean == pytest.approx(wide.mean(), rel=1e-12, abs=1e-12)
    assert found.std == pytest.approx(wide.std(), rel=1e-12)
    assert (found.minimum, found.maximum) == (wide.min(), wide.max())
    assert tuple(found.percentiles) == PERCENTILES
    for name, value in found.percentiles.items():
        expected = np.percentile(wide, float(name))
        if np.dtype(dtype).itemsize <= 2:
            assert value == pytest.approx(expected, rel=1e-12, abs=1e-9)
        else:
            assert value == pytest.approx(expected, rel=1e-3)


def test_a_large_mean_does_not_cancel_the_deviation():
    values = (np.random.default_rng(0).normal(size=(4, 60, 70)) + 1e8).astype(np.float64)
    assert whole(values).std == pytest.approx(values.std(), rel=1e-9)
    assert whole(np.full((3, 4, 5), 0.1, np.float32)).std == 0.0


def test_statistics_survive_json_bit_for_bit(noise):
    found = whole(noise((3, 30, 40)))
    assert Statistics.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@pytest.mark.parametrize("chunks", [(7, 9, 11), (5, 30, 7), (20, 30, 40)])
@pytest.mark.parametrize("version", [2, 3])
def test_foreign_stores_of_any_chunking_have_the_same_statistics(tmp_path, noise, chunks, version):
    values = noise((20, 30, 40))
    zarr.create_array(tmp_path / "a.zarr", data=values, chunks=chunks, zarr_format=version)
    assert statistics_of(Volume(str(tmp_path / "a.zarr"))) == whole(values)


def test_values_that_are_not_finite_are_counted(tmp_path, noise):
    values = noise((3, 30, 40))
    values[0, 0, :5] = np.nan
    values[2, 7, 3] = np.inf
    values[2, 29, 39] = -np.inf
    with pytest.raises(FormatError, match="found 5 NaN and 2 infinite"):
        whole(values)
    zarr.create_array(tmp_path / "a.zarr", data=values, chunks=(2, 16, 16))
    with pytest.raises(FormatError, match=r"5 NaN and 2 infinite.*--replace-nonfinite"):
        statistics_of(Volume(str(tmp_path / "a.zarr")))
    with pytest.raises(FormatError, match="squares are finite"):
        whole(np.array([[[1e200, -1e200]]]))
