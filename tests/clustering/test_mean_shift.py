"""Blockwise mean-shift equals scikit-learn on all voxels at once: centres, order and the cluster of every voxel."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import MeanShift

from deepfinder_dask.blocks import BlockGrid
from deepfinder_dask.clustering import Clusters, find_clusters, kernels
from deepfinder_dask.clustering import mean_shift as driver
from deepfinder_dask.clustering.shift_job import Group, ShiftJob, halo_of
from deepfinder_dask.clustering.shifting import STEPS, shift_block
from deepfinder_dask.clustering.suppression import distinct_centres
from deepfinder_dask.errors import FormatError, GeometryError, SettingsError
from deepfinder_dask.execution import SerialExecutor, open_executor
from deepfinder_dask.tomograms.boxes import ArraySource


def balls(shape, n, smallest, largest, seed):
    """Balls of three classes anywhere, many touching."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    index = np.ogrid[tuple(slice(0, n) for n in shape)]
    for _ in range(n):
        centre, radius = rng.integers(0, shape), rng.integers(smallest, largest + 1)
        labels[sum((i - c) ** 2 for i, c in zip(index, centre, strict=True)) <= radius**2] = rng.integers(1, 4)
    return labels


def noise(shape, density, seed=3):
    """Voxels of three classes, each on its own."""
    rng = np.random.default_rng(seed)
    return ((rng.random(shape) < density) * rng.integers(1, 4, shape)).astype(np.uint8)


