"""Weights that say how grey values are normalised: blocks, masks, resampling and resume honour it."""

from __future__ import annotations

from dataclasses import replace

import dask
import numpy as np
import pytest
import zarr

from deepfinder_dask.blocks import Box
from deepfinder_dask.errors import OutputExistsError
from deepfinder_dask.execution import SerialExecutor
from deepfinder_dask.segmentation import SegmentSettings, segment, segment_lazily
from deepfinder_dask.segmentation.block import Classifier
from deepfinder_dask.segmentation.job import settle
from deepfinder_dask.segmentation.workers import choose_workers
from deepfinder_dask.tomograms import Normalisation, Scaling, Tomogram

SHAPE = (22, 34, 40)


@pytest.fixture
def robust(weights):
    return replace(weights, normalisation=Normalisation("robust"))


@pytest.fixture
def spoilt(make_tomogram):
    """Noise with gold, and padding on one side."""
    rng = np.random.default_rng(3)
    values = rng.normal(50, 4, SHAPE).astype(np.float32)
    values[rng.random(SHAPE) < 0.003] = -900
    values[:, :9] = 0
    return make_tomogram(SHAPE, values=values)


def test_any_blocks_give_one_pass_over_the_clipped_volume(spoilt, robust, tmp_path):
    values = spoilt.read()
    real = values[values != 0].astype(float)
    clipped = real.clip(*np.percentile(real, [1, 99]))
    whole = Classifier(
        spoilt.volume,
        robust,
        choose_workers(SerialExecutor(), SegmentSettings(), None).kind,
        Normalisation("robust").scaling(Normalisation("robust").measure(spoilt)),
    )
    assert (whole.scaling.mean, whole.scaling.std) == pytest.approx((clipped.mean(), clipped.std()), rel=1e-3)
    expected = whole(Box.whole(SHAPE))
    found = segment(spoilt, robust, tmp_path / "s.zarr", block=(12, 16, 20))
    assert np.array_equal(found.label_map.read(), expected.labels)
    assert np.array_equal(found.probability_map.read(), expected.probability)
    lazy = segment_lazily(spoilt, robust, block=(12, 16, 20))
    assert np.array_equal(dask.compute(lazy.labels)[0], expected.labels)


def test_both_normalisations_differ_and_are_not_mixed(spoilt, weights, robust, tmp_path):
    assert weights.sha256 != robust.sha256
    plain = segment(spoilt, weights, tmp_path / "s.zarr")
    begun = settle(spoilt, weights, SegmentSettings(), SerialExecutor()).record()
    with pytest.raises(OutputExistsError, match=r"begun with (other weights|another tomogram)"):
        settle(spoilt, robust, SegmentSettings(), SerialExecutor(), begun)
    other = segment(spoilt, robust, tmp_path / "r.zarr")
    assert (plain.probability_map.read() != other.probability_map.read()).mean() > 0.5


def scaling(tomogram, weights, **options) -> Scaling:
    job = settle(tomogram, weights, SegmentSettings(**options), SerialExecutor())
    return job.classifier(job.tomogram).scaling


def test_a_mask_decides_robust_statistics_only(make_tomogram, weights, robust, tmp_path):
    values = np.random.default_rng(4).normal(50, 4, SHAPE).astype(np.float32)
    values[:, :, 25:] *= 4
    inside = np.zeros(SHAPE, bool)
    inside[:, :, :25] = True
    zarr.create_array(tmp_path / "mask.zarr", data=inside)
    tomogram, mask = make_tomogram(SHAPE, values=values), str(tmp_path / "mask.zarr")
    assert scaling(tomogram, robust, mask=mask).mean == pytest.approx(50, abs=0.2)
    assert scaling(tomogram, robust).mean > 80
    assert scaling(tomogram, robust, border=20.0) == scaling(tomogram, robust), "a border is no mask"
    assert scaling(tomogram, weights, mask=mask) == scaling(tomogram, weights)


def test_a_mask_of_a_resampled_tomogram(make_tomogram, robust, tmp_path, monkeypatch):
    values = np.random.default_rng(4).normal(50, 4, SHAPE).astype(np.float32)
    values[:, :, 24:] *= 4
    inside = np.zeros(SHAPE, bool)
    inside[:, :, :22] = True
    zarr.create_array(tmp_path / "mask.zarr", data=inside)
    tomogram = make_tomogram(SHAPE, values=values, voxel_size=14.0)
    used = []
    original = Classifier.read
    monkeypatch.setattr(Classifier, "read", lambda self, box: (used.append(self.scaling), original(self, box))[1])
    segment(tomogram, robust, tmp_path / "s.zarr", mask=str(tmp_path / "mask.zarr"), rescale=True)
    assert used[0].mean == pytest.approx(50, abs=0.2)
    assert used[0].std < 4.1, "that of the resampled grey values, inside"


def test_a_run_goes_on_only_with_the_same_robust_statistics(spoilt, weights, robust):
    """Older work, begun before there were any, goes on where they do not count."""
    job = settle(spoilt, weights, SegmentSettings(), SerialExecutor())
    older = replace(spoilt, statistics=replace(job.tomogram.statistics, robust=None))
    assert settle(older, weights, SegmentSettings(), SerialExecutor(), job.record()).identity == job.identity
    begun = settle(spoilt, robust, SegmentSettings(), SerialExecutor())
    measured = begun.tomogram.statistics
    changed = replace(spoilt, statistics=replace(measured, robust=replace(measured.robust, mean=49.0)))
    with pytest.raises(OutputExistsError, match="another tomogram"):
        settle(changed, robust, SegmentSettings(), SerialExecutor(), begun.record())
    assert isinstance(changed, Tomogram)
