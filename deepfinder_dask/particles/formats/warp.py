"""Warp: STAR files in RELION 3.0's words, with tomograms named ``TS_01.tomostar``.

Positions count pixels of ``rlnDetectorPixelSize`` (µm) × 10⁴ / ``rlnMagnification`` Å from 0; so do origins. That pixel
is the unbinned one unless told; in Warp it goes by ``--coords_angpix``. (Warp's user guide, "Particle export".)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from deepfinder_dask.particles.formats.base import Hints
from deepfinder_dask.particles.formats.relion4 import COORDINATE, pixel_columns, read_pixels, unbinned
from deepfinder_dask.particles.formats.star import star_labels, write_star
from deepfinder_dask.particles.settings import ExportSettings
from deepfinder_dask.particles.table import Particles

_MAGNIFICATION = 10000.0


class WarpFormat:
    """Particles of Warp."""

    name = "warp"
    suffixes: tuple[str, ...] = ()
    carries = frozenset({"tomogram", "score", "orientation"})
    layout = ""

    def recognises(self, path: Path, head: str) -> bool:
        """Whether the columns of a STAR file are RELION 3.0's, without optics, and tomograms are Warp's."""
        labels = star_labels(path) if "data_" in head else frozenset()
        return {*COORDINATE, "rlnMagnification", "rlnMicrographName"} <= labels and "data_optics" not in labels

    def read(self, path: Path, hints: Hints) -> Particles:
        """Read particles."""
        return read_pixels(path, hints)

    def outputs(self, particles: Particles, path: Path, settings: ExportSettings) -> list[Path]:
        """The file itself."""
        return [path]

    def write(self, particles: Particles, path: Path, settings: ExportSettings) -> list[Path]:
        """Write particles; every tomogram needs a voxel size, or a line in tomograms.star."""
        shown = unbinned(particles, settings)
        names = particles.table["tomogram"].tolist()
        columns: dict[str, Any] = {"rlnMicrographName": [f"{shown[name].name}.tomostar" for name in names]}
        columns.update(pixel_columns(particles, shown))
        columns["rlnMagnification"] = [_MAGNIFICATION] * len(names)
        columns["rlnDetectorPixelSize"] = [shown[name].pixel[0] * _MAGNIFICATION / 1e4 for name in names]
        write_star({"": pd.DataFrame(columns)}, path, version="")
        return [path]
