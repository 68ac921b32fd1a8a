"""The pictures and the page in the folder of a run, drawn as often as their share of its time allows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from deepfinder_dask.particles.files import atomic_write
from deepfinder_dask.training.watching.curves import curves_figure
from deepfinder_dask.training.watching.examples import JudgedPatches, examples_figure
from deepfinder_dask.training.watching.following import Entry, RunFacts
from deepfinder_dask.training.watching.page import RENEW, page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from deepfinder_dask.particles import ParticleClass

DRAWING_SHARE = 0.03
"""Most of the time that may go into drawing."""
PICTURES = ("curves.png", "curves.html", "patches.png")
"""Files that are drawn."""
DPI = 110
"""Pixels per inch."""


class RunPictures:
    """Draws a run while it goes on.

    Parameters
    ----------
    folder : Path
        Of the run.
    classes : sequence of ParticleClass
    steps : int
        Steps that the run is to have.
    drawn : callable, optional
        Called after each drawing, within its share of time; a view in a notebook follows in that way.
    """

    def __init__(
        self,
        folder: Path,
        classes: Sequence[ParticleClass],
        steps: int,
        drawn: Callable[[], object] | None = None,
    ) -> None:
        self._folder = folder
        self._facts = RunFacts(steps, tuple(classes))
        self._told = drawn
        self._patches: tuple[int, JudgedPatches] | None = None
        self._again = -1e9
        self._between = time.monotonic() + RENEW

    def begin(self) -> None:
        """Tell those who watch that the run goes on."""
        self._facts.write(self._folder)

    def judged(self, step: int, patches: JudgedPatches) -> None:
        """Take what the network found in the validation patches, for the next drawing."""
        self._patches = step, patches

    def step(self, record: Sequence[Entry]) -> None:
        """Draw after a step if it is time: at the first check, and then whenever the share of time allows it."""
        now = time.monotonic()
        checked = "f1" in record[-1]
        if now >= self._again and (checked or now >= self._between):
            self._draw(record)
            done = time.monotonic()
            self._again = done + (done - now) / DRAWING_SHARE
            self._between = max(self._again, done + RENEW)

    def end(self, record: Sequence[Entry]) -> None:
        """Draw the whole run, and tell those who watch that nothing more comes."""
        self._facts = RunFacts(self._facts.steps, self._facts.classes, ended=True)
        try:
            if record:
                self._draw(record)
        finally:  # last: who sees it looks no more
            self._facts.write(self._folder)

    def _draw(self, record: Sequence[Entry]) -> None:
        classes, folder = self._facts.classes, self._folder
        if self._patches is not None:
            step, patches = self._patches
            _save(examples_figure(patches, classes, step), folder / "patches.png")
            self._patches = None
        curves = curves_figure(record, classes)
        _save(curves, folder / "curves.png")
        svg = BytesIO()
        curves.savefig(svg, format="svg", metadata={"Date": None})
        drawing = svg.getvalue().decode()
        text = page(folder.name, record, self._facts, drawing[drawing.index("<svg") :], read_patches(folder))
        with atomic_write(folder / "curves.html") as temporary:
            temporary.write_text(text, encoding="utf-8")
        if self._told is not None:
            self._told()


def png_of(figure: Figure) -> bytes:
    """A figure as PNG."""
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=DPI)
    return stream.getvalue()


def read_patches(folder: Path) -> bytes | None:
    """The example patches of a run as PNG; None where there are none yet."""
    try:
        return (folder / "patches.png").read_bytes()
    except FileNotFoundError:
        return None


def _save(figure: Figure, path: Path) -> None:
    with atomic_write(path) as temporary:
        temporary.write_bytes(png_of(figure))
