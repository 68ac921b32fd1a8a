"""Distances, angles, F-beta, average precision, pairs, the CZII score: by hand."""

from __future__ import annotations

import json
from math import isnan

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from deepfinder_dask.errors import OutputExistsError, SettingsError
from deepfinder_dask.evaluation import evaluate, write_pairs
from deepfinder_dask.evaluation.outcome import rotation_distance
from deepfinder_dask.particles import Particles
from deepfinder_dask.particles.angles import angles_of

from .conftest import scene, table


def test_distances_of_pairs():
    truth = table([(1, 100, 100, 100), (1, 500, 500, 500), (1, 900, 0, 0), (2, 0, 0, 900)])
    found = table([(1, 100, 100, 103), (1, 500, 500, 496), (2, 900, 12, 0), (2, 500, 0, 0)])
    result = evaluate(truth, found)
    own = result.class_details["a"].distance
    assert (own.count, own.mean, own.median) == (2, 3.5, 3.5)
    assert own.rms == pytest.approx(np.sqrt((9 + 16) / 2))
    assert result.class_details["b"].distance.count == 0
    assert result.localisation_details.distance.mean == pytest.approx((3 + 4 + 12) / 3)
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert document["classes"]["b"]["distance"] == {"count": 0, "mean": None, "median": None, "rms": None}
    in_voxels = evaluate(truth, found, tolerance="1vox").class_details["a"].distance
    assert in_voxels.mean == 3.5, "in Å whatever the tolerance counts"


def test_pairs_name_rows_and_classes(tmp_path):
    truth = Particles.concat([table([(1, 0, 0, 0)], tomogram="x"), table([(2, 500, 0, 0), (1, 0, 0, 0)], tomogram="y")])
    found = Particles.concat(
        [
            table([(1, 10, 0, 0), (1, 900, 0, 0)], tomogram="y", scores=[0.5, 0.25]),
            table([(2, 500, 30, 40)], tomogram="y", scores=[0.75]),
            table([(2, 0, 0, 0)], tomogram="x", scores=[1.0]),
        ]
    )
    pairs = evaluate(truth, found).pairs
    assert pairs is not None
    own = pairs[pairs["rule"] == "class"]
    assert own["truth_row"].tolist() == [1, 2]
    assert own["found_row"].tolist() == [2, 0]
    assert own["distance"].tolist() == [50, 10]
    assert own["score"].tolist() == [0.75, 0.5]
    blind = pairs[pairs["rule"] == "localisation"]
    assert list(zip(blind["tomogram"], blind["truth_class"], blind["found_class"], strict=True)) == [
        ("x", "a", "b"),
        ("y", "b", "b"),
        ("y", "a", "a"),
    ]
    assert pairs["angle"].isna().all()
    for name in ("p.csv", "p.parquet"):
        write_pairs(pairs, tmp_path / name)
        read = pd.read_csv(tmp_path / name) if name.endswith("csv") else pd.read_parquet(tmp_path / name)
        pd.testing.assert_frame_equal(read, pairs, check_dtype=False)
        with pytest.raises(OutputExistsError):
            write_pairs(pairs, tmp_path / name)
    with pytest.raises(SettingsError, match=r"\.csv or \.parquet"):
        write_pairs(pairs, tmp_path / "p.xlsx")
    empty = evaluate(truth, Particles.empty(found.tomograms, found.classes)).pairs
    assert empty is not None
    assert len(empty) == 0


def test_angles_between_orientations():
    start = Rotation.random(5, rng=np.random.default_rng(2))
    turned = Rotation.from_rotvec(np.radians([[0, 0, 30], [0, 90, 0], [10, 0, 0], [0, 0, 0], [180, 0, 0]])) * start
    angles = rotation_distance(angles_of(start), angles_of(turned))
    np.testing.assert_allclose(angles, [30, 90, 10, 0, 180], atol=1e-4)
    rows = [(1, 200 * i, 0, 0) for i in range(5)]
    half = angles_of(turned)
    half[4] = np.nan
    result = evaluate(table(rows, orientations=angles_of(start)), table(rows, orientations=half))
    spread = result.class_details["a"].angle
    assert (spread.count, spread.median) == (4, pytest.approx(20, abs=1e-4))
    assert "angle" in result.to_dict()["classes"]["a"]
    assert "angle" not in evaluate(table(rows), table(rows)).to_dict()["classes"]["a"]


