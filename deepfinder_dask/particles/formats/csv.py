"""CSV: the columns of the table under a header line, positions in Å, unrounded.

Written with commas (tabs for ``.tsv``); read with commas, tabs, semicolons or bars. Columns needed: ``x, y, z``, also
in capitals or with their unit, as in ``X [A]``; a column ``IDs`` numbers instances. Lines without a header are x, y, z
(and an instance) in voxels counted from 0, as pickers write them and the CZ portal takes them; ``unit`` says otherwise.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pandas as pd

from deepfinder_dask.errors import FormatError, InputError, VoxelSizeError
from deepfinder_dask.particles.columns import measure_in
from deepfinder_dask.particles.files import atomic_write
from deepfinder_dask.particles.formats.base import Hints, complete, one_tomogram, warn_of_unknown
from deepfinder_dask.particles.settings import ExportSettings
from deepfinder_dask.particles.table import COLUMNS, ORIENTATION, Particles

_TEXT = ("tomogram", "class")
_UNITS = {"a": "angstrom", "å": "angstrom", "angstrom": "angstrom", "nm": "nm", "px": "voxel", "voxel": "voxel"}
_AXIS = re.compile(r"([xyz])(?:\s*[\[(]\s*(a|å|angstrom|nm|px|voxel)\s*[\])])?", re.IGNORECASE)
_MISSING = ("", "nan", "NaN", "NA", "<NA>")


class CsvFormat:
    """Text with one particle a line."""

    name = "csv"
    suffixes: tuple[str, ...] = (".csv", ".tsv")
    carries = frozenset({"tomogram", "class", "score", "size_voxels", "orientation", "extra"})
    layout = ""

    def recognises(self, path: Path, head: str) -> bool:
        """Whether the first line is a header with x, y and z, or three or four numbers."""
        return {"x", "y", "z"} <= set(_header(head)[0])

    def read(self, path: Path, hints: Hints) -> Particles:
        """Read a delimited text file with a header line."""
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise FormatError(f"{path}: not a text file in UTF-8: {error.reason}") from error
        header, delimiter, unit = _header(text)
        headed = not _bare(text)
        missing = [name for name in ("x", "y", "z") if name not in header]
        if missing or len(set(header)) < len(header):
            problem = f"{missing} missing" if missing else "a name twice"
            raise FormatError(f"{path}: expected a header line with x, y, z (Å), {problem} in {header}")
        try:
            lines = [line for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if line][headed:]
        except csv.Error as error:
            raise FormatError(f"{path}: not a table of particles: {error}") from error
        for number, line in enumerate(lines, start=1 + headed):
            if len(line) != len(header):
                raise FormatError(f"{path}: line {number} has {len(line)} cells, the header line {len(header)}")
        columns = {name: [line[i].strip() for line in lines] for i, name in enumerate(header)}
        frame = pd.DataFrame({name: cells if name in _TEXT else _values(cells) for name, cells in columns.items()})
        if "tomogram" not in frame.columns:
            frame.insert(0, "tomogram", one_tomogram(path, hints))
        told = hints.settings.unit
        _scale(path, frame, ("angstrom" if headed else "voxel") if unit == told == "auto" else told, unit, hints)
        others = [name for name in header if name not in (*COLUMNS, *ORIENTATION, "instance_id")]
        warn_of_unknown(path, [name for name in others if measure_in(name) is None], "column", "kept")
        try:
            return complete(frame, hints)
        except InputError as error:
            raise FormatError(f"{path}: {error}") from error

    def outputs(self, particles: Particles, path: Path, settings: ExportSettings) -> list[Path]:
        """The file itself."""
        return [path]

    def write(self, particles: Particles, path: Path, settings: ExportSettings) -> list[Path]:
        """Write every column; numbers in the shortest form that reads back to the same bits."""
        delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
        with atomic_write(path) as temporary:
            particles.table.to_csv(temporary, sep=delimiter, index=False, lineterminator="\n", encoding="utf-8")
        return [path]


def _values(cells: list[str]) -> list[object]:
    """Cells as numbers where every filled one is a number, None where empty; else as they are."""
    for kind in (int, float):
        try:
            return [None if cell in _MISSING else kind(cell) for cell in cells]
        except ValueError:
            continue
    return list(cells)


def _scale(path: Path, frame: pd.DataFrame, told: str, found: str, hints: Hints) -> None:
    """Turn positions into Å; what the header says of the unit counts where nobody says otherwise."""
    unit = found if told == "auto" else told
    factors = {"nm": (10.0,) * 3, "angstrom": (1.0,) * 3}.get(unit)
    if factors is None:
        factors = hints.facts.voxel_size
        if factors is None:
            fix = "give the voxel size of the tomogram (--voxel-size), or say --unit angstrom"
            raise VoxelSizeError(f"{path}: positions are in voxels; {fix}")
    for axis, factor in zip("zyx", factors, strict=True):
        values = frame[axis]
        if factor != 1 and pd.api.types.is_numeric_dtype(values):
            frame[axis] = values * factor


def _header(text: str) -> tuple[list[str], str, str]:
    """Column names of the first line, the delimiter between them, and the unit of positions (``auto`` if unsaid)."""
    line = text.lstrip("\ufeff").split("\n", 1)[0].strip("\r")
    delimiter = max(",\t;|", key=line.count)
    try:
        names = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:
        return [], delimiter, "auto"
    if _bare(text):
        return ["x", "y", "z", "instance_id"][: len(names)], delimiter, "auto"
    plain, units = [], set()
    for name in names:
        match = _AXIS.fullmatch(name.strip())
        plain.append(match.group(1).lower() if match else "instance_id" if name.strip() == "IDs" else name)
        if match and match.group(2):
            units.add(_UNITS[match.group(2).lower()])
    return plain, delimiter, units.pop() if len(units) == 1 else "auto"


def _bare(text: str) -> bool:
    """Whether the first line is three or four numbers, and so no header."""
    cells = re.split(r"[,\t;|]", text.lstrip("\ufeff").split("\n", 1)[0].strip())
    try:
        return len(cells) in (3, 4) and len([float(cell) for cell in cells]) > 0
    except ValueError:
        return False