def lattice(shape, radius, spacing):
    """Equal balls that touch: as many ties as there can be."""
    labels = np.zeros(shape, np.uint8)
    index = np.ogrid[tuple(slice(0, n) for n in shape)]
    for centre in np.ndindex(*((n - 1) // spacing for n in shape)):
        distance = sum((i - spacing * c - radius) ** 2 for i, c in zip(index, centre, strict=True))
        labels[distance <= radius**2] = 1 + sum(centre) % 3
    return labels


def lone(shape, spacing):
    """Voxels far apart."""
    labels = np.zeros(shape, np.uint8)
    labels[::spacing, ::spacing, ::spacing] = 2
    return labels


VOLUMES = {
    "balls": lambda: balls((28, 32, 40), 8, 3, 5, 1),
    "touching": lambda: balls((26, 26, 30), 12, 3, 5, 2),
    "noise 0.2 %": lambda: noise((48, 48, 48), 0.002),
    "noise 2 %": lambda: noise((32, 36, 40), 0.02),
    "noise 10 %": lambda: noise((24, 28, 30), 0.1),
    "noise 30 %": lambda: noise((18, 19, 20), 0.3),
    "lattice": lambda: lattice((17, 17, 25), 4, 8),
    "lattice of 5": lambda: lattice((21, 21, 31), 5, 10),
    "lone": lambda: lone((30, 30, 30), 7),
    "full": lambda: np.ones((9, 10, 11), np.uint8),
    "plane": lambda: noise((1, 60, 70), 0.3),
    "line": lambda: noise((1, 1, 300), 0.5),
    "balls of the paper": lambda: balls((96, 96, 96), 24, 8, 12, 1),
    "noise 5 % of the paper": lambda: noise((72, 72, 72), 0.05),
    "lattice of the paper": lambda: lattice((81, 81, 81), 8, 16),
}


@cache
def volume(name):
    return VOLUMES[name]()


@cache
def expected(name, bandwidth):
    """Centres and the cluster of every voxel, by scikit-learn."""
    return by_sklearn(volume(name), bandwidth)


def by_sklearn(labels, bandwidth):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Binning data failed")
        found = MeanShift(bandwidth=bandwidth, bin_seeding=True).fit(np.argwhere(labels > 0))
    return found.cluster_centers_, found.labels_


def check(found: Clusters, labels, reference):
    """All that is known of the clusters, against what scikit-learn says of the voxels."""
    centres, owner = reference
    np.testing.assert_array_equal(found.centers, centres)
    np.testing.assert_array_equal(found.members, owner)
    voxels = np.argwhere(labels > 0)
    occupied = np.unique(owner)
    np.testing.assert_array_equal(found.occupied, occupied)
    line = np.flatnonzero(labels)
    for row, one in enumerate(occupied):
        own = voxels[owner == one]
        inside = labels[tuple(own.T)]
        assert found.components.sizes[row] == len(own)
        np.testing.assert_array_equal(found.components.sums[row], own.sum(axis=0))
        np.testing.assert_array_equal(found.components.low[row], own.min(axis=0))
        np.testing.assert_array_equal(found.components.high[row], own.max(axis=0) + 1)
        assert found.components.first[row] == line[owner == one][0]
        assert found.components.labels[row] == np.bincount(inside).argmax()


WHOLE = (100, 100, 300)
CONFIGURATIONS = [
    *[("balls", h, b) for h in (3.0, 5, 4.5) for b in (WHOLE, (24, 24, 24), (17, 9, 13))],
    *[("touching", h, b) for h in (4, 5.0) for b in (WHOLE, (24, 24, 24), (11, 40, 7))],
    *[("noise 0.2 %", 5, b) for b in (WHOLE, (24, 24, 24), (13, 10, 48))],
    *[("noise 2 %", h, b) for h in (5, 2.7) for b in (WHOLE, (24, 24, 24), (10, 10, 10))],
    *[("noise 10 %", 4.2, b) for b in (WHOLE, (24, 24, 24), (8, 9, 10))],
    *[("noise 30 %", h, b) for h in (5, 3.3) for b in (WHOLE, (24, 24, 24), (7, 8, 9))],
    *[("lattice", h, b) for h in (3.0, 5, 8) for b in (WHOLE, (24, 24, 24), (16, 8, 11))],
    *[("lattice of 5", h, b) for h in (3, 5) for b in (WHOLE, (24, 24, 24), (10, 12, 14))],
    *[("lone", h, b) for h in (3.0, 7, 10) for b in (WHOLE, (24, 24, 24))],
    *[("full", h, b) for h in (2, 30.0) for b in (WHOLE, (5, 5, 5))],
    *[("plane", 4, b) for b in (WHOLE, (1, 7, 9))],
    *[("line", 5, b) for b in (WHOLE, (3, 3, 8))],
]


@pytest.mark.parametrize(("name", "bandwidth", "block"), CONFIGURATIONS)
def test_blocks_equal_scikit_learn_on_all_voxels(name, bandwidth, block):
    labels = volume(name)
    found = find_clusters(labels, bandwidth=bandwidth, block=block, members=True)
    check(found, labels, expected(name, bandwidth))


def test_there_are_forty_configurations():
    assert len(CONFIGURATIONS) >= 40


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", [name for name in VOLUMES if "paper" in name])
@pytest.mark.parametrize("bandwidth", [5, 8.0])
def test_large_volumes_equal_scikit_learn(name, bandwidth):
    labels = volume(name)
    for block in [WHOLE, (48, 48, 48), (24, 24, 24), (29, 31, 37)]:
        check(find_clusters(labels, bandwidth=bandwidth, block=block, members=True), labels, expected(name, bandwidth))


def test_two_workers_equal_scikit_learn():
    cases = [("balls", 3.0, (17, 9, 13)), ("touching", 5.0, (24, 24, 24)), ("lattice", 3.0, (16, 8, 11))]
    with open_executor(2) as executor:
        for name, bandwidth, block in cases:
            labels = volume(name)
            found = find_clusters(labels, bandwidth=bandwidth, block=block, members=True, executor=executor)
            check(found, labels, expected(name, bandwidth))


class Shuffled(SerialExecutor):
    """Items in another order than they were given."""

    def run(self, function, items, *, label, failures=None, among=None):
        order = np.random.default_rng(len(items)).permutation(len(items))
        for index, result in super().run(function, [items[i] for i in order], label=label, failures=failures):
            yield int(order[index]), result


@pytest.mark.parametrize("name", ["touching", "lattice"])
def test_the_order_of_blocks_changes_nothing(name):
    found = find_clusters(volume(name), bandwidth=5, block=(8, 9, 10), members=True, executor=Shuffled())
    check(found, volume(name), expected(name, 5))


def points(*places, shape=(20, 20, 20)):
    labels = np.zeros(shape, np.uint8)
    for place in places:
        labels[place] = 3
    return labels


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 11, 12, 13])
@pytest.mark.parametrize("spread", [3, 20])
@pytest.mark.parametrize("bandwidth", [1, 2.5, 6])
def test_a_handful_of_voxels(count, spread, bandwidth):
    # Up to 11 voxels or centres, and up to 3 for the nearest one, scikit-learn measures distances another way.
    rng = np.random.default_rng(count)
    lines = rng.choice(spread**3, count, replace=False)
    labels = points(*zip(*np.unravel_index(lines, (spread,) * 3), strict=True))
    for block in [(20, 20, 20), (6, 7, 8)]:
        check(
            find_clusters(labels, bandwidth=bandwidth, block=block, members=True), labels, by_sklearn(labels, bandwidth)
        )


