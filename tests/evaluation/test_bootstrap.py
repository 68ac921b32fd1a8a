"""Confidence intervals: reproducible, independent of any order, as wide as they should be."""

from __future__ import annotations

import json
from math import isnan, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfinder_dask.errors import SettingsError
from deepfinder_dask.evaluation import evaluate
from deepfinder_dask.particles import Particles

from .conftest import scene, table


def said(result):
    return json.dumps({key: value for key, value in result.to_dict().items() if key != "tomograms"}, sort_keys=True)


@settings(max_examples=8)
@given(st.integers(0, 1000), st.integers(1, 3), st.randoms(use_true_random=False))
def test_no_order_changes_anything(seed, tomograms, random):
    """Rows, and whole tomograms, in another order give the same figures and intervals to the last bit."""
    truth, found = scene(seed, tomograms=tomograms, count=12, false=4, spread=30.0)
    first = evaluate(truth, found, bootstrap=20, seed=seed)

    def mixed(side):
        parts = [side.of_tomogram(name) for name in random.sample(list(side.tomograms), tomograms)]
        rows = [random.sample(range(len(one)), len(one)) for one in parts]
        return Particles.concat([one.with_table(one.table.iloc[order]) for one, order in zip(parts, rows, strict=True)])

    assert said(evaluate(mixed(truth), mixed(found), bootstrap=20, seed=seed)) == said(first)


@settings(max_examples=8)
@given(st.integers(0, 1000), st.floats(0, 1))
def test_a_false_positive_never_raises_precision(seed, score):
    truth, found = scene(seed, count=25)
    more = table([(1, 5000, 5000, 5000)], tomogram="TS_00", scores=[score])
    before, after = (evaluate(truth, one, bootstrap=0) for one in (found, Particles.concat([found, more])))
    for name in ("overall", "localisation"):
        assert getattr(after, name).precision < getattr(before, name).precision
        assert getattr(after, name).recall == getattr(before, name).recall
    assert after.class_details["a"].average_precision <= before.class_details["a"].average_precision
    assert after.class_details["b"].average_precision == before.class_details["b"].average_precision


def test_seed_and_replicates_are_stated_and_decide():
    truth, found = scene(1, tomograms=3)
    first = evaluate(truth, found, bootstrap=50, seed=4)
    assert first.bootstrap is not None
    assert first.to_dict()["bootstrap"] == {"over": "tomograms", "replicates": 50, "seed": 4, "confidence": 0.95}
    assert said(first) == said(evaluate(truth, found, bootstrap=50, seed=4))
    assert first.overall_details.intervals != evaluate(truth, found, bootstrap=50, seed=5).overall_details.intervals
    assert any("3 tomograms only" in note for note in first.notes)
    over = evaluate(truth, found, bootstrap=50, seed=4, resample="particles")
    assert over.bootstrap is not None
    assert over.bootstrap.over == "particles"
    assert evaluate(truth, found, bootstrap=0).overall_details.intervals == {}
    single = evaluate(*scene(1), bootstrap=50).bootstrap
    assert single is not None
    assert single.over == "particles"


def test_intervals_over_particles_are_as_wide_as_theory_says():
    """Half of 400 found are right, half of 400 true are found: the standard error of both is 0.025."""
    truth = table([(1, 100 * i, 0, 0) for i in range(400)])
    found = table([(1, 100 * i, 0, 0 if i % 2 else 60) for i in range(400)], scores=np.full(400, 0.5))
    details = evaluate(truth, found, bootstrap=2000).class_details["a"]
    for name in ("precision", "recall"):
        low, high = details.intervals[name]
        assert (low + high) / 2 == pytest.approx(0.5, abs=0.005)
        assert (high - low) / 2 == pytest.approx(1.96 * sqrt(0.25 / 400), rel=0.1)
    narrow = evaluate(truth, found, bootstrap=2000, confidence=0.5).class_details["a"].intervals["recall"]
    assert narrow[1] - narrow[0] == pytest.approx(2 * 0.674 * sqrt(0.25 / 400), rel=0.15)
    # One score: average precision of a sample is precision × recall.
    assert details.average_precision == pytest.approx(0.25)
    low, high = details.intervals["average_precision"]
    assert low < 0.25 < high


def test_intervals_over_tomograms_by_hand():
    """Two tomograms, perfect and useless: samples are (1, 1), (1, 2), (2, 1), (2, 2) with F1 1, 0.5, 0.5, 0."""
    truth = Particles.concat([table([(1, 0, 0, 0)], tomogram="1"), table([(1, 0, 0, 0)], tomogram="2")])
    found = Particles.concat([table([(1, 0, 0, 0)], tomogram="1"), table([(1, 900, 0, 0)], tomogram="2")])
    result = evaluate(truth, found, bootstrap=300, confidence=0.9)
    assert result.overall_details.intervals["f1"] == (0, 1)
    assert evaluate(truth, found, bootstrap=300, confidence=0.3).overall_details.intervals["f1"] == (0.5, 0.5)
    perfect = evaluate(truth, truth, bootstrap=50)
    assert perfect.overall_details.intervals["f1"] == (1, 1)
    assert perfect.macro_intervals["f1"] == (1, 1)
    assert isnan(perfect.class_details["b"].intervals["f1"][0])
    assert perfect.to_dict()["classes"]["b"]["intervals"]["f1"] is None


@pytest.mark.parametrize(
    "options", [{"beta": 0}, {"confidence": 1}, {"bootstrap": -1}, {"resample": "voxels"}, {"class_weights": ("a",)}]
)
def test_settings_that_cannot_work(options):
    with pytest.raises(SettingsError) as error:
        evaluate(*scene(0), **options)
    assert "\n" not in str(error.value)
