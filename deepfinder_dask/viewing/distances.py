"""How far particles are from a structure, class by class."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from deepfinder_dask.errors import InputError
from deepfinder_dask.viewing.drawing import Sheet
from deepfinder_dask.viewing.greys import FAINT, INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from deepfinder_dask.particles import Particles

BINS = 40
"""Bins of a histogram."""
ROW = 1.2
"""Height of one class, in inches."""
PREFIX = "distance_"
"""What columns of distances begin with."""


def distance_histogram(
    particles: Particles, structure: str | None = None, *, marks: Sequence[float] = (), title: str = "particles"
) -> Figure:
    """Histograms of the distance to a structure, one for each class with particles, as in the paper's Extended Data
    Fig. 8c.

    Parameters
    ----------
    particles : Particles
        With a column ``distance_<structure>`` in Å, as :func:`~deepfinder_dask.distance` leaves it.
    structure : str, optional
        Name of the structure; may be left out where there is one such column.
    marks : sequence of float
        Distances in Å at which a dotted line is drawn, such as 273.6; the number of particles up to the first of them
        is said.
    title : str
        Heading.

    Returns
    -------
    Figure
        Nothing is shown or saved.

    Raises
    ------
    InputError
        There is no such column, or it is not clear which is meant.
    """
    column = _column(particles, structure)
    values = particles.table[column].to_numpy(dtype=np.float64, na_value=np.nan)
    names = particles.table["class"].to_numpy()
    classes = [one for one in particles.classes if (names == one.name).any()]
    left, width, head, foot = 1.75, 5.2, 0.8, 0.5
    sheet = Sheet(left + width + 0.3, head + ROW * max(1, len(classes)) + foot)
    sheet.text(0.2, 0.17, title, fontsize=12, fontweight="bold")
    words = f"distance to the nearest voxel of {column.removeprefix(PREFIX)}"
    if marks:
        words += f"; dotted at {', '.join(f'{one:g}' for one in marks)} Å"
    sheet.text(0.2, 0.42, words, fontsize=8, color=FAINT)
    known = values[np.isfinite(values)]
    high = max([float(known.max(initial=0.0)), *marks]) * 1.02 or 1.0
    for row, one in enumerate(classes):
        top = head + row * ROW
        here = values[names == one.name]
        found = here[np.isfinite(here)]
        sheet.text(0.2, top + ROW / 2 - 0.16, one.name, va="center", fontsize=9, fontweight="bold", color=one.colour)
        sheet.text(0.2, top + ROW / 2 + 0.02, _counted(here, marks), va="top", fontsize=8, color=FAINT)
        panel = sheet.axes(left, top, width, ROW - 0.18)
        panel.set_gid(one.name)
        counts, edges, _ = panel.hist(found, bins=BINS, range=(0.0, high), color=one.colour, alpha=0.35)
        panel.hist(found, bins=list(edges), color=one.colour, histtype="step", linewidth=1.0)
        for mark in marks:
            panel.axvline(mark, color=INK, linewidth=0.9, linestyle=":")
        most = max(1, ceil(float(np.max(counts))))
        panel.set_xlim(0.0, high)
        panel.set_ylim(0.0, most * 1.08)
        panel.set_yticks([0, most])
        for side in ("right", "top"):
            panel.spines[side].set_visible(False)
        last = row == len(classes) - 1
        panel.tick_params(labelbottom=last)
        if last:
            panel.set_xlabel(
                f"{column.removeprefix(PREFIX)} – particle distance (Å)", fontsize=8.5, color=INK, parse_math=False
            )
    if not classes:
        sheet.text(left, head + 0.2, "no particles", fontsize=9, color=FAINT)
    return sheet.figure


def _column(particles: Particles, structure: str | None) -> str:
    columns = [str(name) for name in particles.table.columns if str(name).startswith(PREFIX)]
    wanted = columns if structure is None else [f"{PREFIX}{structure}"]
    if len(wanted) != 1 or wanted[0] not in columns:
        raise InputError(
            f"expected one column of distances{f' {wanted[0]}' if structure else ''}, found {columns or 'none'}: "
            "measure them with deepfinder distance, or name the structure"
        )
    return wanted[0]


def _counted(values: NDArray[np.float64], marks: Sequence[float]) -> str:
    words = [str(len(values))]
    if marks:
        words.append(f"{int((values <= min(marks)).sum())} within {min(marks):g} Å")
    missing = int(np.isnan(values).sum())
    if missing:
        words.append(f"{missing} without")
    return "\n".join(words)
