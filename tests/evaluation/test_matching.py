"""Matching: against brute force, and the cases that other evaluators get wrong."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deepfinder_dask.errors import SettingsError
from deepfinder_dask.evaluation import EvaluateSettings, Tolerance, match


def brute_force(truth, found, reach, box):
    """Most pairs, then least total distance, over all ways to pair; None is unmatched."""
    distances = np.linalg.norm(truth[:, None] - found[None], axis=2)
    gates = np.abs(truth[:, None] - found[None]).max(axis=2) if box else distances
    for k in range(min(len(truth), len(found)), 0, -1):
        totals = [
            distances[list(a), list(b)].sum()
            for a in combinations(range(len(truth)), k)
            for b in permutations(range(len(found)), k)
            if (gates[list(a), list(b)] <= reach[list(a)]).all()
        ]
        if totals:
            return k, min(totals)
    return 0, 0.0


POINTS = st.lists(st.tuples(*[st.integers(0, 5)] * 3), max_size=4)


@settings(max_examples=150, deadline=None)
@given(POINTS, POINTS, st.lists(st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0]), min_size=4, max_size=4), st.booleans())
@example([(0, 0, 0), (0, 0, 2)], [(0, 0, 1), (0, 0, 3)], [1.0, 1.0, 1.0, 1.0], False)
@example([(0, 0, 0), (0, 0, 0)], [(0, 0, 0), (0, 0, 0)], [1.0] * 4, False)
def test_as_good_as_brute_force(truth, found, reach, box):
    a, b = np.reshape(truth, (-1, 3)).astype(float), np.reshape(found, (-1, 3)).astype(float)
    limits = np.asarray(reach[: len(a)])
    pairs = match(a, b, limits, box=box)
    count, total = brute_force(a, b, limits, box)
    assert len(pairs) == count
    assert pairs.distance.sum() == pytest.approx(total)
    assert len(set(pairs.truth.tolist())) == len(set(pairs.found.tolist())) == count
    np.testing.assert_allclose(pairs.distance, np.linalg.norm(a[pairs.truth] - b[pairs.found], axis=1))


def test_nearest_first_would_lose_a_pair():
    """The middle one is nearest to both; only giving it away matches all."""
    pairs = match([[0, 0, 0.0], [0, 0, 10.0]], [[0, 0, 9.0], [0, 0, 18.0]], 9.0)
    assert list(zip(pairs.truth, pairs.found, strict=True)) == [(0, 0), (1, 1)]


def test_a_truth_with_two_beside_it_is_one_hit():
    assert len(match([[0, 0, 0]], [[0, 0, 1], [0, 0, 1]], 5)) == 1


def test_two_truths_beside_one_found_are_one_hit():
    assert len(match([[0, 0, 0], [0, 0, 2]], [[0, 0, 1]], 5)) == 1


def test_the_limit_itself_counts_despite_rounding():
    truth = np.array([[0.0, 0.0, 7 * 10.52]])
    found = np.array([[0.0, 0.0, 10 * 10.52]])
    assert len(match(truth, found, 3 * 10.52)) == 1
    assert len(match(truth, found, 3 * 10.52 - 1e-4)) == 0
    assert len(match([[0, 0, 0]], [[3, 3, 3]], 3, box=True)) == 1
    assert len(match([[0, 0, 0]], [[3, 3, 3]], 3)) == 0


def test_nothing_to_match():
    for a, b in (([], []), ([[0, 0, 0]], []), ([], [[0, 0, 0]]), ([[0, 0, 0]], [[9, 9, 9]])):
        assert len(match(a, b, 1.0)) == 0


def test_thousands_of_particles():
    random = np.random.default_rng(0)
    truth = random.uniform(0, 1000, (4000, 3))
    moved = truth + random.normal(0, 2, truth.shape)
    order = random.permutation(len(truth))
    pairs = match(truth, np.concatenate([moved[order], random.uniform(0, 1000, (500, 3))]), 20.0)
    assert len(pairs) > 3990
    right = pairs.found < len(truth)
    assert (order[pairs.found[right]] == pairs.truth[right]).mean() > 0.95


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [("1r", 1, "r"), ("0.5r", 0.5, "r"), ("40A", 40, "A"), ("40 Å", 40, "A"), ("3vox", 3, "vox"), ("box", 1, "box")],
)
def test_tolerances(text, amount, unit):
    assert Tolerance.parse(text) == Tolerance(amount, unit)


@pytest.mark.parametrize("text", ["", "r", "0r", "-1A", "3", "3 px", "1e3A", "nanA", "box2", "3voxels"])
def test_tolerances_that_are_none(text):
    with pytest.raises(SettingsError, match="tolerance"):
        EvaluateSettings(tolerance=text)
