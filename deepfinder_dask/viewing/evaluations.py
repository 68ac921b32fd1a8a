"""Pictures of an evaluation: single figures, and all of them on one sheet."""

from __future__ import annotations

from math import isnan
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from matplotlib.lines import Line2D

from deepfinder_dask.viewing.drawing import Sheet, save_png
from deepfinder_dask.viewing.evaluation_panels import (
    draw_confusion,
    draw_distances,
    draw_precision_recall,
    draw_scores,
    draw_thresholds,
    line_of,
)
from deepfinder_dask.viewing.greys import FAINT, INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from deepfinder_dask.evaluation import Evaluation

EVALUATION_FILES = (
    "precision_recall.png",
    "thresholds.png",
    "f1.png",
    "distances.png",
    "confusion.png",
    "evaluation.png",
)
"""What :func:`write_evaluation_pictures` writes."""
_TITLES = {
    "precision_recall": "Precision against recall",
    "thresholds": "F1 against score threshold",
    "f1": "F1 of each class",
    "distances": "How far off matched particles are",
    "confusion": "Which class is found for which",
}
_ROW = 0.24
_LEGEND = 0.185


def evaluation_sheet(result: Evaluation, title: str = "evaluation") -> Figure:
    """All panels of an evaluation on one sheet: precision and recall, thresholds, F1, distances, confusion.

    Parameters
    ----------
    result : Evaluation
        Of any number of tomograms and classes.
    title : str
        Heading.

    Returns
    -------
    Figure
        Nothing is shown or saved.
    """
    names = len(result.classes)
    rows = max(1.6, _ROW * (names + 2))
    upper = max(3.0, _LEGEND * (names + 6) + 0.3)
    square = max(2.4, 0.31 * (names + 1))
    lower = max(rows, square)
    left, wide, gap = 0.6, 3.6, 0.85
    third = left + 2 * (wide + gap)
    sheet = Sheet(third + max(2.9, square + 1.0) + 0.3, 1.15 + upper + 1.15 + lower + 1.05)
    sheet.text(0.2, 0.15, title, fontsize=12, fontweight="bold")
    _subtitle(sheet, result)
    top = 1.05
    for number, name in enumerate(("precision_recall", "thresholds")):
        x = left + number * (wide + gap)
        _heading(sheet, x, top, name)
        _draw(sheet, x, top, wide, upper, result, name)
    _legend(sheet, third - 0.25, top, result)
    top += upper + 1.1
    label = _label_width(result)
    for number, name in enumerate(("f1", "distances")):
        x = left + number * (wide + gap)
        _heading(sheet, x, top, name)
        _draw(sheet, x + label - 0.35, top, wide - label + 0.05, rows, result, name)
    _heading(sheet, third, top, "confusion")
    _draw(sheet, third + label + 0.1, top, square, square, result, "confusion")
    return sheet.figure


def evaluation_figure(result: Evaluation, name: str) -> Figure:
    """One panel as a figure of its own: ``precision_recall, thresholds, f1, distances`` or ``confusion``.

    Parameters
    ----------
    result : Evaluation
        Of any number of tomograms and classes.
    name : str
        Which panel.
    """
    names = len(result.classes)
    label = _label_width(result)
    if name in ("precision_recall", "thresholds"):
        height = max(3.4, _LEGEND * (names + 4) + 0.2)
        sheet = Sheet(0.7 + 4.2 + 0.3 + 2.7 + max(0.0, label - 1.3), 1.0 + height + 0.6)
        _draw(sheet, 0.7, 1.0, 4.2, height, result, name)
        _legend(sheet, 0.7 + 4.2 + 0.3, 1.0, result)
    elif name == "confusion":
        side = max(2.4, 0.36 * (names + 1))
        sheet = Sheet(max(4.6, label + 0.55 + side + 0.3), 1.05 + side + label + 0.05)
        _draw(sheet, label + 0.45, 1.0, side, side, result, name)
    else:
        height = max(1.2, (_ROW + 0.03) * (names + 2))
        sheet = Sheet(label + 0.25 + 4.2 + 0.65, 1.0 + height + 0.6)
        _draw(sheet, label + 0.2, 1.0, 4.2, height, result, name)
    sheet.text(0.2, 0.15, _TITLES[name], fontsize=12, fontweight="bold")
    _subtitle(sheet, result)
    return sheet.figure


