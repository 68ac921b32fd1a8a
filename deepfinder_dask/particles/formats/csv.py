"""CSV: the columns of the table under a header line, positions in Å, unrounded.

Written with commas (tabs for ``.tsv``); read with commas, tabs, semicolons or bars. Columns needed: ``x, y, z``.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pandas as pd

from deepfinder_dask.errors import FormatError, InputError
from deepfinder_dask.particles.files import atomic_write
from deepfinder_dask.particles.formats.base import Hints, complete, one_tomogram
from deepfinder_dask.particles.settings import ExportSettings
from deepfinder_dask.particles.table import Particles

_TEXT = ("tomogram", "class")
_MISSING = ("", "nan", "NaN", "NA", "<NA>")


class CsvFormat:
    """Text with one particle a line."""

    name = "csv"
    suffixes: tuple[str, ...] = (".csv", ".tsv", ".txt")
    carries = frozenset({"tomogram", "class", "score", "size_voxels", "orientation", "extra"})

    def recognises(self, path: Path, head: str) -> bool:
        """Whether the first line is a header with x, y and z."""
        return {"x", "y", "z"} <= set(_header(head)[0])

    def read(self, path: Path, hints: Hints) -> Particles:
        """Read a delimited text file with a header line."""
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise FormatError(f"{path}: not a text file in UTF-8: {error.reason}") from error
        header, delimiter = _header(text)
        missing = [name for name in ("x", "y", "z") if name not in header]
        if missing or len(set(header)) < len(header):
            problem = f"{missing} missing" if missing else "a name twice"
            raise FormatError(f"{path}: expected a header line with x, y, z (Å), {problem} in {header}")
        try:
            lines = [line for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if line][1:]
        except csv.Error as error:
            raise FormatError(f"{path}: not a table of particles: {error}") from error
        for number, line in enumerate(lines, start=2):
            if len(line) != len(header):
                raise FormatError(f"{path}: line {number} has {len(line)} cells, the header line {len(header)}")
        columns = {name: [line[i].strip() for line in lines] for i, name in enumerate(header)}
        frame = pd.DataFrame({name: cells if name in _TEXT else _values(cells) for name, cells in columns.items()})
        if "tomogram" not in frame.columns:
            frame.insert(0, "tomogram", one_tomogram(path, hints))
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


def _header(text: str) -> tuple[list[str], str]:
    """Column names of the first line and the delimiter between them."""
    line = text.lstrip("\ufeff").split("\n", 1)[0].strip("\r")
    delimiter = max(",\t;|", key=line.count)
    try:
        return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), []), delimiter
    except csv.Error:
        return [], delimiter
