"""IMOD models (``.mod``): one tomogram a file, one object a class, points in pixels.

In x and y the centre of the first pixel is at 0.5, in z the first section is at 0 (3dmod's guide: pixels reach from
``i`` to ``i + 1``, sections from ``k - 0.5`` to ``k + 0.5``). Points are indices into the image, whatever origin its
header has. Orientations are slicer angles: 3dmod's slicer turns the volume about z, then y, then x, until the object
stands upright. A slicer labelled ``object:contour:point``, as written here, belongs to that point; others, if there is
one for each point, to the points in order, else to the nearest point within two pixels.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deepfinder_dask.errors import FormatError, InputError
from deepfinder_dask.particles.angles import Angles, from_slicer, to_slicer
from deepfinder_dask.particles.classes import placeholder_name
from deepfinder_dask.particles.facts import TomogramFacts, as_voxel_size
from deepfinder_dask.particles.files import atomic_write
from deepfinder_dask.particles.formats.base import (
    Hints,
    ParticlesWarning,
    compare_sizes,
    complete,
    in_voxels,
    needed_voxel_size,
    one_tomogram,
)
from deepfinder_dask.particles.formats.imod_binary import (
    MAGIC,
    Model,
    ModelObject,
    SlicerAngles,
    model_bytes,
    read_model,
)
from deepfinder_dask.particles.settings import ExportSettings
from deepfinder_dask.particles.table import ORIENTATION, Particles

_FIRST = np.array([0.5, 0.5, 0.0])
_NEAR = 2.0


class ImodFormat:
    """Models of IMOD, one file a tomogram."""

    name = "imod"
    suffixes: tuple[str, ...] = (".mod",)
    carries = frozenset({"tomogram", "class", "orientation", "empty"})
    layout = "{tomogram}.mod"

    def recognises(self, path: Path, head: str) -> bool:
        """Whether the file begins as a binary model."""
        return head.startswith(MAGIC.decode("ascii"))

    def read(self, path: Path, hints: Hints) -> Particles:
        """Read the points of all objects; pixels become Å by the told voxel size, else by that of the model."""
        model = read_model(path)
        compare_sizes(path, hints.facts.voxel_size, model.pixel)
        facts = hints.facts.merged(TomogramFacts(as_voxel_size(model.pixel), _shape(model)))
        size = np.asarray(needed_voxel_size(path, facts.voxel_size))[::-1]
        names = _class_names(path, model, hints)
        points = np.concatenate([np.zeros((0, 3)), *(one.points for one in model.objects)])
        tomogram = one_tomogram(path, hints)
        frame = pd.DataFrame({"tomogram": pd.Series([tomogram] * len(points), dtype=str)})
        frame["class"] = pd.Series(
            [name for name, one in zip(names, model.objects, strict=True) for _ in range(len(one.points))], dtype=str
        )
        frame[["x", "y", "z"]] = (points - _FIRST) * size
        angles = _angles(model, points)
        if not np.isnan(angles).all():
            frame[ORIENTATION] = from_slicer(angles)
        try:
            return complete(frame, hints, {tomogram: facts})
        except InputError as error:
            raise FormatError(f"{path}: {error}") from error

    def outputs(self, particles: Particles, path: Path, settings: ExportSettings) -> list[Path]:
        """The file itself."""
        return [path]

    def write(self, particles: Particles, path: Path, settings: ExportSettings) -> list[Path]:
        """Write the particles of one tomogram, an object a class; it needs a voxel size."""
        facts = next(iter(particles.tomograms.values()), TomogramFacts())
        points = in_voxels(particles) + _FIRST
        labels = particles.table["label"].to_numpy()
        angles = to_slicer(particles.orientations())
        pixel = None if facts.voxel_size is None else facts.voxel_size[0]
        objects, slicers = [], []
        for one in particles.classes:
            rows = np.flatnonzero(labels == one.label)
            if one.kind != "particle" and not len(rows):
                continue
            radius = round(one.radius / pixel) if one.radius and pixel else 5
            red, green, blue = (value / 255 for value in one.rgb)
            objects.append(ModelObject(one.name, points[rows], (red, green, blue), max(radius, 1)))
            for number, row in enumerate(rows, start=1):
                if not np.isnan(angles[row]).any():
                    a, b, c = angles[row]
                    x, y, z = points[row]
                    slicers.append(SlicerAngles((a, b, c), (x, y, z), f"{len(objects)}:1:{number}"))
        x, y, z = (1, 1, 1) if facts.shape is None else facts.shape[::-1]
        with atomic_write(path) as temporary:
            temporary.write_bytes(model_bytes(Model((x, y, z), pixel, objects, slicers)))
        return [path]


def _shape(model: Model) -> tuple[int, int, int] | None:
    """Shape of the image, (z, y, x), where the model has a sensible one."""
    x, y, z = model.size
    return (z, y, x) if min(x, y, z) > 1 else None


def _class_names(path: Path, model: Model, hints: Hints) -> list[str]:
    """Class of each object: its name, else the known class of its number, else ``class_<number>``."""
    known = {one.label: one.name for one in hints.classes}
    names = [one.name or known.get(n, placeholder_name(n)) for n, one in enumerate(model.objects, start=1)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        warnings.warn(
            f"{path}: {len(twice)} names stand for several objects, which are read as one class each: {twice}",
            ParticlesWarning,
            stacklevel=3,
        )
    return names


def _angles(model: Model, points: NDArray[np.float64]) -> Angles:
    """Slicer angles of each point, (n, 3) in degrees; NaN where it has none."""
    angles = np.full((len(points), 3), np.nan)
    if not len(points):
        return angles
    starts = np.cumsum([0, *(len(one.points) for one in model.objects)])
    rest: list[SlicerAngles] = []
    for slicer in model.slicers:
        label = re.fullmatch(r"(\d+):1:(\d+)", slicer.label)
        number, point = (int(label.group(1)), int(label.group(2))) if label else (0, 0)
        if 1 <= number <= len(model.objects) and 1 <= point <= len(model.objects[number - 1].points):
            angles[starts[number - 1] + point - 1] = slicer.angles
        else:
            rest.append(slicer)
    if len(rest) == len(points):
        return np.array([one.angles for one in rest], dtype=np.float64)
    for slicer in rest:
        away = np.linalg.norm(points - np.asarray(slicer.centre), axis=1)
        nearest = int(np.argmin(away))
        if away[nearest] <= _NEAR and np.isnan(angles[nearest]).any():
            angles[nearest] = slicer.angles
    angles[~np.isfinite(angles).all(axis=1)] = np.nan
    return angles