def test_f_beta_and_means():
    truth = table([(1, 0, 0, 0), (1, 200, 0, 0), (1, 400, 0, 0), (2, 900, 900, 0)])
    found = table([(1, 0, 0, 0), (2, 900, 900, 0), (2, 0, 900, 900)])
    result = evaluate(truth, found, beta=2)
    precision, recall = 1.0, 1 / 3
    assert result.class_details["a"].f_beta == pytest.approx(5 * precision * recall / (4 * precision + recall))
    precision, recall = 1 / 2, 1.0
    assert result.class_details["b"].f_beta == pytest.approx(5 * precision * recall / (4 * precision + recall))
    assert result.macro["f1"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert evaluate(truth, found).overall_details.f_beta == evaluate(truth, found).overall.f1


def test_average_precision_of_classes_and_of_those_without_scores():
    truth = table([(1, 0, 0, 0), (1, 200, 0, 0), (2, 900, 0, 0), (2, 900, 300, 0)])
    rows = [(1, 500, 500, 0), (1, 0, 0, 0), (1, 200, 0, 0), (2, 900, 0, 0)]
    scored = evaluate(truth, table(rows, scores=[0.9, 0.8, 0.7, 0.5]))
    assert scored.class_details["a"].average_precision == pytest.approx(0.5 * 1 / 2 + 0.5 * 2 / 3)
    assert scored.class_details["b"].average_precision == 0.5
    assert scored.macro["average_precision"] == pytest.approx((7 / 12 + 0.5) / 2)
    assert not scored.notes
    partly = evaluate(truth, table(rows, scores=[0.9, np.nan, 0.7, 0.5]))
    assert isnan(partly.class_details["a"].average_precision)
    assert "average_precision" not in partly.class_details["a"].intervals
    assert partly.macro["average_precision"] == 0.5
    assert "['a']" in partly.notes[0]
    assert "3 found particles" in partly.notes[0]
    assert partly.to_dict()["classes"]["a"]["average_precision"] is None
    assert evaluate(truth, table([])).class_details["a"].average_precision == 0


def published(truth, found, radii, weights):
    """The CZII metric as it is published, with loops."""
    scores = {}
    for name, radius in radii.items():
        tp = fp = fn = 0
        for tomogram in truth.tomograms:
            a, b = (
                side.of_tomogram(tomogram).of_class(name).positions()
                if tomogram in side.tomograms
                else np.empty((0, 3))
                for side in (truth, found)
            )
            hit = sum(bool((np.linalg.norm(b - one, axis=1) <= radius / 2).any()) for one in a)
            tp, fp, fn = tp + hit, fp + len(b) - hit, fn + len(a) - hit
        precision = tp / (tp + fp) if tp + fp else 0
        recall = tp / (tp + fn) if tp + fn else 0
        scores[name] = 17 * precision * recall / (16 * precision + recall) if precision + recall else 0
    return sum(scores[name] * weights[name] for name in radii) / sum(weights.values())


@pytest.mark.parametrize("seed", range(4))
def test_czii_score_is_the_published_one(seed):
    truth, found = scene(seed, tomograms=3, count=50, spread=25.0)
    result = evaluate(truth, found, czii=True, class_weights=("a=2", "b=0.5"), bootstrap=0)
    assert result.czii == pytest.approx(published(truth, found, {"a": 50, "b": 100}, {"a": 2, "b": 0.5}))
    even = evaluate(truth, found, czii=True, bootstrap=0)
    assert even.czii == pytest.approx(published(truth, found, {"a": 50, "b": 100}, {"a": 1, "b": 1}))
    assert set(even.to_dict()["czii"]["classes"]) == {"a", "b"}
    assert "czii" not in evaluate(truth, found, bootstrap=0).to_dict()


def test_czii_score_by_hand_and_what_it_needs():
    truth = table([(1, 0, 0, 0), (1, 30, 0, 0), (1, 500, 0, 0)])
    found = table([(1, 15, 0, 0), (1, 526, 0, 0), (2, 0, 0, 0)])
    score = evaluate(truth, found, czii=True)
    assert score.czii == pytest.approx(17 * 2 / (16 * 3 + 2)), "one found particle finds two, 26 Å is beyond 25"
    assert list(score.czii_classes) == ["a"], "a class that the truth lacks does not count"
    for weights, words in (("c=1", "no class 'c'"), ("a=0", "are 0")):
        with pytest.raises(SettingsError, match=words):
            evaluate(truth, found, czii=True, class_weights=(weights,))
