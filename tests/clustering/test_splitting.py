"""Parting of touching particles: the same voxel sets as on the whole volume, whatever the blocks."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.segmentation import watershed

from deepfinder_dask.blocks import Box
from deepfinder_dask.clustering import ClusterWarning, cluster, splitting
from deepfinder_dask.errors import SettingsError
from deepfinder_dask.particles import ParticleClass, classes_to_dicts
from deepfinder_dask.tomograms import create_group, create_image, finish_group, finish_image, open_image

RADIUS = 6.0
CLASSES = (ParticleClass("ribosome", 1, radius=10 * RADIUS), ParticleClass("other", 3, radius=10 * RADIUS))
SHAPE = (40, 48, 64)
CENTRES = [
    # A pair across the border of blocks of 16, one along each axis, and a chain of four through many blocks.
    [(8.0, 8.0, 10.5), (8.0, 8.0, 20.0)],
    [(9.0, 26.5, 9.0), (9.0, 36.3, 9.0)],
    [(26.0, 8.0, 50.0), (35.0, 9.5, 52.0)],
    [(26.0, 30.0, 8.0), (28.0, 31.0, 18.0), (26.5, 33.5, 27.5), (29.0, 32.0, 37.0)],
    [(10.0, 36.0, 50.0)],  # alone
]


def planted(shape=SHAPE, groups=CENTRES, radius=RADIUS, label=1, seed=0):
    """Balls that touch within each group, and a noisy probability that is saturated in most of each ball."""
    rng = np.random.default_rng(seed)
    centres = np.array([c for group in groups for c in group])
    index = np.indices(shape).reshape(3, -1).T
    distance = np.sqrt(((index[:, None] - centres) ** 2).sum(-1))
    owner = distance.argmin(1).reshape(shape)
    inside = distance.min(1).reshape(shape)
    labels = np.where(inside <= radius, label, 0).astype(np.uint8)
    soft = np.clip(255 * (1.3 - 0.7 * inside / radius) + rng.normal(0, 12, shape), 128, 255)
    return labels, np.rint(soft).astype(np.uint8), np.where(labels > 0, owner + 1, 0)


def store(path, labels, probability=None, classes=CLASSES):
    create_group(path, kind="segmentation")
    for name, values in (("labels", labels), ("probability", probability)):
        if values is not None:
            volume = create_image(f"{path}/{name}", shape=labels.shape, dtype="uint8", voxel_size=10.0)
            volume.write(Box.whole(labels.shape), values)
            finish_image(f"{path}/{name}")
    finish_group(path, {"tomogram": "t", "classes": classes_to_dicts(classes)})
    return path


def plain(labels, probability, distance, steps=1, per_class=False):
    """The definition on the whole volume, word by word: every voxel's particle in canonical order."""
    masks = [labels == n for n in np.unique(labels[labels > 0])] if per_class else [labels > 0]
    near = ndimage.generate_binary_structure(3, steps)
    found = []
    for mask in masks:
        numbers, n = ndimage.label(mask, near)
        for number in range(1, n + 1):
            own = numbers == number
            depth = np.rint(16 * ndimage.distance_transform_edt(np.pad(own, 1))[1:-1, 1:-1, 1:-1]).astype(np.int64)
            if probability is not None:
                depth *= probability
            wide = np.pad(depth, 1)
            moves = list(product(range(3), repeat=3))
            z, y, x = depth.shape
            summed = sum(wide[a : a + z, b : b + y, c : c + x] for a, b, c in moves) * own
            wide = np.pad(summed, 1)
            highest = np.max([wide[a : a + z, b : b + y, c : c + x] for a, b, c in moves], axis=0)
            places = sorted(map(tuple, np.argwhere(own & (summed == highest))), key=lambda p: (-summed[p], p))
            peaks = []
            for place in places:
                if all(np.subtract(place, one) @ np.subtract(place, one) >= distance**2 for one in peaks):
                    peaks.append(place)
            markers = np.zeros(labels.shape, np.int32)
            for mark, place in enumerate(peaks, start=1):
                markers[place] = mark
            basins = watershed(-summed, markers, connectivity=near, mask=own)
            found += [basins == mark for mark in range(1, len(peaks) + 1)]
    found.sort(key=lambda one: np.flatnonzero(one)[0])
    result = np.zeros(labels.shape, np.uint32)
    for number, one in enumerate(found, start=1):
        result[one] = number
    return result


