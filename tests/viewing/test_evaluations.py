"""Pictures of evaluations: what is drawn is what was counted, and odd evaluations draw too."""

from __future__ import annotations

import numpy as np
import pytest

from deepfinder_dask.evaluation import evaluate
from deepfinder_dask.particles import ParticleClass, Particles, TomogramFacts
from deepfinder_dask.viewing import EVALUATION_FILES, evaluation_figure, evaluation_sheet, write_evaluation_pictures

PANELS = ("precision_recall", "thresholds", "f1", "distances", "confusion")


def sides(classes=3, count=60, scored=True, seed=0):
    """Truth, and what was found of it, of some classes."""
    random = np.random.default_rng(seed)
    known = tuple(ParticleClass(f"species {n}", n, radius=50.0) for n in range(1, classes + 1))
    facts = TomogramFacts(10.0, (100, 100, 100))
    labels = random.integers(1, classes + 1, count)
    places = random.uniform(0, 99, (count, 3))
    kept = random.uniform(size=count) < 0.7
    scores = random.uniform(size=kept.sum()) if scored else None
    named = labels[kept]
    named[::7] = 1
    spots = places[kept] + random.normal(0, 1, (kept.sum(), 3))
    return (
        Particles.from_voxels(places, tomogram="t", facts=facts, labels=labels, classes=known),
        Particles.from_voxels(spots, tomogram="t", facts=facts, labels=named, classes=known, scores=scores),
    )


def axes_of(figure, name):
    return next(axes for axes in figure.axes if axes.get_gid() == name)


def test_lines_are_the_curves_of_their_classes():
    result = evaluate(*sides(), bootstrap=0)
    sheet = evaluation_sheet(result, "title")
    lines = {line.get_color(): line for line in axes_of(sheet, "precision_recall").lines if len(line.get_xdata()) > 2}
    for details in result.class_details.values():
        line, curve = lines[details.colour], details.curve
        np.testing.assert_allclose(line.get_xdata()[1:], curve.recall)
        np.testing.assert_allclose(line.get_ydata()[1:], curve.precision)
    dots = [line for line in axes_of(sheet, "thresholds").lines if line.get_marker() == "o"]
    best = [(d.curve.best) for d in (*result.class_details.values(), result.overall_details)]
    assert [(dot.get_xdata()[0], dot.get_ydata()[0]) for dot in dots] == best


def test_a_threshold_line_is_read_at_the_threshold():
    """Between two scores the F1 is that of the particles above: of the next higher score."""
    result = evaluate(*sides(classes=1), bootstrap=0)
    curve = result.class_details["species 1"].curve
    axes = axes_of(evaluation_figure(result, "thresholds"), "thresholds")
    line = next(one for one in axes.lines if one.get_color() == "#4e79a7" and len(one.get_xdata()) > 2)
    x, y = line.get_path().vertices.T
    np.testing.assert_array_equal(x[::2], curve.thresholds)
    np.testing.assert_array_equal(y[::2], curve.f1)
    np.testing.assert_array_equal(x[1::2], curve.thresholds[1:])
    np.testing.assert_array_equal(y[1::2], curve.f1[:-1])


def test_confusion_shows_every_count():
    result = evaluate(*sides(), bootstrap=0)
    axes = axes_of(evaluation_figure(result, "confusion"), "confusion")
    shown = {(int(t.get_position()[1]), int(t.get_position()[0])): int(t.get_text()) for t in axes.texts}
    expected = {(r, c): n for r, row in enumerate(result.confusion) for c, n in enumerate(row) if n}
    assert shown == expected
    assert axes.get_ylabel() == "true class"
    assert axes.get_xlabel() == "found class"


def test_scores_and_distances_have_a_row_for_each_class():
    result = evaluate(*sides(classes=12, count=300), bootstrap=30)
    f1 = axes_of(evaluation_figure(result, "f1"), "f1")
    assert [t.get_text() for t in f1.get_yticklabels()] == [*result.classes, "all classes", "class-blind"]
    assert "95%" in f1.get_xlabel()
    dots = [line.get_xdata()[0] for line in f1.lines if line.get_marker() == "o"]
    assert dots == [*(one.f1 for one in result.classes.values()), result.overall.f1, result.localisation.f1]
    distances = axes_of(evaluation_figure(result, "distances"), "distances")
    assert "(Å)" in distances.get_xlabel()
    boxes = [(box.get_x(), box.get_x() + box.get_width()) for box in distances.patches]
    pairs = result.pairs
    for name, box in zip(result.classes, boxes, strict=True):
        own = pairs[(pairs["rule"] == "class") & (pairs["truth_class"] == name)]["distance"]
        assert box == pytest.approx(tuple(np.percentile(own, (25, 75))))


def test_names_stay_on_the_sheet():
    """Every text of every figure lies within it, with one class and with twelve of long names."""
    for classes in (1, 12):
        result = evaluate(*sides(classes=classes, count=200), bootstrap=20, czii=True)
        for figure in [evaluation_sheet(result, "title"), *(evaluation_figure(result, name) for name in PANELS)]:
            figure.draw_without_rendering()
            width, height = figure.bbox.width, figure.bbox.height
            boxes = {text.get_text(): text.get_window_extent() for text in figure.texts}
            boxes |= {str(axes.get_gid()): axes.get_tightbbox() for axes in figure.axes}
            for name, box in boxes.items():
                assert box.x0 >= -1, name
                assert box.y0 >= -1, name
                assert box.x1 <= width + 1, name
                assert box.y1 <= height + 1, name


@pytest.mark.parametrize("odd", ["no scores", "nothing found", "no truth"])
def test_odd_evaluations_are_drawn(odd, tmp_path):
    truth, found = sides(scored=odd != "no scores")
    none = Particles.empty(truth.tomograms, truth.classes)
    result = evaluate(none if odd == "no truth" else truth, none if odd == "nothing found" else found, bootstrap=5)
    written = write_evaluation_pictures(result, tmp_path)
    assert sorted(path.name for path in written) == sorted(EVALUATION_FILES)
    words = [t.get_text() for t in axes_of(evaluation_figure(result, "precision_recall"), "precision_recall").texts]
    assert "no scores" in words
