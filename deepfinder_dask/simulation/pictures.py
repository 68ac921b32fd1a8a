"""A picture of a simulated tomogram: what was asked for beside what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deepfinder_dask.blocks import Box
from deepfinder_dask.particles.files import atomic_write
from deepfinder_dask.tomograms import Tomogram, Volume

WIDTH = 11.0
"""Inches."""
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
    panel = WIDTH / 3.1
    tall, low = panel * height / width, panel * depth / width
    figure = Figure(figsize=(WIDTH, tall + low + 1.1), dpi=DPI, facecolor="white", layout="constrained")
    grid = figure.subplots(2, 3, height_ratios=(tall, low))
    palette = np.zeros((256, 3))
    palette[:] = 0.95
    for label, colour in colours.items():
        palette[label] = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    extent = [n * s / 10 for n, s in zip(tomogram.shape, tomogram.voxel_size, strict=True)]
    for row, (box, words) in enumerate(((top, "middle slice, x and y"), (side, "middle slice, x and z"))):
        size = (0.0, extent[2], 0.0, extent[1 - row])
        truth, grey = (part.read(box).squeeze(axis=row) for part in (labels, tomogram))
        _show(grid[row, 0], truth, f"truth: {words}", size, ListedColormap(palette), (0, 255))
        _show(grid[row, 1], grey, f"tomogram: {words}", size, "gray", _range(grey))
    _show(grid[0, 2], untilted, "0° image", (0.0, extent[2], 0.0, extent[1]), "gray", _range(untilted))
    grid[1, 2].axis("off")
    figure.suptitle(title, fontsize=10)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png")


def _across_y(volume: Volume) -> Box:
    depth, height, width = volume.space
    return Box((0, height // 2, 0), (depth, height // 2 + 1, width))


def _range(image: NDArray[np.float32]) -> tuple[float, float]:
    low, high = np.percentile(image, (0.5, 99.5))
    return float(low), float(high)


def _show(
    axes: Axes,
    image: NDArray[np.generic],
    title: str,
    extent: tuple[float, ...],
    cmap: str | ListedColormap,
    limits: tuple[float, float],
) -> None:
    axes.imshow(
        image, origin="lower", extent=extent, cmap=cmap, vmin=limits[0], vmax=limits[1], interpolation="nearest"
    )
    axes.set_title(title, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.set_xlabel("nm", fontsize=7)
