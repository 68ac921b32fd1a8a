"""STOPGAP motive lists: a STAR block ``stopgap_motivelist`` without names of tomograms.

Positions are ``orig_x + x_shift`` in voxels counted from 1, as MATLAB's arrays. Angles are active,
R = Rz(psi) · Rx(the) · Rz(phi), object → tomogram; all of them 0 means unknown. Tomograms are numbers: their names are
told, or in a list ``<name>.doc`` beside the file (a number and a name a line), which is written too.
(STOPGAP's manual, "Motivelist".)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deepfinder_dask.errors import FormatError, InputError
from deepfinder_dask.particles.angles import from_original, to_original, zero_is_unknown
from deepfinder_dask.particles.formats.base import Hints, complete, in_voxels, needed_voxel_size, warn_of_unknown
from deepfinder_dask.particles.formats.names import names_of_numbers, numbered, write_numbered
from deepfinder_dask.particles.formats.relion_poses import numbers
from deepfinder_dask.particles.formats.star import read_star, star_labels, write_star
from deepfinder_dask.particles.settings import ExportSettings
from deepfinder_dask.particles.table import ORIENTATION, Particles

_POSITION = ("orig_x", "orig_y", "orig_z")
_SHIFT = ("x_shift", "y_shift", "z_shift")
_ANGLES = ("phi", "psi", "the")
_OTHERS = ("motl_idx", "tomo_num", "object", "subtomo_num", "halfset", "score", "class")
_BLOCK = "stopgap_motivelist"


class StopgapFormat:
    """Motive lists of STOPGAP."""

    name = "stopgap"
    suffixes: tuple[str, ...] = ()
    carries = frozenset({"tomogram", "score", "orientation"})
    layout = ""

    def recognises(self, path: Path, head: str) -> bool:
        """Whether a STAR file has a motive list."""
        return "data_" in head and {*_POSITION, "tomo_num"} <= star_labels(path)

    def read(self, path: Path, hints: Hints) -> Particles:
        """Read a motive list; voxels become Å by the voxel size of the hints."""
        table = next((one for one in read_star(path).values() if "orig_x" in one.columns), None)
        needed = ("tomo_num", *_POSITION)
        missing = needed if table is None else [name for name in needed if name not in table.columns]
        if table is None or missing:
            raise FormatError(f"{path}: expected a motive list of STOPGAP, columns {list(missing)} missing")
        known = {*_POSITION, *_SHIFT, *_ANGLES, *_OTHERS}
        warn_of_unknown(path, [name for name in table.columns if name not in known], "column")
        size = np.asarray(needed_voxel_size(path, hints.facts.voxel_size))[::-1]
        tomograms = numbers(path, table, ["tomo_num"])[:, 0]
        if (tomograms % 1 != 0).any():
            raise FormatError(f"{path}: tomo_num should be whole numbers")
        settings = hints.settings
        names = names_of_numbers(path, tomograms.astype(int).tolist(), settings.tomograms, settings.tidy_names)
        voxels = numbers(path, table, list(_POSITION)) - 1.0
        if set(_SHIFT) <= set(table.columns):
            voxels = voxels + numbers(path, table, list(_SHIFT))
        frame = pd.DataFrame({"tomogram": pd.Series([names[int(n)] for n in tomograms], dtype=str)})
        frame[["x", "y", "z"]] = voxels * size
        if set(_ANGLES) <= set(table.columns):
            angles = zero_is_unknown(numbers(path, table, list(_ANGLES)))
            if not np.isnan(angles).all():
                frame[ORIENTATION] = from_original(angles)
        if "class" in table.columns:
            frame["label"] = numbers(path, table, ["class"])[:, 0]
        if "score" in table.columns:
            frame["score"] = numbers(path, table, ["score"], allow_missing=True)[:, 0]
        try:
            return complete(frame, hints)
        except InputError as error:
            raise FormatError(f"{path}: {error}") from error

    def outputs(self, particles: Particles, path: Path, settings: ExportSettings) -> list[Path]:
        """The motive list, and the list of tomograms beside it."""
        return [path, path.with_suffix(".doc")]

    def write(self, particles: Particles, path: Path, settings: ExportSettings) -> list[Path]:
        """Write the motive list and the tomograms; every tomogram with particles needs a voxel size."""
        table, known = particles.table, numbered(particles.tomograms)
        voxels = in_voxels(particles) + 1.0
        whole = np.round(voxels)
        angles = np.nan_to_num(to_original(particles.orientations()))
        count = np.arange(1, len(table) + 1)
        columns: dict[str, Any] = {"motl_idx": count, "tomo_num": [known[name] for name in table["tomogram"].tolist()]}
        columns |= {
            "object": count,
            "subtomo_num": count,
            "halfset": ["A", "B"] * (len(table) // 2) + ["A"] * (len(table) % 2),
        }
        columns.update(zip(_POSITION, whole.astype(int).T, strict=True))
        columns["score"] = table["score"].tolist()
        columns.update(zip(_SHIFT, (voxels - whole).T, strict=True))
        columns.update(zip(_ANGLES, angles.T, strict=True))
        columns["class"] = table["label"].tolist()
        write_star({_BLOCK: pd.DataFrame(columns)}, path, version="")
        names = path.with_suffix(".doc")
        write_numbered(known, names)
        return [path, names]
