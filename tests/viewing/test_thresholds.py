"""Curves of tuning: what is drawn are the counts, and the line stands at the choice."""

from __future__ import annotations

import numpy as np
import pytest

from deepfinder_dask.evaluation import tune
from deepfinder_dask.particles import ParticleClass, Particles, TomogramFacts
from deepfinder_dask.viewing import threshold_curves

A = ParticleClass("a", 1, radius=30.0)
B = ParticleClass("b", 2, radius=30.0)


def made(rows, scores=None):
    return Particles.from_voxels(
        [(0, 0, x) for x, _ in rows],
        tomogram="t",
        facts=TomogramFacts(10.0, (9, 9, 99)),
        labels=[1] * len(rows),
        classes=(A, B),
        sizes=[size for _, size in rows],
        scores=scores,
    )


def test_curves_are_the_counts():
    truth = made([(10, 1), (30, 1), (50, 1)])
    found = made([(10, 200), (30, 100), (70, 50), (90, 2)], scores=[0.9, 0.8, 0.7, 0.95])
    tuning = tune(truth, found)
    figure = threshold_curves(tuning)
    assert len(figure.axes) == 2, "class b has no true particles"
    lines = figure.axes[0].get_lines()
    expected = [[2 / 3, 2 / 3, 2 / 3, 2 / 3, 1 / 3], [0.5, 0.5, 2 / 3, 1, 1], [4 / 7, 4 / 7, 4 / 6, 4 / 5, 2 / 4]]
    for line, heights in zip(lines, expected, strict=False):
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 50, 100, 200])
        np.testing.assert_allclose(line.get_ydata(), heights)
        assert line.get_drawstyle() == "steps-pre", "a value holds from the one before up to itself"
    assert lines[3].get_xdata()[0] == 100, "the choice"
    assert "≥ 100\nF1 0.800" in figure.axes[0].texts[0].get_text()
    assert (
        figure.axes[1].get_lines()[3].get_xdata()[0] == tuning.classes[0].choices["score"].score == pytest.approx(0.8)
    )


def test_odd_input_is_drawn():
    truth, found = made([(10, 1)]), made([(10, 200)])
    for one, other in ((truth, found), (truth, found.where([False])), (truth.where([False]), found)):
        assert threshold_curves(tune(one, other)).axes is not None
