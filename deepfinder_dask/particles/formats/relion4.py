"""RELION 3 and 4, TomoMan's dialect of it, and what reads the same: STAR files with positions in unbinned pixels.

``rlnCoordinateX, Y, Z`` count unbinned pixels from 0 at the centre of the first. The origin is subtracted: Å in
``rlnOriginXAngst`` (3.1 and later), pixels in ``rlnOriginX`` (3.0, TomoMan). Tomograms are ``rlnTomoName``, in older
files ``rlnMicrographName``. All angles 0 mean that the orientation is unknown. ``rlnParticleName``, where a list has
it, is the class. (RELION's documentation, "Conventions" and "Metadata labels".)

The size of a pixel is, whatever is known first: the told voxel size over the told binning; ``tomograms.star``; the
columns of optics and particles in the order below; the told voxel size, taken as unbinned.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deepfinder_dask.errors import FormatError, InputError, VoxelSizeError
from deepfinder_dask.particles.facts import TomogramFacts
from deepfinder_dask.particles.formats.base import Hints, ParticlesWarning, complete, one_tomogram
from deepfinder_dask.particles.formats.names import tidy_names
from deepfinder_dask.particles.formats.relion_geometry import (
    Unbinned,
    look_up,
    read_tomograms_star,
    unbinned_pixel,
)
from deepfinder_dask.particles.formats.relion_poses import (
    ORIGIN,
    PARTICLE,
    SCORE,
    numbers,
    optics_table,
    poses,
    warn_of_columns,
)
from deepfinder_dask.particles.formats.star import OLDER_VERSION, read_star, star_labels, write_star
from deepfinder_dask.particles.settings import ExportSettings
from deepfinder_dask.particles.table import ORIENTATION, Particles

COORDINATE = ("rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ")
"""Columns of the position."""
_NAMES = ("rlnTomoName", "rlnMicrographName")
_PIXELS = ("rlnTomoTiltSeriesPixelSize", "rlnMicrographOriginalPixelSize", "rlnMicrographPixelSize", "rlnPixelSize")
_DETECTOR, _MAGNIFICATION = "rlnDetectorPixelSize", "rlnMagnification"
_CLASS = "rlnParticleName"


class Relion4Format:
    """Particles of RELION 4, 3.1 and older; written so that 3.1 and 4 read them."""

    name = "relion4"
    suffixes: tuple[str, ...] = ()
    carries = frozenset({"tomogram", "score", "orientation"})
    layout = ""

    def recognises(self, path: Path, head: str) -> bool:
        """Whether the columns of a STAR file have unbinned pixels."""
        labels = star_labels(path) if "data_" in head else frozenset()
        return set(COORDINATE) <= labels and "rlnCenteredCoordinateXAngst" not in labels

    def read(self, path: Path, hints: Hints) -> Particles:
        """Read particles; the voxel size of the volumes is as told, or as tomograms.star has it."""
        return read_pixels(path, hints)

    def outputs(self, particles: Particles, path: Path, settings: ExportSettings) -> list[Path]:
        """The file itself."""
        return [path]

    def write(self, particles: Particles, path: Path, settings: ExportSettings) -> list[Path]:
        """Write optics and particles; every tomogram needs a voxel size, or a line in tomograms.star."""
        shown = unbinned(particles, settings)
        optics, groups = optics_table(shown)
        optics["rlnMicrographOriginalPixelSize"] = optics["rlnTomoTiltSeriesPixelSize"]
        names = particles.table["tomogram"].tolist()
        columns: dict[str, Any] = {"rlnTomoName": [shown[name].name for name in names]}
        columns["rlnMicrographName"] = columns["rlnTomoName"]
        columns.update(pixel_columns(particles, shown))
        columns.update({name: np.zeros(len(names)) for name in ORIGIN})
        columns["rlnOpticsGroup"] = [groups[name] for name in names]
        write_star({"optics": optics, "particles": pd.DataFrame(columns)}, path, OLDER_VERSION)
        return [path]


def unbinned(particles: Particles, settings: ExportSettings) -> dict[str, Unbinned]:
    """Each tomogram with particles as RELION sees it; its size is left at 0, as these formats don't need it."""
    star = settings.tomograms_star
    known = None if star is None else read_tomograms_star(star)
    result = {}
    for name in (str(one) for one in particles.table["tomogram"].unique()):
        if known is not None and star is not None:
            result[name] = look_up(known, name, star)
        else:
            pixel, factor = unbinned_pixel(name, particles.tomograms[name], settings.binning)
            result[name] = Unbinned(name, (0.0, 0.0, 0.0), pixel, factor)
    return result


def pixel_columns(particles: Particles, shown: Mapping[str, Unbinned]) -> dict[str, Any]:
    """Columns of position, angles, class and score (where any is known)."""
    table = particles.table
    pixels = np.array([shown[name].pixel for name in table["tomogram"].tolist()]).reshape(-1, 3)
    columns: dict[str, Any] = dict(zip(COORDINATE, (particles.positions()[:, ::-1] / pixels).T, strict=True))
    columns.update(zip(PARTICLE, np.nan_to_num(particles.orientations()).T, strict=True))
    columns["rlnClassNumber"] = table["label"].tolist()
    if table["score"].notna().any():
        columns[SCORE] = table["score"].tolist()
    return columns


