"""Slices across z, y and x: the tomogram, its labels, its particles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import to_rgba

from deepfinder_dask.blocks import Shape3, triple
from deepfinder_dask.errors import GeometryError
from deepfinder_dask.tomograms import Image, Tomogram, Volume
from deepfinder_dask.viewing.drawing import NM, Sheet, draw_circles, legend_rows
from deepfinder_dask.viewing.greys import FAINT, INK, grey_range
from deepfinder_dask.viewing.marks import Marks, class_legend, densest_index, marks_of, title_of
from deepfinder_dask.viewing.sampling import PLANES, Slice, read_slice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from deepfinder_dask.particles import ParticleClass, Particles

BLOCK = 4.4
"""Width of the three slices of one content together, in inches."""
WASHED = 0.65
"""Opacity of grey values on white paper where colours lie over them."""
OVERLAY = 0.55
"""Opacity of labels over grey values."""


def orthoslices(
    tomogram: Tomogram,
    labels: Image | Volume | None = None,
    particles: Particles | None = None,
    *,
    classes: Sequence[ParticleClass] | None = None,
    at: Shape3 | None = None,
    thickness: int = 5,
) -> Figure:
    """Slices across z, y and x of the tomogram, with its labels, and with its particles, side by side.

    Parameters
    ----------
    tomogram : Tomogram
        Only the slices are read, at a pyramid level that suits the picture.
    labels : Image or Volume, optional
        Label map of the tomogram (z, y, x) of integers; 0 is transparent.
    particles : Particles, optional
        Drawn as circles where their sphere of the class radius cuts the slice.
    classes : sequence of ParticleClass, optional
        Names and colours of the labels; default those of the particles, or a palette.
    at : (z, y, x), optional
        Voxel through which the slices go; default where they cut most particles, or the middle.
    thickness : int
        Voxels averaged across a slice of the tomogram (noise hides particles in one).

    Returns
    -------
    Figure
        Axes in nm, y upwards as in most programs of the field; nothing is shown or saved.

    Raises
    ------
    GeometryError
        If the labels have another shape than the tomogram, or ``at`` is outside.
    """
    levels = () if labels is None else labels.levels if isinstance(labels, Image) else (labels,)
    if levels and levels[0].space != tomogram.shape:
        raise GeometryError(f"expected labels of shape {tomogram.shape} (z, y, x), got {levels[0].space}")
    marks = marks_of(tomogram, particles)
    where = at or _through(tomogram, marks)
    grey = [read_slice(tomogram.levels, axis, where[axis], thickness=thickness) for axis in range(3)]
    masks = [read_slice(levels, axis, where[axis], mean=False) for axis in range(3)] if levels else None
    if classes is None:
        classes = () if particles is None else particles.classes
    counts = None if particles is None else dict.fromkeys((one.name for one in classes), 0) | particles.counts()
    legend = class_legend(classes, counts)
    contents = ["tomogram", *(["labels"] if levels else []), *(["particles"] if particles is not None else [])]
    page = _Page(tomogram, title_of(tomogram, particles), contents, where, legend if len(contents) > 1 else ())
    black, white = grey_range(one.values for one in grey)
    for content in contents:
        for axis in range(3):
            panel = page.panel(content, axis)
            show_grey(panel, grey[axis], black, white, page.nm, axis, alpha=1.0 if content == "tomogram" else WASHED)
            if content == "tomogram":
                _draw_cuts(panel, where, page.nm, axis)
            elif content == "labels" and masks is not None:
                _draw_labels(panel, masks[axis], classes, page.nm, axis)
            else:
                _draw_particles(panel, marks, where[axis], page.nm, axis)
    return page.sheet.figure


class _Page:
    """Where the panels are: a block for each content, in it three slices.

    ::

    y │ z-slice   x-slice
      │
    z │ y-slice
      └────────── ───────
        x         z
    """

    def __init__(
        self, tomogram: Tomogram, title: str, contents: Sequence[str], where: Shape3, legend: Sequence[tuple[str, str]]
    ) -> None:
        self.nm = np.asarray(tomogram.voxel_size) / NM
        self.contents = contents
        z, y, x = np.asarray(tomogram.shape) * self.nm
        inch = min(BLOCK / (x + z), 1.2 * BLOCK / (y + z))
        # Never thinner than a legible strip.
        self.x, self.y, self.z = (max(v * inch, 0.25) for v in (x, y, z))
        self.left, self.head, self.gap, self.between = 0.65, 1.05, 0.07, 0.3
        self.block = self.x + self.gap + self.z
        width = self.left + len(contents) * (self.block + self.between)
        words = 2 + 0.2 * len(title)
        width = max(width, 5.0, min(words, 12.0))
        below = self.head + self.y + self.gap + self.z
        foot = 0.5 + (0.2 * legend_rows(legend, width - 0.4) + 0.1 if legend else 0.0)
        self.sheet = Sheet(width, below + foot)
        self.sheet.text(0.2, 0.17, title, fontsize=12, fontweight="bold")
        through = ", ".join(f"{'zyx'[axis]} = {where[axis] * self.nm[axis]:.1f}" for axis in range(3))
        self.sheet.text(0.2, 0.42, f"slices at {through} nm of {describe(tomogram)}", fontsize=8, color=FAINT)
        for content in contents:
            self.sheet.text(self._left(content), self.head - 0.22, content, fontsize=9)
        if legend:
            self.sheet.legend(0.25, below + 0.48, legend, width - 0.4)

    def panel(self, content: str, axis: int) -> Axes:
        left = self._left(content)
        place = (
            (left, self.head, self.x, self.y),
            (left, self.head + self.y + self.gap, self.x, self.z),
            (left + self.x + self.gap, self.head, self.z, self.y),
        )[axis]
        panel = self.sheet.axes(*place)
        panel.set_gid(f"{content} across {'zyx'[axis]}")
        up, right = PLANES[axis]
        outer = content == self.contents[0] and axis != 2
        panel.tick_params(labelleft=outer, labelbottom=axis != 0)
        if outer:
            panel.set_ylabel(f"{'zyx'[up]} (nm)", fontsize=8, color=INK, labelpad=2)
        if axis != 0:
            panel.set_xlabel(f"{'zyx'[right]} (nm)", fontsize=8, color=INK, labelpad=1)
        return panel

    def _left(self, content: str) -> float:
        return float(self.left + self.contents.index(content) * (self.block + self.between))


def describe(tomogram: Tomogram) -> str:
    """Shape and voxel size of a tomogram in a line."""
    z, y, x = tomogram.shape
    sizes = sorted(set(tomogram.voxel_size))
    size = f"{sizes[0]:g} Å" if len(sizes) == 1 else " × ".join(f"{v:g}" for v in tomogram.voxel_size) + " Å (z, y, x)"
    return f"{z} × {y} × {x} voxels (z, y, x) of {size}"


def show_grey(
    panel: Axes, image: Slice, black: float, white: float, nm: NDArray[np.float64], axis: int, alpha: float = 1.0
) -> None:
    """Grey values with axes in nm; below 1, ``alpha`` washes them out so that colours stand out."""
    panel.imshow(
        image.values,
        cmap="gray",
        vmin=black,
        vmax=white,
        alpha=alpha,
        origin="lower",
        extent=in_nm(image.extent, nm, axis),
        interpolation="antialiased",
        aspect="auto",
    )


def in_nm(
    extent: tuple[float, float, float, float], nm: NDArray[np.float64], axis: int
) -> tuple[float, float, float, float]:
    """Edges of a plane across an axis, from voxels to nm; ``nm`` is the voxel size (z, y, x)."""
    up, right = PLANES[axis]
    left, end, bottom, top = extent
    return left * float(nm[right]), end * float(nm[right]), bottom * float(nm[up]), top * float(nm[up])


def _through(tomogram: Tomogram, marks: Marks) -> Shape3:
    """Where the slices cut most particles; the middle where there are none."""
    if not len(marks):
        return triple(n // 2 for n in tomogram.shape)
    return triple(
        densest_index(marks.centres[:, axis], marks.radii / tomogram.voxel_size[axis], tomogram.shape[axis])
        for axis in range(3)
    )


def _draw_cuts(panel: Axes, where: Shape3, nm: NDArray[np.float64], axis: int) -> None:
    """Faint lines where the other two slices go."""
    up, right = PLANES[axis]
    style: dict[str, Any] = {"color": "#ffd166", "linewidth": 0.8, "alpha": 0.8, "linestyle": (0, (5, 4))}
    panel.axvline(where[right] * nm[right], **style)
    panel.axhline(where[up] * nm[up], **style)


def _draw_labels(
    panel: Axes, image: Slice, classes: Sequence[ParticleClass], nm: NDArray[np.float64], axis: int
) -> None:
    """Labels as transparent colour."""
    table = np.zeros((256, 4))
    for label in np.unique(image.values):
        if 0 < label < 256:
            table[int(label)] = to_rgba(FAINT, OVERLAY)
    for one in classes:
        table[one.label] = to_rgba(one.colour, OVERLAY)
    panel.imshow(
        table[np.clip(image.values.astype(np.int64), 0, 255)],
        origin="lower",
        extent=in_nm(image.extent, nm, axis),
        interpolation="nearest",
        aspect="auto",
    )


def _draw_particles(panel: Axes, marks: Marks, index: int, nm: NDArray[np.float64], axis: int) -> None:
    """Circles where spheres cut the slice."""
    up, right = PLANES[axis]
    radii = marks.radii / NM
    squares = radii**2 - ((marks.centres[:, axis] - index) * nm[axis]) ** 2
    cut = squares > 0
    centres = marks.centres[cut][:, [right, up]] * nm[[right, up]]
    draw_circles(panel, centres, np.sqrt(squares[cut]), marks.colours[cut])
