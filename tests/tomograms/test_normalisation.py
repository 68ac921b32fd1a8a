"""Normalisation: what robust statistics see of gold and padding, in every type of values and every chunking."""

from __future__ import annotations

import json
from dataclasses import replace

import mrcfile
import numpy as np
import pytest
import zarr

from deepfinder_dask.blocks import Box
from deepfinder_dask.errors import InputError, SettingsError
from deepfinder_dask.tomograms import (
    Normalisation,
    Region,
    Scaling,
    Statistics,
    Tomogram,
    Volume,
    convert,
    create_image,
    finish_image,
    statistics_of,
)
from deepfinder_dask.tomograms.resampling import RescaledRegion
from deepfinder_dask.tomograms.statistics import robust_of

SHAPE = (40, 60, 64)
ROBUST = Normalisation("robust")
CLIPPED_NORMAL = 0.982
"""Standard deviation of a normal distribution that is clipped to its percentiles 1 and 99."""


def plain(mean=100.0, std=10.0, seed=0):
    return np.random.default_rng(seed).normal(mean, std, SHAPE)


def spoilt(values, padding=0.0, gold=-4000.0):
    """A third of the volume padded with one value, and gold beads in half a per cent of the rest."""
    spoilt = values.copy()
    spoilt[:, :20] = padding
    spoilt.reshape(-1)[np.random.default_rng(1).choice(values.size, values.size // 200, replace=False)] = gold
    return spoilt


def stored(tmp_path, values, chunks=(16, 16, 16), name="a"):
    zarr.create_array(tmp_path / f"{name}.zarr", data=values, chunks=chunks)
    return Volume(str(tmp_path / f"{name}.zarr"))


@pytest.mark.parametrize("padding", [0.0, 100.0, 97.3])
def test_gold_and_padding_do_not_decide(tmp_path, padding):
    clean = statistics_of(stored(tmp_path, plain().astype(np.float32)))
    values = spoilt(plain(), padding).astype(np.float32)
    dirty = statistics_of(stored(tmp_path, values, name="b"))
    assert dirty.std > 5 * clean.std, "gold decides plain statistics"
    assert dirty.robust.mean == pytest.approx(clean.robust.mean, abs=0.05 * clean.std)
    assert dirty.robust.std == pytest.approx(clean.robust.std, rel=0.05)
    assert dirty.robust.padding == pytest.approx(1 / 3, abs=0.01)
    assert clean.robust.padding == 0
    assert clean.robust.std == pytest.approx(CLIPPED_NORMAL * clean.std, rel=0.01)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "float16", "float32", "float64"])
def test_every_type_of_values(tmp_path, dtype):
    """Whole numbers stored as floats too: their levels lie apart, but none is padding."""
    values = np.round(plain(60, 12)).clip(0, 127)
    found = statistics_of(stored(tmp_path, values.astype(dtype))).robust
    first, last = np.percentile(values, [1, 99])
    clipped = values.clip(first, last)
    assert found.padding == 0
    assert found.mean == pytest.approx(clipped.mean(), abs=0.02)
    assert found.std == pytest.approx(clipped.std(), rel=0.002)
    padded = statistics_of(stored(tmp_path, spoilt(values, 0, 127).astype(dtype), name="b")).robust
    assert padded.mean == pytest.approx(found.mean, abs=0.05 * 12)
    assert padded.std == pytest.approx(found.std, rel=0.05)


@pytest.mark.parametrize("mean", [1e4, -1e6, 3e7])
def test_a_mean_far_from_zero_is_counted_again_more_finely(tmp_path, mean):
    values = plain(mean, 60).astype(np.float32)
    found = statistics_of(stored(tmp_path, spoilt(values, 0.0, mean - 1e5).astype(np.float32))).robust
    assert found.mean == pytest.approx(values.mean(dtype=float), abs=3)
    assert found.std == pytest.approx(CLIPPED_NORMAL * 60, rel=0.05)
    with mrcfile.new(tmp_path / "a.mrc", spoilt(values, 0.0, mean - 1e5).astype(np.float32)) as file:
        file.voxel_size = 10
    assert convert(tmp_path / "a.mrc", tmp_path / "converted.zarr", progress=False).statistics.robust == found


@pytest.mark.parametrize("mean", [100.0, 1e6])
@pytest.mark.parametrize("chunks", [(7, 9, 11), (5, 60, 7), (40, 60, 64)])
def test_no_chunking_changes_a_bit(tmp_path, chunks, mean):
    values = spoilt(plain(mean)).astype(np.float32)
    inside = np.zeros(SHAPE, bool)
    inside[3:31, 11:53, 7:50] = True
    volume = stored(tmp_path, values, chunks)
    other = stored(tmp_path, values, (16, 16, 16), "b")
    assert statistics_of(volume) == statistics_of(other)
    assert robust_of(volume, Region.of(inside).read) == robust_of(other, Region.of(inside).read)


