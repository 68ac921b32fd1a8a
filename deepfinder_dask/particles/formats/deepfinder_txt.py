"""The original DeepFinder's text lists: ``label z y x``, or ``label z y x size``, one object a line, blanks between.

Positions are voxels counted from 0, unrounded. This is the order in which the original writes; it hands what it reads
on as x, y, z, which exchanges x and z of its own files. A file holds one tomogram, and neither angles nor scores.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from deepfinder_dask.errors import FormatError, InputError
from deepfinder_dask.particles.files import atomic_write
from deepfinder_dask.particles.formats.base import Hints, complete, in_voxels, needed_voxel_size, one_tomogram
from deepfinder_dask.particles.settings import ExportSettings
from deepfinder_dask.particles.table import Particles


class DeepFinderTxtFormat:
    """Text lists of the original DeepFinder, one file a tomogram."""

    name = "deepfinder_txt"
    suffixes: tuple[str, ...] = (".txt",)
    carries = frozenset({"tomogram", "size_voxels", "empty"})
    layout = "{tomogram}.txt"

    def recognises(self, path: Path, head: str) -> bool:
        """Whether the first line is a label and three or four numbers."""
        line = (head.strip().splitlines() or [""])[0]
        words = line.split()
        if len(words) not in (4, 5) or not words[0].isdigit() or "\t" in line:
            return False
        try:
            return bool(np.isfinite([float(word) for word in words]).all())
        except ValueError:
            return False

    def read(self, path: Path, hints: Hints) -> Particles:
        """Read a text list; voxels become Å by the voxel size of the hints."""
        voxel_size = needed_voxel_size(path, hints.facts.voxel_size)
        rows: list[list[float]] = []
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise FormatError(f"{path}: not a text file in UTF-8: {error.reason}") from error
        for number, line in enumerate(lines, start=1):
            words = line.split()
            if not words:
                continue
            try:
                rows.append([float(word) for word in words] + [np.nan] * (5 - len(words)))
            except ValueError:
                words = []
            if len(words) not in (4, 5):
                raise FormatError(f"{path}: line {number}: expected 'label z y x [size]', found {line.strip()!r}")
        values = np.array(rows, dtype=np.float64).reshape(-1, 5)
        name = one_tomogram(path, hints)
        frame = pd.DataFrame({"tomogram": pd.Series([name] * len(values), dtype=str), "label": values[:, 0]})
        frame[["z", "y", "x"]] = values[:, 1:4] * np.asarray(voxel_size)
        frame["size_voxels"] = values[:, 4]
        try:
            return complete(frame, hints, {name: hints.facts})
        except InputError as error:
            raise FormatError(f"{path}: {error}") from error

    def outputs(self, particles: Particles, path: Path, settings: ExportSettings) -> list[Path]:
        """The file itself."""
        return [path]

    def write(self, particles: Particles, path: Path, settings: ExportSettings) -> list[Path]:
        """Write the particles of one tomogram, which needs a voxel size."""
        voxels = in_voxels(particles)[:, ::-1].tolist()
        labels, sizes = particles.table["label"].tolist(), particles.table["size_voxels"].tolist()
        lines = [
            " ".join([str(label), *map(repr, zyx), *([] if pd.isna(size) else [str(int(size))])])
            for label, zyx, size in zip(labels, voxels, sizes, strict=True)
        ]
        with atomic_write(path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return [path]
