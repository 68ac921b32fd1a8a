"""``segment`` from tomogram to store: the same for any blocks and workers, and refusals in one line."""

from __future__ import annotations

import numpy as np
import pytest

from deepfinder_dask.errors import (
    InputError,
    OutputExistsError,
    SettingsError,
    VoxelSizeError,
    WeightsError,
)
from deepfinder_dask.segmentation import Segmentation, SegmentSettings, segment
from deepfinder_dask.segmentation.plan import plan_blocks
from deepfinder_dask.segmentation.settings import GIB
from deepfinder_dask.segmentation.store import create_outputs
from deepfinder_dask.tomograms import Imaging, create_group, open_image

SHAPE = (21, 34, 30)


@pytest.fixture
def tomogram(make_tomogram):
    return make_tomogram(SHAPE)


def arrays(segmentation):
    return segmentation.label_map.read(), segmentation.probability_map.read()


def test_blocks_and_workers_change_nothing(tomogram, weights, tmp_path):
    reference = arrays(segment(tomogram, weights, tmp_path / "whole.zarr"))
    assert len(np.unique(reference[0])) == 3
    for name, options in {
        "blocks": {"block": (12, 16, 20)},
        "workers": {"block": (20, 20, 16), "workers": 2},
    }.items():
        found = arrays(segment(tomogram, weights, tmp_path / f"{name}.zarr", **options))
        assert np.array_equal(found[0], reference[0]), name
        assert np.array_equal(found[1], reference[1]), name


def test_scores_agree_with_labels_and_probability(tomogram, weights, tmp_path):
    done = segment(tomogram, weights, tmp_path / "s.zarr", scores=True, block=(24, 20, 32))
    scores = done.score_map.read()
    labels, probability = arrays(done)
    assert scores.shape == (3, *SHAPE)
    assert np.abs(scores.astype(float).sum(0) - 1).max() < 2e-3
    picked = np.take_along_axis(scores, labels[None].astype(int), 0)[0]
    assert (picked == scores.max(0)).mean() > 0.999  # 16-bit ties
    assert np.abs(probability / 255 - picked).max() < 0.5 / 255 + 1e-3


def test_store_says_what_it_holds(tomogram, weights, tmp_path):
    path = tmp_path / "s.zarr"
    segment(tomogram, weights, path)
    back = Segmentation.open(str(path))
    assert back.classes == weights.classes
    assert (back.tomogram, back.voxel_size) == ("tomo", (10.0, 10.0, 10.0))
    assert back.labels.shape == back.probability.shape == SHAPE
    labels = open_image(path / "labels")
    assert labels.voxel_size == (10.0, 10.0, 10.0)
    assert back.attributes["weights"]["sha256"] == weights.sha256


def test_pyramid_of_labels_holds_labels_only(make_tomogram, weights, tmp_path):
    values = np.random.default_rng(0).normal(size=(20, 24, 130)).astype(np.float32)
    done = segment(make_tomogram(values.shape, values=values), weights, tmp_path / "s.zarr")
    levels = open_image(tmp_path / "s.zarr" / "labels").levels
    assert [level.shape for level in levels][:2] == [(20, 24, 130), (10, 12, 65)]
    assert set(np.unique(levels[1].read())) <= set(np.unique(done.label_map.read()))


def test_rescaled_results_lie_on_the_tomograms_own_grid(make_tomogram, weights, tmp_path):
    """Resampled by hand and segmented, the labels are the nearest ones of the rescaled run."""
    from deepfinder_dask.tomograms import Tomogram
    from deepfinder_dask.tomograms.resampling import rescale

    tomogram = make_tomogram((17, 20, 24), voxel_size=16.0)
    done = segment(tomogram, weights, tmp_path / "s.zarr", rescale=True, block=(16, 24, 20))
    labels, probability = arrays(done)
    assert (labels.shape, done.voxel_size) == (tomogram.shape, (16.0, 16.0, 16.0))
    rescale(tomogram.volume, tmp_path / "fine.zarr", 16.0, 10.0, progress=False)
    fine = segment(Tomogram.open(tmp_path / "fine.zarr"), weights, tmp_path / "f.zarr")
    index = [
        np.clip(np.floor(np.arange(n) * 1.6 + 0.5).astype(int), 0, m - 1)
        for n, m in zip(tomogram.shape, fine.label_map.shape, strict=True)
    ]
    assert np.array_equal(labels, fine.label_map.read()[np.ix_(*index)])
    assert np.array_equal(probability, fine.probability_map.read()[np.ix_(*index)])
    assert not (tmp_path / "s.zarr" / "rescaled").exists()