@pytest.fixture(scope="module", params=[True, False], ids=["probability", "no probability"])
def case(request, tmp_path_factory):
    labels, probability, owner = planted()
    probability = probability if request.param else None
    path = store(str(tmp_path_factory.mktemp("split") / "seg.zarr"), labels, probability)
    return path, owner, plain(labels, probability, RADIUS)


@pytest.mark.parametrize(
    ("block", "workers"), [((400, 400, 400), None), ((16, 16, 16), None), ((8, 20, 12), None), ((16, 16, 16), 2)]
)
def test_voxels_are_parted_as_on_the_whole_volume(case, tmp_path, block, workers):
    path, owner, expected = case
    instances = str(tmp_path / "instances.zarr")
    options = {"instances": instances, "block": block, "workers": workers}
    found = cluster(path, split=True, **options)  # the distance is the classes' radius
    values = open_image(instances).levels[0].read()
    np.testing.assert_array_equal(values, expected)
    assert len(found) == 11 == sum(map(len, CENTRES))
    assert np.bincount(values.ravel())[1:].tolist() == found.table["size_voxels"].tolist()
    # What was planted comes back, but for voxels where two balls meet.
    assert (values > 0).sum() == (owner > 0).sum()
    truth = [np.bincount(owner[values == n]).argmax() for n in range(1, len(found) + 1)]
    assert sorted(truth) == list(range(1, len(found) + 1))
    assert (np.array([0, *truth])[values] == owner).mean() > 0.999
    whole = cluster(path, block=block, method="components")
    assert len(whole) == len(CENTRES)  # without splitting each group is one


def test_scores_and_centres_are_those_of_the_parts(case):
    path, _, expected = case
    found = cluster(path, split=True, block=(16, 16, 16)).table
    centres = np.array(ndimage.center_of_mass(expected > 0, expected, range(1, len(found) + 1)))
    np.testing.assert_allclose(found[["z", "y", "x"]], 10 * centres)
    if found["score"].notna().any():
        probability = open_image(f"{path}/probability").levels[0].read()
        means = ndimage.mean(probability.astype(float), expected, range(1, len(found) + 1))
        np.testing.assert_allclose(found["score"], means / 255)


