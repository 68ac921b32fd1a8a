"""Blockwise components equal scipy.ndimage.label on the whole volume, whatever the blocks and their order."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from deepfinder_dask.blocks import BlockGrid
from deepfinder_dask.clustering import Components, find_components
from deepfinder_dask.clustering.components import SizeLimits
from deepfinder_dask.clustering.labelling import LabelJob, label_block
from deepfinder_dask.clustering.merging import Merger
from deepfinder_dask.errors import FormatError, GeometryError, SettingsError
from deepfinder_dask.particles import ParticleClass
from deepfinder_dask.tomograms.boxes import ArraySource

STEPS = {6: 1, 18: 2, 26: 3}


def whole_volume(labels, probability=None, *, connectivity=6, per_class=False, structures=()):
    """Rows (label, size, centroid, score, first voxel, box) in canonical order, the plain way."""
    labels = np.asarray(labels).astype(np.int64)
    classes = [n for n in np.unique(labels) if n not in (0, 255, *structures)]
    masks = [labels == n for n in classes] if per_class else [np.isin(labels, classes)]
    rows = []
    for mask in masks:
        numbers, n = ndimage.label(mask, ndimage.generate_binary_structure(3, STEPS[connectivity]))
        firsts = []
        for number in range(1, n + 1):
            voxels = np.argwhere(numbers == number)
            inside = labels[tuple(voxels.T)]
            label = min(classes, key=lambda c, inside=inside: (-np.count_nonzero(inside == c), c))
            score = np.nan
            if probability is not None:
                own = probability[tuple(voxels[inside == label].T)].astype(np.int64)
                score = own.sum() / (255 * len(own))
            firsts.append(int(np.ravel_multi_index(tuple(voxels[0]), labels.shape)))
            centroid = voxels.sum(axis=0) / len(voxels)
            rows.append((label, len(voxels), *centroid, score, firsts[-1], *voxels.min(0), *(voxels.max(0) + 1)))
        assert firsts == sorted(firsts)  # scipy's order is that of the first voxels
    rows.sort(key=lambda row: row[6])
    return np.array(rows, dtype=np.float64).reshape(-1, 13)


def as_rows(found: Components):
    """The same rows from components."""
    columns = [found.labels, found.sizes, *found.centroids.T, found.scores, found.first, *found.low.T, *found.high.T]
    return np.stack(columns, axis=1).astype(np.float64)


@st.composite
def label_maps(draw):
    """Small label maps: noise or blobs of any density, of up to four classes and ignored voxels."""
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 11), st.integers(1, 13)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = rng.choice(np.array([1, 2, 7, 254, 255], np.uint8), size=shape)
    field = rng.random(shape)
    if draw(st.booleans()):
        field = ndimage.uniform_filter(field, 3)
        values = np.repeat(np.repeat(np.repeat(values, 2, 0), 2, 1), 2, 2)[: shape[0], : shape[1], : shape[2]]
    threshold = np.quantile(field, draw(st.floats(0, 1)))
    return np.where(field >= threshold, values, 0).astype(np.uint8)


GEOMETRY = {
    "labels": label_maps(),
    "block": st.tuples(*[st.integers(1, 14)] * 3),
    "connectivity": st.sampled_from([6, 18, 26]),
    "per_class": st.booleans(),
    "structures": st.sampled_from([(), (2,), (1, 254)]),
    "seed": st.integers(0, 1000),
}
CHECKER = (np.indices((4, 4, 4)).sum(0) % 2).astype(np.uint8)
DIAGONAL = np.zeros((4, 4, 4), np.uint8)
DIAGONAL[[0, 1, 2, 3], [3, 2, 1, 0], [0, 1, 2, 3]] = 1


def blockwise(job, grid, order, merger=None):
    merger = merger or Merger(grid, job.connectivity, per_class=job.per_class, scored=job.probability is not None)
    for number in order:
        merger.add(grid[number], label_block(job, grid[number]))
    return merger, merger.finish()


def job_of(labels, probability=None, *, connectivity=6, per_class=False, structures=(), limits=None):
    return LabelJob(
        labels=ArraySource(labels),
        probability=None if probability is None else ArraySource(probability),
        shape=labels.shape,
        connectivity=connectivity,
        per_class=per_class,
        structures=structures,
        particles=None,
        limits=limits or SizeLimits({}, {}),
    )


@given(**GEOMETRY)
@settings(max_examples=250, deadline=None)
@example(labels=CHECKER, block=(2, 2, 2), connectivity=6, per_class=False, structures=(), seed=0)
@example(labels=CHECKER, block=(2, 2, 2), connectivity=18, per_class=False, structures=(), seed=0)
@example(labels=CHECKER, block=(1, 1, 1), connectivity=18, per_class=True, structures=(), seed=0)
@example(labels=DIAGONAL, block=(2, 2, 2), connectivity=26, per_class=False, structures=(), seed=0)
@example(labels=DIAGONAL, block=(1, 1, 1), connectivity=26, per_class=False, structures=(), seed=0)
def test_blocks_in_any_order_equal_scipy_on_the_whole_volume(labels, block, connectivity, per_class, structures, seed):
    rng = np.random.default_rng(seed)
    probability = rng.integers(0, 256, labels.shape, dtype=np.uint8)
    options = {"connectivity": connectivity, "per_class": per_class, "structures": structures}
    grid = BlockGrid(labels.shape, block)
    merger, found = blockwise(job_of(labels, probability, **options), grid, rng.permutation(len(grid)))
    np.testing.assert_array_equal(as_rows(found), whole_volume(labels, probability, **options))
    assert merger.faces_held == 0  # everything was dropped


@given(labels=label_maps(), block=GEOMETRY["block"], connectivity=GEOMETRY["connectivity"], per_class=st.booleans())
@settings(max_examples=40, deadline=None)
def test_find_components_is_the_same_for_whole_and_blocks(labels, block, connectivity, per_class):
    whole = find_components(labels, connectivity=connectivity, per_class=per_class)
    parts = find_components(labels, connectivity=connectivity, per_class=per_class, block=block)
    for name in ("sizes", "sums", "first", "low", "high", "vote_component", "vote_label", "vote_size"):
        mine, other = getattr(whole, name), getattr(parts, name)
        assert mine.dtype == other.dtype == np.int64
        np.testing.assert_array_equal(mine, other)
    assert np.isnan(whole.scores).all()


def spiral(n=25):
    """A line one voxel wide, winding inwards in y and x, then up: it comes back to each block many times."""
    volume = np.zeros((9, n, n), np.uint8)
    y, x, dy, dx = 0, 0, 0, 1
    length, turns = n - 1, 0
    volume[0, 0, 0] = 1
    while length > 0:
        for _ in range(length):
            y, x = y + dy, x + dx
            volume[0, y, x] = 1
        dy, dx, turns = dx, -dy, turns + 1
        length -= 2 if turns > 2 and turns % 2 else 0
    volume[:, y, x] = 1
    return volume


def test_a_spiral_through_many_blocks_is_one_component():
    labels = spiral()
    assert ndimage.label(labels)[1] == 1  # what the test is about
    assert 0.4 < labels[0].mean() < 0.6
    for block in [(4, 4, 4), (9, 3, 25), (1, 5, 2)]:
        found = find_components(labels, block=block)
        np.testing.assert_array_equal(as_rows(found), whole_volume(labels))


def test_combs_that_join_only_in_the_last_block_merge():
    labels = np.zeros((6, 16, 24), np.uint8)
    labels[0, :, ::2] = 3  # twelve teeth, apart in all blocks but the last row
    labels[0, 15, :] = 1
    labels[5, 0, 0] = 9
    found = find_components(labels, block=(3, 4, 5))
    np.testing.assert_array_equal(as_rows(found), whole_volume(labels))
    assert found.sizes.tolist() == [int((labels[0] > 0).sum()), 1]
    assert found.labels.tolist() == [3, 9]


@pytest.mark.parametrize("connectivity", [6, 18, 26])
@pytest.mark.parametrize("step", [s for s in np.ndindex(3, 3, 3) if s != (1, 1, 1)])
def test_two_voxels_across_each_face_edge_and_corner(step, connectivity):
    step = np.array(step) - 1
    labels = np.zeros((6, 6, 6), np.uint8)
    here = np.where(step > 0, 2, 3)  # the blocks meet between voxels 2 and 3
    labels[tuple(here)] = labels[tuple(here + step)] = 1
    found = find_components(labels, connectivity=connectivity, block=(3, 3, 3))
    assert len(found) == (1 if np.abs(step).sum() <= STEPS[connectivity] else 2)


@pytest.mark.parametrize("shape", [(3, 3, 3), (1, 7, 7), (1, 1, 99), (5, 5, 5)])
def test_the_densest_lattice_of_lone_voxels(shape):
    labels = np.zeros(shape, np.uint8)
    labels[::2, ::2, ::2] = 1
    for connectivity in (6, 18, 26):
        assert find_components(labels, connectivity=connectivity).sizes.tolist() == [1] * int(labels.sum())


def test_rows_do_not_wrap_around():
    # The last voxel of a row and the first of the next are neighbours in memory only.
    labels = np.zeros((4, 4, 6), np.uint8)
    labels[1, 1, 5] = labels[1, 2, 0] = labels[2, 3, 5] = labels[3, 0, 0] = 1
    for block in [(4, 1, 6), (1, 4, 6), (2, 2, 6), (1, 1, 3)]:
        assert len(find_components(labels, connectivity=26, block=block)) == 4


def test_the_comparison_with_scipy_notices_one_lost_merge(monkeypatch):
    labels = np.zeros((8, 8, 8), np.uint8)
    labels[2:6, 2:6, 2:6] = 1
    expected = whole_volume(labels)
    np.testing.assert_array_equal(as_rows(find_components(labels, block=(8, 8, 4))), expected)
    monkeypatch.setattr(Merger, "_touching", lambda *_: np.zeros((0, 2), np.int64))
    assert as_rows(find_components(labels, block=(8, 8, 4))).shape != expected.shape


def test_the_vote_goes_to_most_voxels_then_to_the_smallest_label():
    labels = np.zeros((4, 4, 12), np.uint8)
    labels[0, 0, :5] = [9, 9, 9, 2, 2]
    labels[2, 0, :4] = [7, 3, 3, 7]
    labels[2, 3, :6] = [5, 5, 4, 1, 1, 4]
    for block in [(4, 4, 12), (4, 4, 3), (2, 2, 1)]:
        found = find_components(labels, block=block)
        assert found.labels.tolist() == [9, 3, 1]
        assert found.sizes.tolist() == [5, 4, 6]


def test_a_score_is_the_mean_over_the_voxels_of_the_own_class():
    labels = np.zeros((1, 1, 8), np.uint8)
    probability = np.zeros((1, 1, 8), np.uint8)
    labels[0, 0, 1:6] = [4, 4, 4, 2, 2]
    probability[0, 0] = [255, 100, 101, 102, 255, 255, 255, 255]
    for block in [(1, 1, 8), (1, 1, 2)]:
        assert find_components(labels, probability, block=block).scores.tolist() == [303 / (255 * 3)]


def test_structures_background_and_ignore_never_enter():
    labels = np.array([[[1, 5, 1, 255, 1, 0, 2, 2]]], np.uint8)
    found = find_components(labels, structures=(5,), block=(1, 1, 3))
    assert found.sizes.tolist() == [1, 1, 1, 2]  # the structure and the ignored voxel keep the ones apart
    assert set(found.vote_label.tolist()) == {1, 2}
    assert len(find_components(labels, structures=(1, 2, 5))) == 0
    assert len(find_components(np.zeros((3, 3, 3), np.uint8), block=(2, 2, 2))) == 0


@pytest.mark.parametrize("limits", [SizeLimits({1: 6}, {}), SizeLimits({}, {1: 5}), SizeLimits({1: 2, 2: 3}, {2: 3})])
@given(labels=label_maps(), block=GEOMETRY["block"], per_class=st.booleans())
@settings(max_examples=30, deadline=None)
def test_sizes_are_judged_after_the_merge(limits, labels, block, per_class):
    # Small ones that end inside a block are dropped by its worker: the rest must not notice.
    grid = BlockGrid(labels.shape, block)
    _, found = blockwise(job_of(labels, per_class=per_class, limits=limits), grid, range(len(grid)))
    found = found.take(limits.accept(found))
    rows = whole_volume(labels, per_class=per_class)
    kept = [limits.smallest.get(row[0], 0) <= row[1] <= limits.largest.get(row[0], 10**9) for row in rows]
    np.testing.assert_array_equal(as_rows(found), rows[np.array(kept, bool)])


def test_crumbs_that_end_inside_a_block_never_leave_it():
    labels = np.zeros((8, 8, 8), np.uint8)
    labels[1, 1, 1] = labels[1, 1, 3] = labels[7, 7, 7] = 1
    job = job_of(labels, limits=SizeLimits({1: 2}, {}))
    part = label_block(job, BlockGrid((8, 8, 8), (4, 4, 4))[0])
    assert part.components.first.tolist() == [8 * 8 + 8 + 3]  # the one at the face may go on
    assert part.face_component.tolist() == [0]


def test_size_limits_of_classes():
    classes = [ParticleClass("a", 1, min_size=10, max_size=20), ParticleClass("b", 2)]
    assert SizeLimits.of(classes) == SizeLimits({1: 10}, {1: 20})
    assert SizeLimits.of(classes, 15).smallest[2] == 15
    assert SizeLimits.of((), None) == SizeLimits({}, {})
    with pytest.raises(SettingsError, match="min_size 30 is above the max_size 20 of class 'a'"):
        SizeLimits.of(classes, 30)


def test_faces_are_held_for_one_layer_of_blocks_only():
    labels = np.ones((24, 8, 8), np.uint8)
    grid = BlockGrid(labels.shape, (2, 4, 4))  # 12 layers of 4 blocks
    merger = Merger(grid, 26, per_class=False, scored=False)
    job = job_of(labels, connectivity=26)
    held = []
    for block in grid:
        merger.add(block, label_block(job, block))
        held.append(merger.faces_held)
    assert max(held) <= 8
    assert held[-1] == 0


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint16, np.int64, np.float32, np.float64, ">i2"])
def test_labels_of_any_type_that_holds_whole_numbers(dtype):
    labels = (np.random.default_rng(0).random((6, 7, 8)) < 0.4).astype(np.uint8)
    if dtype is not bool:
        labels *= 3
    found = find_components(labels.astype(dtype), block=(3, 3, 3))
    np.testing.assert_array_equal(as_rows(found), whole_volume(labels))


def test_dask_arrays_are_read_block_by_block():
    da = pytest.importorskip("dask.array")
    labels = (np.random.default_rng(1).random((9, 9, 9)) < 0.3).astype(np.uint8)
    found = find_components(da.from_array(labels, chunks=4), block=(4, 5, 9))
    np.testing.assert_array_equal(as_rows(found), whole_volume(labels))


@pytest.mark.parametrize(
    ("value", "found"), [(0.5, "the value 0.5"), (np.nan, "the value nan"), (np.inf, "found inf"), (-1.0, "found -1")]
)
def test_grey_values_are_no_labels(value, found):
    volume = np.zeros((3, 4, 5), np.float32)
    volume[1, 2, 3] = value
    with pytest.raises(FormatError, match=f"expected a label map .* {found}"):
        find_components(volume)


def test_instance_maps_and_wrong_arrays_are_refused():
    with pytest.raises(FormatError, match="labels from 0 to 255, found 1200"):
        find_components(np.full((2, 2, 2), 1200, np.int32))
    with pytest.raises(GeometryError, match="expected a label map"):
        find_components(np.zeros((4, 4), np.uint8))
    labels = np.ones((2, 2, 2), np.uint8)
    with pytest.raises(GeometryError, match="expected probabilities as uint8"):
        find_components(labels, np.ones((2, 2, 3), np.uint8))
    with pytest.raises(GeometryError, match="expected probabilities as uint8"):
        find_components(labels, np.ones((2, 2, 2), np.float32))
    with pytest.raises(SettingsError, match="connectivity 6, 18 or 26, got 8"):
        find_components(labels, connectivity=8)


def test_sums_hold_beyond_32_bits():
    # One voxel far out in a volume of 10**13 voxels, of which one block is looked at.
    class Far:
        shape = (20000, 30000, 40000)

        def read(self, box):
            values = np.zeros(box.shape, np.uint8)
            values[-1, -1, -2:] = 1
            return values

    grid = BlockGrid(Far.shape, (4, 4, 4))
    block = grid[len(grid) - 1]
    job = job_of(np.zeros((1, 1, 1), np.uint8))
    job = LabelJob(Far(), None, Far.shape, 6, False, (), None, job.limits)
    part = partial(label_block, job)(block).components
    assert part.sums.tolist() == [[2 * 19999, 2 * 29999, 39998 + 39999]]
    assert part.first.tolist() == [20000 * 30000 * 40000 - 2]