def test_what_does_not_go_together_is_refused(make_tomogram, weights, tmp_path):
    out = tmp_path / "s.zarr"
    with pytest.raises(VoxelSizeError, match=r"10\.6 Å.*trained at 10 Å: pass --rescale"):
        segment(make_tomogram(SHAPE, voxel_size=10.6), weights, out)
    bright = make_tomogram(SHAPE, imaging=Imaging(contrast="bright"))
    with pytest.raises(WeightsError, match=r"bright particles.*dark ones: pass --invert"):
        segment(bright, weights, out)
    dark = make_tomogram(SHAPE, imaging=Imaging(contrast="dark"))
    with pytest.raises(WeightsError, match="leave out --invert"):
        segment(dark, weights, out, invert=True)
    with pytest.raises(WeightsError, match="tilt axis x"):
        segment(make_tomogram(SHAPE, imaging=Imaging(tilt_axis="x")), weights, out)
    assert not out.exists()


def test_voxel_sizes_within_tolerance_are_taken_as_they_are(make_tomogram, weights, tmp_path):
    done = segment(make_tomogram((8, 8, 8), voxel_size=10.4), weights, tmp_path / "s.zarr")
    assert done.voxel_size == (10.4, 10.4, 10.4)


def test_a_constant_tomogram_is_refused_and_leaves_nothing_whole(make_tomogram, weights, tmp_path):
    out = tmp_path / "s.zarr"
    tomogram = make_tomogram((8, 8, 8), values=np.full((8, 8, 8), 3.0, np.float32))
    with pytest.raises(InputError, match="constant"):
        segment(tomogram, weights, out)
    assert not out.exists()


def test_outputs_are_replaced_only_when_asked_or_unfinished(make_tomogram, weights, tmp_path):
    out = tmp_path / "s.zarr"
    tomogram = make_tomogram((8, 8, 8))
    create_group(out, kind="segmentation")  # what an interrupted run leaves
    segment(tomogram, weights, out)
    with pytest.raises(OutputExistsError, match="overwrite"):
        segment(tomogram, weights, out)
    segment(tomogram, weights, out, overwrite=True)


def test_the_tomogram_is_never_replaced(tomogram, weights):
    before = tomogram.read()
    with pytest.raises(SettingsError, match="would replace the tomogram"):
        segment(tomogram, weights, tomogram.path, overwrite=True)
    assert np.array_equal(tomogram.read(), before)


def test_an_older_output_stays_where_no_scheduler_answers(make_tomogram, weights, tmp_path):
    out = tmp_path / "s.zarr"
    tomogram = make_tomogram((8, 8, 8))
    segment(tomogram, weights, out)
    with pytest.raises(InputError, match="no Dask scheduler answers"):
        segment(tomogram, weights, out, scheduler="nowhere", overwrite=True)
    assert Segmentation.open(str(out)).label_map.shape == (8, 8, 8)


@pytest.mark.parametrize("core", [4, 60, 64, 96, 100, 136, 268, 292, 508, 1024])
def test_chunks_are_neither_tiny_nor_huge(tmp_path, core):
    """Whatever the block, whose size in voxels may be four times a prime."""
    outputs = create_outputs(str(tmp_path / "s.zarr"), (core, 1100, 1100), (10.0,) * 3, (core, 64, 64), classes=2)
    for volume in outputs.volumes():
        assert min(40, core) <= volume.chunks[-3] <= 128
        assert volume.shards[-3] == core


def test_plans_fit_the_memory_or_are_refused():
    for bound in (1, 2, 4):
        plan = plan_blocks(4, (464, 928, 928), block=None, memory=bound * GIB)
        assert plan.memory <= bound * GIB
        assert all(n % 4 == 0 for n in plan.grid.core)
    small = plan_blocks(4, (464, 928, 928), block=None, memory=2 * GIB)
    assert small.waste > plan.waste > 1
    with pytest.raises(SettingsError, match=r"block of 256×256×256 voxels needs .* GiB.*use a smaller block, or allow"):
        plan_blocks(4, (464, 928, 928), block=(256, 256, 256), memory=2 * GIB)
    with pytest.raises(SettingsError, match=r"smallest block of .* needs .* GiB: allow --memory"):
        plan_blocks(4, (464, 928, 928), block=None, memory=GIB // 4)


def test_work_is_spread_over_workers():
    shape = (96, 256, 256)
    assert len(plan_blocks(4, shape, block=None, memory=8 * GIB).grid) == 1
    assert len(plan_blocks(4, shape, block=None, memory=8 * GIB, workers=2).grid) == 2


def test_a_block_may_be_one_number():
    assert SegmentSettings(block=64).block == (64, 64, 64)


@pytest.mark.parametrize("block", [(10, 16, 16), (0, 4, 4), (16, 16), (64.0, 64, 64), 10])
def test_blocks_that_cannot_be_are_refused(block):
    with pytest.raises(SettingsError, match="multiples of 4"):
        SegmentSettings(block=block)