@pytest.mark.parametrize("bandwidth", [2, 4, 5])
@pytest.mark.parametrize("gap", [4, 5, 6, 7, 8])
def test_two_and_three_equal_cubes(bandwidth, gap):
    # With so few centres, ties are settled among matrix products.
    for cubes in (2, 3):
        labels = np.zeros((8, 8, 40), np.uint8)
        for n in range(cubes):
            labels[2:6, 2:6, 3 + n * gap : 6 + n * gap] = n + 1
        for block in [(8, 8, 40), (3, 4, 5)]:
            found = find_clusters(labels, bandwidth=bandwidth, block=block, members=True)
            check(found, labels, by_sklearn(labels, bandwidth))


def test_nothing_gives_no_clusters():
    for labels in (np.zeros((5, 6, 7), np.uint8), np.full((5, 6, 7), 255, np.uint8)):
        found = find_clusters(labels, bandwidth=3, members=True)
        assert len(found) == len(found.components) == len(found.members) == 0
    assert len(find_clusters(np.ones((4, 4, 4), np.uint8), bandwidth=3, structures=(1,))) == 0


def test_far_from_the_origin():
    labels = np.zeros((8, 9, 3000), np.uint8)
    labels[:, :, -20:] = noise((8, 9, 20), 0.5)
    labels[2:5, 3:6, 1400:1407] = 1
    check(find_clusters(labels, bandwidth=4, block=(8, 9, 700), members=True), labels, by_sklearn(labels, 4))


def test_each_label_alone():
    labels = volume("touching")
    found = find_clusters(labels, bandwidth={3: 4.0, 1: 5.0}, block=(24, 24, 24))
    alone = [by_sklearn(labels == n, h) for n, h in ((1, 5.0), (3, 4.0))]
    np.testing.assert_array_equal(found.centers, np.concatenate([centres for centres, _ in alone]))
    sizes = np.concatenate([np.bincount(owner) for _, owner in alone])
    np.testing.assert_array_equal(found.components.sizes, sizes)
    assert set(found.components.vote_label.tolist()) == {1, 3}


def test_a_score_is_the_mean_over_the_voxels_of_the_own_class():
    labels = np.zeros((1, 1, 8), np.uint8)
    probability = np.zeros((1, 1, 8), np.uint8)
    labels[0, 0, 1:6] = [4, 4, 4, 2, 2]
    probability[0, 0] = [255, 100, 101, 102, 255, 255, 255, 255]
    for block in [(1, 1, 8), (1, 1, 2)]:
        found = find_clusters(labels, probability, bandwidth=9, block=block)
        assert found.components.scores.tolist() == [303 / (255 * 3)]
        assert found.components.labels.tolist() == [4]


def test_ties_count_their_probabilities_too():
    labels, rng = volume("lattice"), np.random.default_rng(0)
    probability = rng.integers(0, 256, labels.shape, dtype=np.uint8)
    found = find_clusters(labels, probability, bandwidth=3, block=(16, 8, 11), members=True)
    owner, inside = found.members, probability[labels > 0]
    assert found.components.vote_probability.sum() == inside.sum(dtype=np.int64)
    votes = np.zeros(len(found), np.int64)
    np.add.at(votes, found.components.vote_component, found.components.vote_probability)
    np.testing.assert_array_equal(votes, np.bincount(owner, inside, len(found)))


def test_a_trajectory_that_leaves_goes_on_in_the_next_block():
    # A slope of growing density: what starts on the left climbs through many narrow blocks.
    x = np.arange(60)
    labels = (np.random.default_rng(0).random((12, 12, 60)) < x / 80).astype(np.uint8)
    grid = BlockGrid(labels.shape, (12, 12, 5))
    rounds = []

    class Counting(SerialExecutor):
        def run(self, function, items, *, label, **options):
            rounds.append(label)
            return super().run(function, items, label=label, **options)

    whole, narrow = driver.halo_of, lambda h: int(np.ceil(h)) + 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "halo_of", narrow)
        found = find_clusters(labels, bandwidth=3.5, block=grid.core, members=True, executor=Counting())
    assert rounds.count("shift") > 2
    check(found, labels, by_sklearn(labels, 3.5))
    assert whole(3.5) > narrow(3.5)