@st.composite
def crowds(draw):
    """Small crowded label maps of two classes, with noise."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.tuples(*[st.integers(5, 20)] * 3))
    field = ndimage.gaussian_filter(rng.normal(size=shape), draw(st.sampled_from([0.7, 1.5])))
    labels = np.where(field > np.quantile(field, draw(st.floats(0.5, 0.9))), rng.choice([1, 3]), 0).astype(np.uint8)
    labels[shape[0] // 2 :][labels[shape[0] // 2 :] > 0] = rng.choice([1, 3])
    probability = rng.integers(128, 256, shape, dtype=np.uint8) if draw(st.booleans()) else None
    return labels, probability


@given(
    crowd=crowds(),
    block=st.tuples(*[st.sampled_from([4, 8, 12])] * 3),
    distance=st.sampled_from([1, 2.5, 4]),
    connectivity=st.sampled_from([6, 18, 26]),
    per_class=st.booleans(),
)
@settings(max_examples=25)
def test_any_crowd_is_parted_as_on_the_whole_volume(tmp_path_factory, crowd, block, distance, connectivity, per_class):
    labels, probability = crowd
    folder = tmp_path_factory.mktemp("crowd")
    path = store(str(folder / "seg.zarr"), labels, probability)
    cluster(
        path,
        instances=str(folder / "i.zarr"),
        split=True,
        split_distance=distance,
        block=block,
        connectivity=connectivity,
        per_class=per_class,
    )
    expected = plain(labels, probability, distance, {6: 1, 18: 2, 26: 3}[connectivity], per_class)
    np.testing.assert_array_equal(open_image(str(folder / "i.zarr")).levels[0].read(), expected)


def test_sizes_are_judged_after_splitting(tmp_path):
    labels, _, _ = planted(groups=[CENTRES[0], [(30.0, 30.0, 40.0)]])
    ball = int((planted(groups=[[(20.0, 20.0, 20.0)]])[0] > 0).sum())
    classes = (ParticleClass("ribosome", 1, radius=60.0, min_size=ball // 2, max_size=ball + 50), CLASSES[1])
    labels[38, 46, 60:] = 1  # a crumb
    path = store(str(tmp_path / "seg.zarr"), labels, classes=classes)
    for block in [(8, 8, 8), (400, 400, 400)]:
        assert len(cluster(path, block=block, method="components")) == 1  # the pair is too large as one
        assert len(cluster(path, block=block, split=True)) == 3


def test_what_is_too_large_stays_whole_and_is_named(case, monkeypatch, tmp_path):
    path, _, _ = case
    monkeypatch.setattr(splitting, "SPLIT_VOXELS", 20_000)
    labels = open_image(f"{path}/labels").levels[0].read()
    numbers, n = ndimage.label(labels)
    boxes = [np.prod([s.stop - s.start for s in box]) for box in ndimage.find_objects(numbers)]
    assert sum(size > 20_000 for size in boxes) == 0
    monkeypatch.setattr(splitting, "SPLIT_VOXELS", 5_000)
    large = [k for k in range(n) if boxes[k] > 5_000]
    assert len(large) == 1
    first = tuple(np.argwhere(numbers == large[0] + 1)[0].tolist())
    for block in [(16, 16, 16), (400, 400, 400)]:
        with pytest.warns(ClusterWarning) as caught:
            found = cluster(path, split=True, block=block, instances=str(tmp_path / f"{block[0]}.zarr"))
        text = str(caught[0].message)
        assert "1 components are too large to be split" in text
        assert str(first) in text
        assert len(found) == 8
    values = [open_image(str(tmp_path / f"{one}.zarr")).levels[0].read() for one in (16, 400)]
    np.testing.assert_array_equal(*values)


def test_memory_that_cannot_hold_the_largest_box_is_refused(case):
    with pytest.raises(
        SettingsError, match=r"splitting needs 696 MiB, .* allowed are 500: use at least --memory 696MiB"
    ):
        cluster(case[0], split=True, memory=500 * 2**20)


def test_a_class_without_a_radius_needs_a_distance(tmp_path):
    labels, _, _ = planted()
    path = store(str(tmp_path / "seg.zarr"), labels, classes=(CLASSES[0], ParticleClass("odd", 3)))
    with pytest.raises(SettingsError, match=r"class 'odd' .* have none: give --split-distance VOXELS"):
        cluster(path, split=True)
    assert len(cluster(path, split=True, split_distance=RADIUS)) == 11
    zarr.save_array(tmp_path / "plain.zarr", labels)
    with pytest.raises(SettingsError, match=r"the labels of .*plain.zarr have none"):
        cluster(tmp_path / "plain.zarr", split=True, voxel_size=10.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": True, "method": "mean-shift", "bandwidth": 4}, "split belongs to components"),
        ({"split_distance": 4}, "give --split too"),
        ({"split": True, "split_distance": 0.5}, "1 or more, got 0.5"),
        ({"split": True, "split_distance": True}, "1 or more, got True"),
    ],
)
def test_settings_that_cannot_work(options, message):
    with pytest.raises(SettingsError, match=message):
        cluster("nothing.zarr", **options)