def read_pixels(path: Path, hints: Hints) -> Particles:
    """Particles of a STAR file with positions in unbinned pixels.

    Raises
    ------
    FormatError
        A column is missing or holds what it should not.
    VoxelSizeError
        Nobody says how large a pixel is.
    """
    blocks = read_star(path)
    listed = [name for name, block in blocks.items() if "rlnCoordinateX" in block.columns]
    first = "particles" if "particles" in listed else next(iter(listed or blocks))
    if len(listed) > 1:
        warnings.warn(
            f"{path}: {len(listed)} blocks have positions, {listed}; only {first!r} is read",
            ParticlesWarning,
            stacklevel=3,
        )
    table = blocks[first]
    missing = [name for name in COORDINATE if name not in table.columns]
    if missing:
        raise FormatError(f"{path}: expected particles of RELION 3 or 4, columns {missing} missing")
    raw = _raw_names(path, table, hints)
    plain = tidy_names(path, raw, hints.settings.tidy_names)
    names = [plain[name] for name in raw]
    facts = dict.fromkeys(plain.values(), hints.facts)
    star = hints.settings.tomograms_star
    if star is not None:
        known = read_tomograms_star(star)
        shown = {name: look_up(known, name, star) for name in facts}
        facts = {name: hints.facts.merged(one.facts) for name, one in shown.items()}
        pixel = np.array([shown[name].pixel[0] for name in names]).reshape(-1, 1)
    else:
        pixel = _pixel_sizes(path, table, blocks.get("optics"), names, hints)
    warn_of_columns(path, table, also=(_CLASS,))
    positions, angles = poses(path, table, numbers(path, table, list(COORDINATE)) * pixel, pixel)
    frame = pd.DataFrame({"tomogram": pd.Series(names, dtype=str)})
    frame[["x", "y", "z"]] = positions
    if not np.isnan(angles).all():
        frame[ORIENTATION] = angles
    if _CLASS in table.columns:
        frame["class"] = table[_CLASS].astype(str).to_numpy()
    elif "rlnClassNumber" in table.columns:
        frame["label"] = numbers(path, table, ["rlnClassNumber"])[:, 0]
    if SCORE in table.columns:
        frame["score"] = numbers(path, table, [SCORE], allow_missing=True)[:, 0]
    try:
        return complete(frame, hints, facts)
    except InputError as error:
        raise FormatError(f"{path}: {error}") from error


def _raw_names(path: Path, table: pd.DataFrame, hints: Hints) -> list[str]:
    """Tomogram of each particle as the file names it; ``.tomostar`` is Warp's and never part of the name."""
    for column in _NAMES:
        if column in table.columns:
            return [str(name).removesuffix(".tomostar") for name in table[column].tolist()]
    return [one_tomogram(path, hints)] * len(table)


def _pixel_sizes(
    path: Path, table: pd.DataFrame, optics: pd.DataFrame | None, names: list[str], hints: Hints
) -> NDArray[np.float64]:
    """Å per unbinned pixel of each particle, (n, 1) float64."""
    told, binning = hints.facts.voxel_size, hints.settings.binning
    if told is None or binning is None:
        columns = _columns_of_pixels(path, table, optics)
        if columns:
            name, sizes = next(iter(columns.items()))
            others = {other: one for other, one in columns.items() if not np.allclose(one, sizes, rtol=1e-3)}
            if others:
                found = ", ".join(f"{other} {one[0]:g}" for other, one in others.items())
                warnings.warn(
                    f"{path}: positions are taken as pixels of {sizes[0]:g} Å ({name}), but there is {found} too; "
                    "if that is wrong, give --voxel-size and --binning",
                    ParticlesWarning,
                    stacklevel=4,
                )
            return sizes.reshape(-1, 1)
        if told is None:
            fix = "give --tomograms-star, or --voxel-size and --binning"
            raise VoxelSizeError(f"{path}: positions are in unbinned pixels and no column has their size; {fix}")
    first = names[0] if names else path.stem
    pixel, _ = unbinned_pixel(first, TomogramFacts(told), binning)
    return np.full((len(table), 1), pixel[0])


def _columns_of_pixels(path: Path, table: pd.DataFrame, optics: pd.DataFrame | None) -> dict[str, NDArray[np.float64]]:
    """Å per pixel of each particle by every column that has one, in the order in which they count."""
    merged = table
    if optics is not None and "rlnOpticsGroup" in optics.columns and "rlnOpticsGroup" in table.columns:
        groups = optics.drop_duplicates("rlnOpticsGroup").set_index("rlnOpticsGroup")
        unknown = set(table["rlnOpticsGroup"]) - set(groups.index)
        if unknown:
            raise FormatError(
                f"{path}: optics group {next(iter(unknown))} is not in the optics, which has {len(groups)}"
            )
        there = [name for name in _PIXELS if name in groups.columns]
        rows = groups.loc[table["rlnOpticsGroup"], there].reset_index(drop=True)
        merged = pd.concat([rows, table.drop(columns=there, errors="ignore").reset_index(drop=True)], axis=1)
    elif optics is not None and len(optics) == 1:
        merged = table.assign(**{name: optics[name].iloc[0] for name in _PIXELS if name in optics.columns})
    found = {name: numbers(path, merged, [name])[:, 0] for name in _PIXELS if name in merged.columns}
    if {_DETECTOR, _MAGNIFICATION} <= set(merged.columns):
        micrometres, times = numbers(path, merged, [_DETECTOR, _MAGNIFICATION]).T
        if (times > 0).all():
            found[_DETECTOR] = micrometres * 1e4 / times
    for name, sizes in found.items():
        if not (sizes > 0).all():
            raise FormatError(f"{path}: {name} should be above 0, found {sizes.min():g}")
    return {name: sizes for name, sizes in found.items() if len(sizes)}