def test_the_comparison_notices_trajectories_that_are_lost_at_a_border(monkeypatch):
    def stopping(job, item):
        part = shift_block(job, item)
        return replace(part, left=np.zeros_like(part.left))

    monkeypatch.setattr(driver, "shift_block", stopping)
    monkeypatch.setattr(driver, "halo_of", lambda h: int(np.ceil(h)) + 2)
    found = find_clusters(volume("noise 30 %"), bandwidth=5, block=(7, 8, 9))
    assert not np.array_equal(found.centers, expected("noise 30 %", 5)[0])


def test_a_step_limit_is_kept_across_blocks():
    labels = volume("balls")
    job = ShiftJob(ArraySource(labels), None, labels.shape, (Group((1, 2, 3), 3.0),), None, members=False)
    grid = BlockGrid(labels.shape, labels.shape)
    item = driver.Trajectories(0, 0, grid[0].write, np.array([[10.3, 20.1, 30.7]]), np.array([STEPS]))
    assert shift_block(job, item).iteration.tolist() == [STEPS]


def test_the_last_of_equal_centres_gives_the_count():
    centres = np.array([[1.0, 2, 3], [4, 5, 6], [1, 2, 3], [0, 0, 0], [4, 5, 7]])
    found, counts = distinct_centres(centres, np.array([9, 5, 4, 0, 5]))
    assert found.tolist() == [[4, 5, 7], [4, 5, 6], [1, 2, 3]]
    assert counts.tolist() == [5, 5, 4]


@pytest.mark.parametrize("dtype", [bool, np.int16, np.float32])
def test_labels_of_any_type(dtype):
    labels = (volume("noise 10 %") > 0).astype(dtype)
    check(
        find_clusters(labels, bandwidth=4.2, block=(9, 9, 9), members=True),
        labels.astype(np.uint8),
        expected("noise 10 %", 4.2),
    )


def test_read_only_and_dask_arrays():
    da = pytest.importorskip("dask.array")
    labels = volume("noise 10 %").copy()
    labels.flags.writeable = False
    check(find_clusters(labels, bandwidth=4.2, members=True), labels, expected("noise 10 %", 4.2))
    lazy = da.from_array(volume("noise 10 %"), chunks=9)
    check(find_clusters(lazy, bandwidth=4.2, block=(9, 9, 9), members=True), labels, expected("noise 10 %", 4.2))


def test_wrong_arrays_and_bandwidths_are_refused():
    labels = np.ones((4, 4, 4), np.uint8)
    for bandwidth in (0, -1, float("inf"), float("nan")):
        with pytest.raises(SettingsError, match="bandwidth is a length above 0"):
            find_clusters(labels, bandwidth=bandwidth)
    with pytest.raises(GeometryError, match="expected a label map"):
        find_clusters(np.ones((4, 4), np.uint8), bandwidth=3)
    with pytest.raises(FormatError, match="labels from 0 to 255, found 1200"):
        find_clusters(np.full((2, 2, 2), 1200, np.int32), bandwidth=3)


def test_the_halo_lets_every_trajectory_take_a_step():
    for bandwidth in (0.3, 1, 4.5, 20):
        assert halo_of(bandwidth) >= np.ceil(bandwidth) + 2


def test_compiled_code_needs_no_place_to_be_kept(tmp_path):
    # The package read-only, and no home: compiled anew each time, but it works.
    code = (
        "import numba.core.caching as c\n"
        "c.CacheImpl._locator_classes = []\n"
        "import numpy as np\n"
        "from deepfinder_dask.clustering import kernels\n"
        "labels = np.ones((1, 1, 70), np.uint8)\n"
        "bits = kernels.pack(labels, np.arange(256) > 0, np.zeros(256, bool))\n"
        "assert bits.tolist() == [[[2**64 - 1, 63, 0]]]\n"
    )
    place = str(Path(kernels.__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": place},
    )
    assert done.returncode == 0, done.stderr
