"""Recall, precision and F-beta against the threshold of size or score (Moebel et al. 2021, Extended Data Fig. 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import FuncFormatter

from deepfinder_dask.viewing.drawing import Sheet
from deepfinder_dask.viewing.greys import FAINT, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from deepfinder_dask.evaluation.sweeping import Sweep
    from deepfinder_dask.evaluation.tuned import TunedClass, Tuning

ROW = 1.55
"""Height of one class, in inches."""
RECALL, PRECISION = "#4e79a7", "#f28e2b"
"""Colours of the curves; F-beta is drawn in ink."""
_LABELS = {"size": "smallest size (voxels)", "score": "smallest score"}


def threshold_curves(tuning: Tuning, title: str = "thresholds") -> Figure:
    """Recall, precision and F-beta of each class against the threshold; the chosen one is a vertical line.

    Parameters
    ----------
    tuning : Tuning
        What ``tune`` found.
    title : str
        Heading.

    Returns
    -------
    Figure
        Nothing is shown or saved.
    """
    classes = [one for one in tuning.classes if one.choices]
    kinds = [kind for kind in _LABELS if any(kind in one.sweeps for one in classes)] or ["size"]
    left, width, gap, head, foot = 1.75, 3.4, 0.35, 1.0, 0.5
    sheet = Sheet(left + len(kinds) * (width + gap), head + ROW * max(1, len(classes)) + foot)
    count = len(tuning.tomograms)
    words = f"on {count} tomogram{'s' if count != 1 else ''}, one-to-one matches within {tuning.tolerance}"
    sheet.text(0.2, 0.17, title, fontsize=12, fontweight="bold")
    sheet.text(0.2, 0.42, words, fontsize=8, color=FAINT)
    names = ((0.0, RECALL, "recall"), (0.8, PRECISION, "precision"), (1.8, INK, tuning.measure))
    for place, colour, name in names:
        sheet.text(left + place, 0.68, f"— {name}", fontsize=9, color=colour, fontweight="bold")
    colours = {one.name: one.colour for one in tuning.particle_classes}
    if not classes:
        sheet.text(left, head + 0.5, "no class has true particles", color=FAINT)
    for row, one in enumerate(classes):
        top = head + row * ROW
        sheet.text(0.2, top + 0.1, one.name, fontsize=9, fontweight="bold", color=colours.get(one.name, INK))
        sheet.text(0.2, top + 0.3, f"{one.before.true} true\n{one.before.found} found", fontsize=8, color=FAINT)
        for column, kind in enumerate(kinds):
            panel = sheet.axes(left + column * (width + gap), top, width, ROW - 0.3)
            if kind in one.sweeps:
                _curves(panel, one, kind, tuning)
            if row == len(classes) - 1:
                panel.set_xlabel(_LABELS[kind], fontsize=8.5, color=INK)
            if column:
                panel.tick_params(labelleft=False)
    return sheet.figure


def _curves(panel: Axes, one: TunedClass, kind: str, tuning: Tuning) -> None:
    """Three curves over the values of one class; each holds from the value before up to its own."""
    sweep, choice = one.sweeps[kind], one.choices[kind]
    values = [float(value) for value in sweep.thresholds if value is not None]
    panel.set_ylim(-0.03, 1.03)
    panel.grid(axis="y", color=FAINT, linewidth=0.4, alpha=0.5)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    if not values:
        panel.text(0.5, 0.4, "none found", transform=panel.transAxes, ha="center", fontsize=8, color=FAINT)
        return
    start = 0.0 if kind == "score" and values[0] >= 0 else min(1.0, values[0])
    places = [start, *values]
    for colour, width, heights in _heights(sweep, tuning.beta):
        panel.plot(places, heights, color=colour, linewidth=width, drawstyle="steps-pre")
    if kind == "size":
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:g}"))
    chosen = choice.size if kind == "size" else choice.score
    at = start if chosen is None else chosen
    value = choice.tuned.f_beta(tuning.beta)
    panel.axvline(at, color=INK, linewidth=0.9, linestyle=":")
    panel.plot([at], [np.nan_to_num(value)], marker="o", markersize=4, color=INK)
    words = "keep all" if chosen is None else f"≥ {chosen:.4g}" if kind == "score" else f"≥ {chosen}"
    held = "" if choice.held_out is None else f"\nheld out {choice.held_out.f_beta(tuning.beta):.3f}"
    right = panel.transData.transform((at, 0))[0] > panel.transAxes.transform((0.7, 0))[0]
    panel.annotate(
        f"{words}\n{tuning.measure} {value:.3f}{held}",
        (at, 0.03),
        xytext=(-4 if right else 4, 0),
        textcoords="offset points",
        ha="right" if right else "left",
        va="bottom",
        fontsize=7.5,
        color=INK,
        bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
    )


def _heights(sweep: Sweep, beta: float) -> list[tuple[str, float, list[float]]]:
    """Colour, line width and values of the curves."""
    return [
        (RECALL, 1.3, [score.recall for score in sweep.scores]),
        (PRECISION, 1.3, [score.precision for score in sweep.scores]),
        (INK, 2.0, [score.f_beta(beta) for score in sweep.scores]),
    ]
