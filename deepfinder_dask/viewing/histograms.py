"""Sizes and scores of particles, class by class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from deepfinder_dask.viewing.drawing import Sheet
from deepfinder_dask.viewing.greys import FAINT, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from deepfinder_dask.particles import ParticleClass, Particles

BINS = 40
"""Bins of a histogram."""
ROW = 0.8
"""Height of one class, in inches."""


def distributions(particles: Particles, title: str = "particles") -> Figure:
    """Histograms of size and score, one row for each class; the size limits of a class are dotted lines.

    Parameters
    ----------
    particles : Particles
        Of any number of tomograms.
    title : str
        Heading.

    Returns
    -------
    Figure
        Nothing is shown or saved.
    """
    classes = [one for one in particles.classes if one.kind == "particle"]
    left, width, gap, head, foot = 1.75, 3.4, 0.3, 0.8, 0.45
    sheet = Sheet(left + 2 * width + gap + 0.3, head + ROW * max(1, len(classes)) + foot)
    sheet.text(0.2, 0.17, title, fontsize=12, fontweight="bold")
    sheet.text(0.2, 0.42, f"{len(particles)} particles of {len(classes)} classes", fontsize=8, color=FAINT)
    sizes = particles.table["size_voxels"].to_numpy(dtype=np.float64, na_value=np.nan)
    scores = particles.table["score"].to_numpy(dtype=np.float64)
    names = particles.table["class"].to_numpy()
    columns = (("size (voxels)", sizes, _size_range(sizes, classes)), ("score", scores, (0.0, 1.0)))
    for row, one in enumerate(classes):
        top = head + row * ROW
        here = names == one.name
        sheet.text(0.2, top + ROW / 2 - 0.06, one.name, va="center", fontsize=9, fontweight="bold", color=one.colour)
        sheet.text(0.2, top + ROW / 2 + 0.12, str(int(here.sum())), va="center", fontsize=8, color=FAINT)
        for column, (label, values, span) in enumerate(columns):
            panel = sheet.axes(left + column * (width + gap), top, width, ROW - 0.12)
            _histogram(panel, values[here], span, one.colour)
            if column == 0:
                for limit in (one.min_size, one.max_size):
                    if limit is not None:
                        panel.axvline(limit, color=INK, linewidth=0.9, linestyle=":")
            last = row == len(classes) - 1
            panel.tick_params(labelbottom=last)
            if last:
                panel.set_xlabel(label, fontsize=8.5, color=INK)
    return sheet.figure


def _size_range(sizes: NDArray[np.float64], classes: list[ParticleClass]) -> tuple[float, float]:
    """Range of the size axis, the same for all classes."""
    limits = [float(n) for one in classes for n in (one.min_size, one.max_size) if n is not None]
    known = sizes[np.isfinite(sizes)]
    if known.size:
        limits += [float(known.min()), float(known.max())]
    low, high = min(limits, default=0.0), max(limits, default=1.0)
    margin = 0.04 * (high - low) or 1.0
    return max(0.0, low - margin), high + margin


def _histogram(panel: Axes, values: NDArray[np.float64], span: tuple[float, float], colour: str) -> None:
    """One histogram without counts on its axis: shapes are compared, numbers are in the margin."""
    style: dict[str, Any] = {"bins": BINS, "range": span}
    known = values[np.isfinite(values)]
    panel.set_xlim(*span)
    panel.set_yticks([])
    for side in ("left", "right", "top"):
        panel.spines[side].set_visible(False)
    if not known.size:
        panel.text(
            0.5,
            0.4,
            "none" if not values.size else "not known",
            transform=panel.transAxes,
            ha="center",
            fontsize=8,
            color=FAINT,
        )
        return
    panel.hist(known, color=colour, alpha=0.35, **style)
    panel.hist(known, color=colour, histtype="step", linewidth=1.0, **style)
    panel.axvline(float(np.median(known)), color=colour, linewidth=1.4)
