"""Dynamo tables (``.tbl``): rows of numbers, and a list of tomograms (``.doc``) that names those in column 20.

Positions are columns 24–26 plus the shifts in 4–6, in voxels counted from 1, as MATLAB's arrays. Angles ``tdrot, tilt,
narot`` (7–9) turn about fixed axes z, x, z and take the tomogram to the object; all of them 0 means unknown. The score
is the cross-correlation (10), the class column 22, the voxel size column 36 (0 where unknown). Tomograms are named as
told, else by ``<name>.doc`` beside the table or the only ``.doc`` there, else by their numbers. (Dynamo's wiki, "Table"
and "Conventions".)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from deepfinder_dask.errors import FormatError, InputError
from deepfinder_dask.particles.angles import from_dynamo, to_dynamo
from deepfinder_dask.particles.facts import TomogramFacts, as_voxel_size
from deepfinder_dask.particles.files import atomic_write
from deepfinder_dask.particles.formats.base import Hints, compare_sizes, complete, in_voxels, needed_voxel_size
from deepfinder_dask.particles.formats.names import names_of_numbers, numbered, write_numbered
from deepfinder_dask.particles.settings import ExportSettings
from deepfinder_dask.particles.table import ORIENTATION, Particles

_COLUMNS = 35
_FEWEST = 26
# Columns counted from 0; Dynamo's own numbers are one more.
_SHIFT, _ANGLES, _SCORE = slice(3, 6), slice(6, 9), 9
_TOMOGRAM, _CLASS, _POSITION, _PIXEL = 19, 21, slice(23, 26), 35


class DynamoFormat:
    """Tables of Dynamo."""

    name = "dynamo"
    suffixes: tuple[str, ...] = (".tbl",)
    carries = frozenset({"tomogram", "score", "orientation"})
    layout = ""

    def recognises(self, path: Path, head: str) -> bool:
        """Whether the first line is a row of 26 numbers or more."""
        words = (head.strip().splitlines() or [""])[0].split()
        try:
            return len(words) >= _FEWEST and len([float(word) for word in words]) > 0
        except ValueError:
            return False

    def read(self, path: Path, hints: Hints) -> Particles:
        """Read a table; voxels become Å by the told voxel size, else by column 36."""
        values = _rows(path)
        told = hints.facts.voxel_size
        sizes = np.zeros(len(values)) if values.shape[1] <= _PIXEL else np.nan_to_num(values[:, _PIXEL])
        compare_sizes(path, told, float(sizes[0]) if len(sizes) and sizes[0] > 0 else None)
        if told is not None or not (len(sizes) and (sizes > 0).all()):
            size = np.asarray(needed_voxel_size(path, told))[::-1][None]
        else:
            size = np.repeat(sizes[:, None], 3, axis=1)
        numbers = values[:, _TOMOGRAM]
        if (numbers % 1 != 0).any():
            raise FormatError(f"{path}: column 20 should hold whole numbers of tomograms")
        settings = hints.settings
        names = names_of_numbers(path, numbers.astype(int).tolist(), settings.tomograms, settings.tidy_names)
        frame = pd.DataFrame({"tomogram": pd.Series([names[int(n)] for n in numbers], dtype=str)})
        frame[["x", "y", "z"]] = (values[:, _POSITION] + values[:, _SHIFT] - 1.0) * size
        angles = from_dynamo(values[:, _ANGLES])
        if not np.isnan(angles).all():
            frame[ORIENTATION] = angles
        frame["score"] = values[:, _SCORE]
        if (values[:, _CLASS] != 0).any():
            frame["label"] = values[:, _CLASS]
        facts = {}
        if told is None and len(sizes):
            facts = {name: TomogramFacts(as_voxel_size(float(sizes[numbers == n][0]))) for n, name in names.items()}
        try:
            return complete(frame, hints, facts)
        except InputError as error:
            raise FormatError(f"{path}: {error}") from error

    def outputs(self, particles: Particles, path: Path, settings: ExportSettings) -> list[Path]:
        """The table, and the list of tomograms beside it."""
        return [path, path.with_suffix(".doc")]

    def write(self, particles: Particles, path: Path, settings: ExportSettings) -> list[Path]:
        """Write the table and the list of tomograms; every tomogram with particles needs a voxel size."""
        table, known = particles.table, numbered(particles.tomograms)
        names = table["tomogram"].tolist()
        values = np.zeros((len(table), _COLUMNS + 1))
        values[:, 0] = np.arange(1, len(table) + 1)
        values[:, 1:3] = 1.0  # to be aligned, and averaged
        values[:, _ANGLES] = to_dynamo(particles.orientations())
        values[:, _SCORE] = table["score"]
        values[:, _TOMOGRAM] = [known[name] for name in names]
        values[:, _CLASS] = table["label"]
        values[:, _POSITION] = in_voxels(particles) + 1.0
        values[:, _PIXEL] = [_isotropic(particles.voxel_size(name)) for name in names]
        with atomic_write(path) as temporary:
            rows = (" ".join(repr(v) if v % 1 else str(int(v)) for v in row) for row in values.tolist())
            temporary.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
        doc = path.with_suffix(".doc")
        write_numbered(known, doc)
        return [path, doc]


def _isotropic(size: tuple[float, float, float]) -> float:
    """Å per voxel, 0 (unknown) where voxels are no cubes."""
    return size[0] if len(set(size)) == 1 else 0.0


def _rows(path: Path) -> np.ndarray:
    """Rows of a table, (n, columns) float64; Dynamo writes complex numbers where a correlation came out so."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not a text file in UTF-8: {error.reason}") from error
    rows: list[list[float]] = []
    for count, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        try:
            rows.append([float(word) if "i" not in word else complex(word.replace("i", "j")).real for word in words])
        except ValueError as error:
            raise FormatError(f"{path}: line {count}: expected numbers: {error}") from error
        if len(words) < _FEWEST or len(words) != len(rows[0]):
            raise FormatError(f"{path}: line {count} has {len(words)} columns, expected {max(len(rows[0]), _FEWEST)}")
    values = np.array(rows, dtype=np.float64).reshape(len(rows), -1 if rows else _COLUMNS)
    needed = np.r_[_SHIFT, _ANGLES, _TOMOGRAM, _CLASS, _POSITION]
    bad = ~np.isfinite(values[:, needed]).all(axis=1)
    if bad.any():
        raise FormatError(f"{path}: row {int(np.argmax(bad))} has no finite position, angles, tomogram and class")
    return values
