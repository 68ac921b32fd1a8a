"""Hits in order of score, curves, average precision: against scikit-learn, brute force and numbers by hand."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from sklearn.metrics import average_precision_score

from deepfinder_dask.evaluation import Curve, evaluate
from deepfinder_dask.evaluation.ranking import ranked_hits

from .conftest import scene

EDGES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), max_size=14, unique=True)
SCORES = st.lists(st.integers(0, 3), min_size=6, max_size=6)


def edges_of(pairs):
    return tuple(np.array(pairs, dtype=np.int64).reshape(-1, 2).T)


def largest(pairs, kept):
    """Size of the largest matching that uses only these found particles."""
    graph = np.zeros((5, 6), dtype=int)
    for truth, found in pairs:
        graph[truth, found] = found in kept
    return int((maximum_bipartite_matching(csr_array(graph)) >= 0).sum())


@settings(max_examples=200)
@given(EDGES, SCORES)
@example([(0, 0), (1, 0), (0, 1)], [3, 2, 0, 0, 0, 0])
@example([(0, 0), (1, 0), (1, 1), (2, 1), (0, 2)], [3, 2, 1, 0, 0, 0])
def test_hits_above_every_threshold_are_the_largest_matching(pairs, scores):
    hits = ranked_hits(edges_of(pairs), np.array(scores, float), 5)
    for threshold in range(4):
        kept = [i for i, score in enumerate(scores) if score >= threshold]
        assert hits[kept].sum() == largest(pairs, kept)


def test_an_earlier_hit_moves_to_another_truth():
    """The best one takes the first truth in reach; the next has only that one, so the best moves over."""
    assert ranked_hits(edges_of([(0, 0), (1, 0), (0, 1)]), [0.9, 0.8], 2).tolist() == [True, True]
    assert ranked_hits(edges_of([(0, 0), (0, 1)]), [0.1, 0.8], 1).tolist() == [False, True]


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=30), st.integers(0, 5))
def test_average_precision_is_scikit_learns(found, missed):
    scores, hits = np.array([s for s, _ in found], float), np.array([h for _, h in found])
    true = int(hits.sum()) + missed
    ours = Curve.of(scores, hits, true).average_precision
    if not true:
        assert isnan(ours)
    elif not hits.any():
        assert ours == 0
    else:
        assert ours == pytest.approx(average_precision_score(hits, scores) * hits.sum() / true)


def test_a_curve_by_hand():
    curve = Curve.of([0.9, 0.8, 0.8, 0.3], [True, False, True, True], true=5)
    assert curve.thresholds.tolist() == [0.9, 0.8, 0.3]
    assert curve.found.tolist() == [1, 3, 4]
    assert curve.matched.tolist() == [1, 2, 3]
    assert curve.precision.tolist() == [1, 2 / 3, 3 / 4]
    assert curve.recall.tolist() == [0.2, 0.4, 0.6]
    assert curve.average_precision == pytest.approx(0.2 * (1 + 2 / 3 + 3 / 4))
    assert curve.best == (0.3, pytest.approx(2 * 3 / 9))
    nothing = Curve.of([], [], true=2)
    assert nothing.average_precision == 0
    assert isnan(nothing.best[0])


def test_curve_says_what_evaluate_says_of_fewer_particles():
    """Crowded, so that found particles compete: at each threshold the curve is the evaluation of what is left."""
    truth, found = scene(3, count=120, found=1.0, false=80, spread=60.0)
    curve = evaluate(truth, found, bootstrap=0).class_details["a"].curve
    assert curve is not None
    for at in range(0, len(curve.thresholds), 9):
        kept = found.where(found.table["score"] >= curve.thresholds[at])
        score = evaluate(truth, kept, bootstrap=0).classes["a"]
        assert (score.true, score.found, score.matched) == (curve.true, curve.found[at], curve.matched[at])
