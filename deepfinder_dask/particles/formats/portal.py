"""CZ cryoET data portal: newline-delimited JSON, one point a line, one class (annotated object) and tomogram a file.

::

    {"type": "point", "location": {"x": 1.0, "y": 2.0, "z": 3.0}}
    {"type": "orientedPoint", "location": {…}, "xyz_rotation_matrix": [[…], […], […]]}
    {"type": "instancePoint", "location": {…}, "instance_id": 7}

Locations are voxels of the tomogram counted from 0; matrices are object → tomogram in x, y, z. (The portal's
documentation, "Annotations".)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deepfinder_dask.errors import FormatError, InputError
from deepfinder_dask.particles.angles import from_matrices, to_matrices
from deepfinder_dask.particles.files import atomic_write
from deepfinder_dask.particles.formats.base import (
    Hints,
    complete,
    in_voxels,
    needed_voxel_size,
    one_tomogram,
    warn_of_unknown,
)
from deepfinder_dask.particles.settings import ExportSettings
from deepfinder_dask.particles.table import ORIENTATION, Particles

_TYPES = ("point", "orientedPoint", "instancePoint")
_MATRIX = ("xyz_rotation_matrix", "rotation_matrix")


class PortalFormat:
    """Points of the CZ cryoET data portal, one file a tomogram and class."""

    name = "portal"
    suffixes: tuple[str, ...] = (".ndjson",)
    carries = frozenset({"tomogram", "class", "orientation", "empty"})
    layout = "{tomogram}/{class}.ndjson"

    def recognises(self, path: Path, head: str) -> bool:
        """Whether the first line is a JSON object with a type and a location."""
        line = (head.strip().splitlines() or [""])[0]
        return line.startswith("{") and '"location"' in line and '"type"' in line

    def read(self, path: Path, hints: Hints) -> Particles:
        """Read points; voxels become Å by the voxel size of the hints, the class is the file's or the told one."""
        size = np.asarray(needed_voxel_size(path, hints.facts.voxel_size))[::-1]
        points = _points(path)
        positions = np.array([one[0] for one in points], dtype=np.float64).reshape(-1, 3)
        name = one_tomogram(path, hints)
        frame = pd.DataFrame({"tomogram": pd.Series([name] * len(points), dtype=str)})
        frame[["x", "y", "z"]] = positions * size
        try:
            angles = from_matrices([one[1] for one in points])
        except ValueError as error:
            raise FormatError(f"{path}: rotation_matrix: {error}") from error
        if not np.isnan(angles).all():
            frame[ORIENTATION] = angles
        if any(one[2] is not None for one in points):
            frame["instance_id"] = pd.array([one[2] for one in points], dtype="Int64")
        try:
            return complete(frame, hints, {name: hints.facts})
        except InputError as error:
            raise FormatError(f"{path}: {error}") from error

    def outputs(self, particles: Particles, path: Path, settings: ExportSettings) -> list[Path]:
        """The file itself."""
        return [path]

    def write(self, particles: Particles, path: Path, settings: ExportSettings) -> list[Path]:
        """Write the particles of one tomogram and class; the tomogram needs a voxel size."""
        table = particles.table
        known = [not np.isnan(angles).any() for angles in particles.orientations()]
        matrices = to_matrices(particles.orientations()).tolist()
        ids = table["instance_id"].tolist() if "instance_id" in table.columns else [pd.NA] * len(table)
        lines = []
        for (x, y, z), matrix, oriented, number in zip(
            in_voxels(particles).tolist(), matrices, known, ids, strict=True
        ):
            point: dict[str, Any] = {"type": "point", "location": {"x": x, "y": y, "z": z}}
            if oriented:
                point |= {"type": "orientedPoint", _MATRIX[0]: matrix}
            elif not pd.isna(number):
                point |= {"type": "instancePoint", "instance_id": int(number)}
            lines.append(json.dumps(point, allow_nan=False))
        with atomic_write(path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return [path]


def _points(path: Path) -> list[tuple[list[float], Any, int | None]]:
    """Location, matrix and instance of each line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not a text file in UTF-8: {error.reason}") from error
    result = []
    unknown: set[str] = set()
    for count, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            one = json.loads(line)
            if one["type"] not in _TYPES:
                raise ValueError(f"type {one['type']!r} is none of {_TYPES}")
            location = [float(one["location"][axis]) for axis in "xyz"]
            matrix = np.asarray(next((one[key] for key in _MATRIX if key in one), np.eye(3)), dtype=np.float64)
            if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
                raise ValueError("a rotation matrix is three by three numbers")
            number = one.get("instance_id")
            unknown |= set(one) - {"type", "location", "instance_id", *_MATRIX}
            result.append((location, matrix, None if number is None else int(number)))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
            reason = str(error).split("\n")[0]
            raise FormatError(f"{path}: line {count} is no point of the portal: {reason}") from error
    warn_of_unknown(path, unknown, "field")
    return result
