"""A picture of a simulated tomogram: what was asked for beside what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deepfinder_dask.blocks import Box
from deepfinder_dask.particles.files import atomic_write
from deepfinder_dask.tomograms import Tomogram, Volume

WIDTH = 11.0
"""Inches."""
MARGIN = 0.28
"""Inches around a panel."""
TITLE = 0.35
"""Inches for the line on top."""
DPI = 130


def draw_simulation(
    path: Path,
    tomogram: Tomogram,
    labels: Tomogram,
    colours: Mapping[int, str],
    untilted: NDArray[np.float32],
    title: str,
) -> None:
    """Draw central slices of truth and tomogram, across z and across y, and the 0° image, as PNG.

    Parameters
    ----------
    path : Path
        The file; whole or not written at all.
    tomogram, labels : Tomogram
        The grey values, and the class of each voxel.
    colours : mapping
        ``#rrggbb`` by label.
    untilted : (y, x) float32
        The 0° image.
    title : str
        One line on top.
    """
    depth, height, width = tomogram.shape
    top, side = Box((depth // 2, 0, 0), (depth // 2 + 1, height, width)), _across_y(tomogram.volume)
    panel = (WIDTH - 4 * MARGIN) / 3
    tall, low = panel * height / width, panel * depth / width
    whole = tall + low + 3 * MARGIN + TITLE
    figure = Figure(figsize=(WIDTH, whole), dpi=DPI, facecolor="white")
    palette = np.full((256, 3), 0.95)
    for label, colour in colours.items():
        palette[label] = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]

    def show(column: int, row: int, image: NDArray[np.generic], words: str, **options: Any) -> None:
        # Frames without ticks, at fixed places: laying out labels would take longer than the scene.
        bottom = (MARGIN, 2 * MARGIN + low)[1 - row]
        left = MARGIN + column * (panel + MARGIN)
        size = (panel / WIDTH, (tall, low)[row] / whole)
        axes = figure.add_axes((left / WIDTH, bottom / whole, *size))
        axes.axis("off")
        axes.imshow(image, origin="lower", aspect="auto", interpolation="nearest", **options)
        axes.set_title(words, fontsize=8, pad=3)

    for row, (box, words) in enumerate(((top, "middle slice, x and y"), (side, "middle slice, x and z"))):
        truth, grey = (part.read(box).squeeze(axis=row) for part in (labels, tomogram))
        show(0, row, truth, f"truth: {words}", cmap=ListedColormap(palette), vmin=0, vmax=255)
        show(1, row, grey, f"tomogram: {words}", **_grey(grey))
    show(2, 0, untilted, "0° image", **_grey(untilted))
    figure.suptitle(f"{title}, {width * tomogram.voxel_size[2] / 10:g} nm wide", fontsize=10, y=1 - 0.12 / whole)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png")


def _across_y(volume: Volume) -> Box:
    depth, height, width = volume.space
    return Box((0, height // 2, 0), (depth, height // 2 + 1, width))


def _grey(image: NDArray[Any]) -> dict[str, Any]:
    """How grey values are shown: outliers do not decide what is black and white."""
    low, high = np.percentile(image, (0.5, 99.5))
    return {"cmap": "gray", "vmin": low, "vmax": high}
