"""What the pictures have in common: sheets measured in inches, circles, legends.

Everything is drawn on :class:`matplotlib.figure.Figure` objects: no display, no global state, safe in threads.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from deepfinder_dask.particles.files import atomic_write
from deepfinder_dask.viewing.greys import FAINT, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI = 150
"""Pixels per inch of the files."""
LINE = 1.5
"""Widest line of a ring, in points."""
CROWDED = 1.5
"""Rings whose areas add up to more than this part of a panel are drawn as dots."""
DOT = 0.3
"""Size of such a dot, as a part of the ring."""
NM = 10.0
"""Å per nm, the unit of the axes."""


class Sheet:
    """A white figure on which axes are placed in inches from the top left corner.

    Parameters
    ----------
    width, height : float
        Inches.
    """

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes whose frame has this place and size, in inches; ``top`` counts downwards."""
        bottom = self.height - top - height
        axes = self.figure.add_axes((left / self.width, bottom / self.height, width / self.width, height / self.height))
        axes.tick_params(colors=INK, labelsize=7.5, width=0.6, length=2.5)
        for spine in axes.spines.values():
            spine.set(color=FAINT, linewidth=0.6)
        return axes

    def text(self, left: float, top: float, words: str, **style: Any) -> None:
        """Text whose top left corner is here, in inches."""
        options: dict[str, Any] = {"fontsize": 9, "color": INK, "ha": "left", "va": "top", "parse_math": False} | style
        self.figure.text(left / self.width, 1 - top / self.height, words, **options)

    def legend(self, left: float, top: float, entries: Sequence[tuple[str, str]], width: float) -> float:
        """Coloured rings with words in rows from this corner; the height they take, in inches.

        Parameters
        ----------
        left, top, width : float
            Inches.
        entries : sequence of (colour, words)
            In order.
        """
        column, row = 0.42 + 0.075 * max((len(words) for _, words in entries), default=0), 0.2
        columns = max(1, int(width // column))
        for number, (colour, words) in enumerate(entries):
            x = left + column * (number % columns)
            y = top + row * (number // columns) + row / 2
            ring = Line2D(
                [(x + 0.07) / self.width],
                [1 - y / self.height],
                marker="o",
                markersize=7,
                markerfacecolor="none",
                markeredgecolor=colour,
                markeredgewidth=1.8,
                linestyle="none",
                transform=self.figure.transFigure,
            )
            self.figure.add_artist(ring)
            self.text(x + 0.2, y, words, va="center_baseline", fontsize=8.5)
        return row * legend_rows(entries, width)


def legend_rows(entries: Sequence[tuple[str, str]], width: float) -> int:
    """Rows that a legend of this width, in inches, takes."""
    column = 0.42 + 0.075 * max((len(words) for _, words in entries), default=0)
    return -(-len(entries) // max(1, int(width // column)))


def draw_circles(
    axes: Axes, centres: NDArray[np.float64], radii: NDArray[np.float64], colours: NDArray[np.str_]
) -> None:
    """Rings in data units, each with a thin light edge that keeps it visible on any grey.

    Lines are thinner where rings are small. Where rings would hide what they surround, there are dots in their middle.

    Parameters
    ----------
    axes : Axes
        Where to draw; its limits are set.
    centres : (n, 2) float
        Right and up, in the units of the axes.
    radii : (n,) float
        In the same units.
    colours : (n,) of "#rrggbb"
        One for each ring.
    """
    if not len(centres):
        return
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    crowded = np.pi * float(np.sum(radii**2)) > CROWDED * abs((right - left) * (top - bottom))
    points = 72 * axes.get_window_extent().width / axes.figure.dpi / abs(right - left)
    line = float(np.clip(0.3 * points * np.median(radii), 0.5, LINE))
    diameters = 2 * radii * (DOT if crowded else 1.0)
    layers: list[dict[str, Any]]
    if crowded:
        layers = [{"facecolors": list(colours), "edgecolors": "none", "alpha": 0.8}]
    else:
        layers = [
            {"facecolors": "none", "edgecolors": "white", "linewidths": 2 * line, "alpha": 0.7},
            {"facecolors": "none", "edgecolors": list(colours), "linewidths": line, "alpha": 1.0},
        ]
    for layer in layers:
        rings = EllipseCollection(
            diameters,
            diameters,
            np.zeros(len(diameters)),
            units="xy",
            offsets=centres,
            offset_transform=axes.transData,
            **layer,
        )
        axes.add_collection(rings, autolim=False)


def save_png(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, whole or not at all; its path.

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    with atomic_write(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        figure.savefig(temporary, format="png", dpi=DPI)
    return path
