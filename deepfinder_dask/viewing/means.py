"""The whole tomogram from above and from the side, with all its particles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deepfinder_dask.tomograms import Tomogram
from deepfinder_dask.viewing.drawing import NM, Sheet, draw_circles, legend_rows
from deepfinder_dask.viewing.greys import FAINT, INK, grey_range
from deepfinder_dask.viewing.marks import marks_of, title_of
from deepfinder_dask.viewing.sampling import PLANES, read_means
from deepfinder_dask.viewing.slices import WASHED, describe, show_grey

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from deepfinder_dask.particles import Particles

LONGEST = 7.0
"""Longest side of a panel, in inches."""


def projection(tomogram: Tomogram, particles: Particles | None = None) -> Figure:
    """Mean along z and mean along y, with every particle as a circle of its class radius.

    Parameters
    ----------
    tomogram : Tomogram
        Read once, in blocks, at a pyramid level that suits the picture.
    particles : Particles, optional
        Coloured by class.

    Returns
    -------
    Figure
        Axes in nm, y and z upwards; nothing is shown or saved.
    """
    marks = marks_of(tomogram, particles)
    means = read_means(tomogram.levels)
    nm = np.asarray(tomogram.voxel_size) / NM
    z, y, x = np.asarray(tomogram.shape) * nm
    inch = LONGEST / max(x, y, z)
    width, heights = max(x * inch, 0.3), (max(y * inch, 0.3), max(z * inch, 0.3))
    left, head, between = 0.7, 0.72, 0.12
    page = max(left + width + 0.25, 5.0)
    foot = 0.55 + (0.2 * legend_rows(marks.legend, page - 0.4) + 0.15 if marks.legend else 0.0)
    sheet = Sheet(page, head + sum(heights) + between + foot)
    sheet.text(0.2, 0.17, title_of(tomogram, particles), fontsize=12, fontweight="bold")
    sheet.text(0.2, 0.42, f"mean along z, and along y below; {describe(tomogram)}", fontsize=8, color=FAINT)
    for axis, mean, top in ((0, means[0], head), (1, means[1], head + heights[0] + between)):
        up, right = PLANES[axis]
        panel = sheet.axes(left, top, width, heights[axis])
        panel.set_gid(f"mean along {'zyx'[axis]}")
        show_grey(panel, mean, *grey_range([mean.values], 0.2, 99.8), nm, axis, alpha=WASHED if len(marks) else 1.0)
        centres = marks.centres[:, [right, up]] * nm[[right, up]]
        draw_circles(panel, centres, marks.radii / NM, marks.colours)
        panel.set_ylabel(f"{'zyx'[up]} (nm)", fontsize=8, color=INK, labelpad=2)
        panel.tick_params(labelbottom=axis == 1)
    panel.set_xlabel("x (nm)", fontsize=8, color=INK, labelpad=1)
    if marks.legend:
        sheet.legend(0.25, sheet.height - foot + 0.5, marks.legend, page - 0.4)
    return sheet.figure