def write_evaluation_pictures(result: Evaluation, folder: str | Path, *, title: str = "evaluation") -> list[Path]:
    """Write :data:`EVALUATION_FILES`: each panel, and the sheet of all; older ones are replaced.

    Parameters
    ----------
    result : Evaluation
        Of any number of tomograms and classes.
    folder : str or path
        Made when missing.
    title : str
        Heading of the sheet.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    StorageError
        If a file cannot be written.
    """
    single = [save_png(evaluation_figure(result, name), Path(folder) / f"{name}.png") for name in _TITLES]
    return [*single, save_png(evaluation_sheet(result, title), Path(folder) / "evaluation.png")]


def _subtitle(sheet: Sheet, result: Evaluation) -> None:
    """What was compared, in as many lines as it takes."""
    tomograms = len(result.tomograms)
    reach = f"{result.tolerance[:-1]} × radius" if result.tolerance.endswith("r") else result.tolerance
    words = (
        f"{result.overall.true} true and {result.overall.found} found particles of {tomograms} "
        f"tomogram{'s' if tomograms != 1 else ''}, matched one to one within {reach}"
    )
    if result.bootstrap is not None:
        words += f"; intervals from {result.bootstrap.replicates} bootstrap samples of {result.bootstrap.over}"
    for number, line in enumerate(wrap(words, int(14 * (sheet.width - 0.4)))):
        sheet.text(0.2, 0.42 + 0.16 * number, line, fontsize=8, color=FAINT)


def _draw(sheet: Sheet, left: float, top: float, width: float, height: float, result: Evaluation, name: str) -> None:
    panels = {
        "precision_recall": draw_precision_recall,
        "thresholds": draw_thresholds,
        "f1": draw_scores,
        "distances": draw_distances,
        "confusion": draw_confusion,
    }
    axes = sheet.axes(left, top, width, height)
    axes.set_gid(name)
    panels[name](axes, result)


def _heading(sheet: Sheet, left: float, top: float, name: str) -> None:
    sheet.text(left - 0.4, top - 0.28, _TITLES[name], fontsize=9.5, fontweight="bold")


def _label_width(result: Evaluation) -> float:
    """Inches that the names of classes take."""
    return max(0.8, 0.25 + 0.068 * max((len(name) for name in result.classes), default=0))


def _legend(sheet: Sheet, left: float, top: float, result: Evaluation) -> None:
    """Line, name, average precision and F1 of each class, one a row; then all of them together."""
    name_at = left + 0.35
    numbers = max(name_at + 1.55, name_at + _label_width(result) + 0.25)
    columns = (numbers, numbers + 0.5)
    for x, words in zip(columns, ("AP", "F1"), strict=True):
        sheet.text(x, top, words, fontsize=7.5, color=FAINT, ha="right")
    y = top + 0.16
    rows = [(name, result.class_details[name].average_precision, one.f1) for name, one in result.classes.items()]
    rows.append(("mean of classes", result.macro.get("average_precision", float("nan")), result.macro.get("f1", 0.0)))
    rows.append(("all classes pooled", float("nan"), result.overall.f1))
    rows.append(("class-blind", float("nan"), result.localisation.f1))
    for number, (name, precision, f1) in enumerate(rows):
        if number == len(result.classes):
            y += 0.07
        middle = y + _LEGEND / 2
        style = {}
        if number < len(result.classes):
            style = line_of(result, name)
        elif name == "all classes pooled":
            style = {"color": INK, "linestyle": "solid"}
        if style:
            ends = [(left + 0.02) / sheet.width, (left + 0.27) / sheet.width]
            height = [1 - middle / sheet.height] * 2
            line = Line2D(ends, height, linewidth=2, transform=sheet.figure.transFigure, **style)
            sheet.figure.add_artist(line)
        sheet.text(name_at, middle, name, va="center_baseline", fontsize=8)
        for x, value in zip(columns, (precision, f1), strict=True):
            words = "–" if isnan(value) else f"{value:.3f}"
            sheet.text(x, middle, words, va="center_baseline", ha="right", fontsize=8)
        y += _LEGEND
    if result.czii is not None and not isnan(result.czii):
        sheet.text(name_at, y + 0.14, f"CZII score {result.czii:.3f}", va="center_baseline", fontsize=8)
