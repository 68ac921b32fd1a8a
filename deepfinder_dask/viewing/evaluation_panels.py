"""Panels that show an evaluation: each draws on axes that it is given."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np

from deepfinder_dask.viewing.greys import FAINT, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from deepfinder_dask.evaluation import Evaluation

DASHED_FROM = 8
"""Classes from this number on are drawn with dashed lines, so that two of like colour can be told apart."""
GRID: dict[str, Any] = {"color": "#e6e8eb", "linewidth": 0.6}
_LEVELS = (0.2, 0.4, 0.6, 0.8)
_DARK = 0.55


def line_of(result: Evaluation, name: str) -> dict[str, Any]:
    """Colour and dashes of a class in every panel."""
    dashed = list(result.classes).index(name) >= DASHED_FROM
    return {"color": result.class_details[name].colour, "linestyle": (0, (4, 1.5)) if dashed else "solid"}


def draw_precision_recall(axes: Axes, result: Evaluation) -> None:
    """Precision against recall of each class as the score threshold falls; a dot where all found particles count."""
    _plain(axes, "recall", "precision")
    axes.set(xlim=(0, 1.005), ylim=(0, 1.02))
    recall = np.linspace(0.01, 1, 200)
    for level in _LEVELS:
        with np.errstate(divide="ignore"):
            precision = level * recall / (2 * recall - level)
        shown = (precision > 0) & (precision <= 1)
        axes.plot(recall[shown], precision[shown], **GRID, zorder=0)
        axes.text(1.0, level / (2 - level) + 0.012, f"F1 {level:g}", fontsize=6, color=FAINT, ha="right")
    drawn = False
    for name in result.classes:
        curve = result.class_details[name].curve
        if curve is None or not curve.true or not len(curve.thresholds):
            continue
        drawn = True
        start = float(curve.precision[0])
        axes.plot(np.r_[0, curve.recall], np.r_[start, curve.precision], linewidth=1.4, **line_of(result, name))
        axes.plot(curve.recall[-1], curve.precision[-1], "o", markersize=4, color=result.class_details[name].colour)
    if not drawn:
        _say(axes, "no scores")


def draw_thresholds(axes: Axes, result: Evaluation) -> None:
    """F1 of each class, and of all pooled (black), against the score threshold; a dot at the best."""
    _plain(axes, "score threshold", "F1")
    axes.set(ylim=(0, 1.02))
    axes.grid(axis="y", **GRID)
    lines = [(one.curve, line_of(result, name), 1.3) for name, one in result.class_details.items()]
    lines.append((result.overall_details.curve, {"color": INK, "linestyle": "solid"}, 2.0))
    ends: list[float] = []
    for curve, style, width in lines:
        if curve is None or not curve.true or not len(curve.thresholds):
            continue
        axes.step(curve.thresholds, curve.f1, where="post", linewidth=width, **style)
        best, f1 = curve.best
        axes.plot(best, f1, "o", markersize=4, color=style["color"])
        ends += [float(curve.thresholds[0]), float(curve.thresholds[-1])]
    if not ends:
        _say(axes, "no scores")
        return
    low, high = min(ends), max(ends)
    margin = 0.03 * (high - low) or 0.05
    axes.set_xlim(low - margin, high + margin)


def draw_scores(axes: Axes, result: Evaluation) -> None:
    """F1 of each class with its confidence interval; small marks are precision (right) and recall (left)."""
    _plain(axes, "", "")
    axes.set_xlim(0, 1.02)
    axes.grid(axis="x", **GRID)
    rows = [(name, score, result.class_details[name]) for name, score in result.classes.items()]
    rows += [("all classes", result.overall, result.overall_details)]
    rows += [("class-blind", result.localisation, result.localisation_details)]
    for place, (_, score, more) in enumerate(rows):
        if isnan(score.f1):
            axes.text(0.02, place, "none", fontsize=7, color=FAINT, va="center")
            continue
        low, high = more.intervals.get("f1", (np.nan, np.nan))
        axes.plot([low, high], [place, place], color=more.colour, linewidth=5, alpha=0.35, solid_capstyle="butt")
        axes.plot([low, high], [place, place], "|", markersize=8, color=more.colour)
        for value, mark in ((score.precision, ">"), (score.recall, "<")):
            axes.plot(value, place, mark, markersize=3.5, markerfacecolor="none", markeredgecolor=FAINT)
        axes.plot(score.f1, place, "o", markersize=5.5, color=more.colour)
        axes.text(1.04, place, f"{score.f1:.2f}", fontsize=7.5, color=INK, va="center", clip_on=False)
    if result.classes:
        axes.axhline(len(result.classes) - 0.5, color=FAINT, linewidth=0.6)
    _rows(axes, [name for name, _, _ in rows])
    shown = f"F1, {result.bootstrap.confidence:.0%} interval" if result.bootstrap else "F1"
    axes.set_xlabel(f"{shown}; ▹ precision, ◃ recall", fontsize=8.5, color=INK)


def draw_distances(axes: Axes, result: Evaluation) -> None:
    """Distances of matched pairs of each class: box of the middle half, line at the median, whiskers 5 to 95 %."""
    _plain(axes, "distance of matched pairs (Å)", "")
    axes.grid(axis="x", **GRID)
    names = list(result.classes)
    pairs = result.pairs
    own = None if pairs is None else pairs[pairs["rule"] == "class"]
    for place, name in enumerate(names):
        values = np.empty(0) if own is None else own.loc[own["truth_class"] == name, "distance"].to_numpy(np.float64)
        if not len(values):
            axes.text(0.01, place, "none", fontsize=7, color=FAINT, va="center", transform=axes.get_yaxis_transform())
            continue
        colour = result.class_details[name].colour
        low, first, middle, third, high = np.percentile(values, (5, 25, 50, 75, 95))
        axes.plot([low, high], [place, place], color=colour, linewidth=1.1)
        axes.barh(place, third - first, left=first, height=0.55, color=colour, alpha=0.45, linewidth=0)
        axes.plot([middle, middle], [place - 0.28, place + 0.28], color=colour, linewidth=2)
    axes.set_xlim(left=0)
    _rows(axes, names)


def draw_confusion(axes: Axes, result: Evaluation) -> None:
    """Class-blind pairs by true and found class, counts in boxes shaded by their part of the row."""
    names = list(result.confusion_names[:-1])
    counts = np.asarray(result.confusion, dtype=np.float64).reshape(len(names) + 1, len(names) + 1)
    sums = counts.sum(axis=1, keepdims=True)
    parts = np.divide(counts, sums, out=np.zeros_like(counts), where=sums > 0)
    size = len(names) + 1
    axes.imshow(parts, cmap="Blues", vmin=0, vmax=1, aspect="equal", interpolation="nearest")
    letters = float(np.clip(78 / size, 4, 8))
    for row in range(size):
        for column in range(size):
            value = int(counts[row, column])
            if value:
                colour = "white" if parts[row, column] > _DARK else INK
                axes.text(column, row, str(value), fontsize=letters, color=colour, ha="center", va="center")
    edges = np.arange(size - 1) + 0.5
    axes.hlines(edges, -0.5, size - 0.5, **GRID)
    axes.vlines(edges, -0.5, size - 0.5, **GRID)
    for draw in (axes.axhline, axes.axvline):
        draw(size - 1.5, color=FAINT, linewidth=1.2)
    axes.set_xticks(range(size), [*names, "missed"], rotation=60, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(range(size), [*names, "no particle"], parse_math=False)
    axes.tick_params(length=0, labelsize=7.5, colors=INK)
    for ticks in (axes.get_xticklabels(), axes.get_yticklabels()):
        for tick, name in zip(ticks, names, strict=False):
            tick.set_color(result.class_details[name].colour)
    axes.set_xlabel("found class", fontsize=8.5, color=INK)
    axes.set_ylabel("true class", fontsize=8.5, color=INK)


def _plain(axes: Axes, right: str, up: str) -> None:
    """Axes with these labels, without a frame on top and on the right."""
    axes.set_xlabel(right, fontsize=8.5, color=INK)
    axes.set_ylabel(up, fontsize=8.5, color=INK)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _rows(axes: Axes, names: list[str]) -> None:
    """One row for each name, the first on top."""
    axes.set_ylim(max(len(names), 1) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.tick_params(axis="y", length=0)


def _say(axes: Axes, words: str) -> None:
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", fontsize=9, color=FAINT)
