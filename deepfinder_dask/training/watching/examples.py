"""Example patches: what the network makes of the validation patches, beside the target, one row for each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.particles.classes import IGNORE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from deepfinder_dask.particles import ParticleClass

PAPER = (255, 255, 255)
"""Colour of the background, red, green, blue."""
UNKNOWN = (200, 200, 200)
"""Colour of voxels that nobody annotated."""
PANEL, GAP, HEAD, SIDE = 1.5, 0.08, 0.45, 1.1
"""Inches: edge of a slice, space between two, words above, words beside."""
ROWS = 6
"""Rows of a column of examples; further classes stand in further columns."""
MOST = 24
"""Most classes that are shown, so that drawing takes a bounded time."""


@dataclass(frozen=True)
class JudgedPatches:
    """The fixed validation patches, and what the network found in them at a check."""

    values: NDArray[np.float32]
    """(n, z, y, x) normalised grey values."""
    truth: NDArray[np.uint8]
    """(n, z, y, x) target; 255 is not annotated."""
    found: NDArray[np.uint8]
    """(n, z, y, x) labels from the network."""


@dataclass(frozen=True)
class Example:
    """A slice across z through one of the patches."""

    shown: ParticleClass
    """The class it was chosen for."""
    patch: int
    """Number of the patch."""
    z: int
    """Slice of the patch."""


def pick_examples(patches: JudgedPatches, classes: Sequence[ParticleClass]) -> list[Example]:
    """For each class the slice that cuts most voxels of its target; the same at every check.

    A class without a voxel in any patch has no example.
    """
    picked = []
    for one in classes[:MOST]:
        counts = np.stack([(truth == one.label).sum(axis=(1, 2)) for truth in patches.truth])
        if counts.any():
            patch, z = (int(i) for i in np.unravel_index(int(counts.argmax()), counts.shape))
            picked.append(Example(one, patch, z))
    return picked


def examples_figure(patches: JudgedPatches, classes: Sequence[ParticleClass], step: int) -> Figure:
    """Grey values, target and prediction of a slice for each class, labels in the colours of the classes.

    Parameters
    ----------
    patches : JudgedPatches
    classes : sequence of ParticleClass
    step : int
        After which the network gave these labels.

    Returns
    -------
    Figure
        y upwards and x to the right; one voxel is one square.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    examples = pick_examples(patches, classes)
    blocks = max(1, -(-len(examples) // ROWS))
    block = SIDE + 3 * (PANEL + GAP)
    width, height = blocks * block + GAP, HEAD + 0.25 + max(1, min(len(examples), ROWS)) * (PANEL + GAP)
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    words: dict[str, Any] = {"fontsize": 9, "va": "top", "parse_math": False}
    figure.text(0.1 / width, 1 - 0.08 / height, f"validation patches at step {step}", **words)
    colours = colour_table(classes)
    for number, example in enumerate(examples):
        column, row = divmod(number, ROWS)
        left, top = column * block, HEAD + 0.25 + row * (PANEL + GAP)
        name = example.shown.name if len(example.shown.name) < 15 else f"{example.shown.name[:13]}…"
        style = {**words, "color": example.shown.colour, "fontweight": "bold"}
        figure.text((left + 0.1) / width, 1 - (top + 0.05) / height, name, **style)
        panels = (
            ("tomogram", patches.values[example.patch, example.z]),
            ("target", colours[patches.truth[example.patch, example.z]]),
            ("prediction", colours[patches.found[example.patch, example.z]]),
        )
        for place, (title, image) in enumerate(panels):
            x, y = left + SIDE + place * (PANEL + GAP), height - top - PANEL
            axes = figure.add_axes((x / width, y / height, PANEL / width, PANEL / height))
            axes.set_gid(f"{example.shown.name}: {title}")
            axes.set(xticks=[], yticks=[])
            black, white = np.percentile(image, (1, 99)) if image.ndim == 2 else (0, 255)
            axes.imshow(image, cmap="gray", vmin=black, vmax=white, origin="lower", interpolation="nearest")
            if row == 0:
                axes.set_title(title, fontsize=9, pad=3)
    return figure


def colour_table(classes: Sequence[ParticleClass]) -> NDArray[np.uint8]:
    """Red, green and blue of each label 0 to 255, (256, 3) uint8."""
    table = np.full((256, 3), PAPER, dtype=np.uint8)
    table[IGNORE] = UNKNOWN
    for one in classes:
        table[one.label] = list(bytes.fromhex(one.colour[1:]))
    return table