def test_over_a_mask(tmp_path):
    """A carbon edge of other grey values, too many for the percentiles: a mask leaves it out."""
    values = plain()
    values[:, :, 40:] += np.random.default_rng(5).normal(300, 50, (40, 60, 24))
    inside = np.ones(SHAPE, bool)
    inside[:, :, 40:] = False
    tomogram = finished(tmp_path, values)
    masked = ROBUST.measure(tomogram, Region.of(inside).read)
    assert masked.robust.mean == pytest.approx(100, abs=0.5)
    assert masked.robust.std == pytest.approx(CLIPPED_NORMAL * 10, rel=0.01)
    assert (masked.mean, masked.std) == (tomogram.statistics.mean, tomogram.statistics.std)
    assert Normalisation().measure(tomogram, Region.of(inside).read) == tomogram.statistics
    empty = np.zeros(SHAPE, bool)
    assert ROBUST.measure(tomogram, Region.of(empty).read) == tomogram.statistics


def test_a_mask_on_the_grid_of_another_voxel_size():
    inside = np.zeros((10, 12, 14), bool)
    inside[2:7, 3:9, 5:6] = True
    region = RescaledRegion(Region.of(inside), (8.0, 8.0, 8.0), (16.0, 16.0, 16.0))
    assert np.array_equal(region.read_nearest(Box((0, 1, 0), (5, 6, 7))), inside[::2, 2::2, ::2])


def finished(tmp_path, values, statistics=True, name="tomogram"):
    path = tmp_path / f"{name}.zarr"
    volume = create_image(path, shape=SHAPE, dtype="float32", voxel_size=10.0, chunk=16, shard=None)
    volume.write(Box.whole(SHAPE), values.astype(np.float32))
    finish_image(path, {"statistics": statistics_of(volume).to_dict()} if statistics else {})
    return Tomogram.open(path)


def test_older_and_foreign_stores_are_measured_where_it_takes_robust_ones(tmp_path, monkeypatch):
    new = finished(tmp_path, plain())
    old = replace(new, statistics=replace(new.statistics, robust=None))
    assert ROBUST.measure(old) == ROBUST.measure(finished(tmp_path, plain(), statistics=False, name="b"))
    assert ROBUST.measure(old) == new.statistics
    with pytest.raises(SettingsError, match="measure again"):
        ROBUST.scaling(old.statistics)

    def refuse(*_):
        raise AssertionError("reads no voxels")

    monkeypatch.setattr(Volume, "read", refuse)
    assert Normalisation().measure(old) == old.statistics
    assert ROBUST.measure(new) == new.statistics


def test_statistics_survive_json_with_and_without_robust_ones(tmp_path):
    found = statistics_of(stored(tmp_path, plain()))
    assert Statistics.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    older = {k: v for k, v in found.to_dict().items() if k != "robust"}
    assert Statistics.from_dict(older) == replace(found, robust=None)


def test_what_has_next_to_no_other_values(tmp_path):
    """All but a few voxels one value: that is no padding then, and there is still a deviation."""
    values = np.zeros(SHAPE, np.float32)
    values[0, 0, :9] = 3
    found = statistics_of(stored(tmp_path, values))
    assert found.robust.std == pytest.approx(found.std, rel=1e-3)
    assert found.robust.std > 0
    with pytest.raises(InputError, match="is constant"):
        ROBUST.measure(finished(tmp_path, np.full(SHAPE, 2.0)))


def test_scaling():
    values = np.array([70, 100, 130, 5000, -5000], np.int16)
    assert Scaling(100, 10).apply(values).tolist() == [-3, 0, 3, 490, -510]
    assert Scaling(100, 10, limit=10).apply(values).tolist() == [-3, 0, 3, 10, -10]
    assert Scaling(100, 10, limit=10).apply(values, invert=True).tolist() == [3, 0, -3, -10, 10]
    out = np.empty(5, np.float32)
    assert Scaling(100, 10).apply(values, out=out) is out


def test_names_and_parameters_survive_json():
    for one in (Normalisation(), ROBUST, Normalisation("robust", limit=6.0)):
        assert Normalisation.from_value(json.loads(json.dumps(one.to_dict()))) == one
    assert Normalisation.from_value("meanstd") == Normalisation.from_value("mean-std") == Normalisation()
    with pytest.raises(SettingsError, match="expected normalisation mean-std or robust, got 'median'"):
        Normalisation.from_value("median")
    with pytest.raises(SettingsError, match=r"percentiles \[1.0, 99.0\], got \[5, 95\]: another version"):
        Normalisation.from_value({"name": "robust", "percentiles": [5, 95]})
