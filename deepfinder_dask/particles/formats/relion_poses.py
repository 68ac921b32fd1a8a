"""What the STAR files of RELION 3 to 5 and Warp have in common: angles, origins, optics, and known columns."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deepfinder_dask.errors import FormatError
from deepfinder_dask.particles.angles import angles_of, rotation
from deepfinder_dask.particles.formats.base import ParticlesWarning
from deepfinder_dask.particles.formats.relion_geometry import Unbinned

ORIGIN = ("rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst")
"""Shifts in Å, RELION 3.1 and later."""
OLD_ORIGIN = ("rlnOriginX", "rlnOriginY", "rlnOriginZ")
"""Shifts in pixels, RELION 3.0 and earlier."""
PARTICLE = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
"""Angles of the particle in its subtomogram."""
SUBTOMOGRAM = ("rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi")
"""Angles of the subtomogram in the tomogram, RELION 4 and later."""
SCORE = "rlnAutopickFigureOfMerit"
"""Score of a pick."""
_KNOWN = re.compile(
    r"rln(Angle(Rot|Tilt|Psi)(Prior|Flip|FlipRatio|ProbabilityDistribution|Search\w*)?|Angle\w*(Distance|Error|Sigma)|"
    r"AnglesProb\w*|Origin[XYZ](Angst|Prior|PriorAngst|AngstPrior)?|OriginalParticleName|OriginalImageSize|"
    r"CenteredCoordinate[XYZ]Angst|Coordinate[XYZ])|(?!rln(Angle|Origin|Centered|Coordinate))rln\w+"
)


def warn_of_columns(path: Path, table: pd.DataFrame, also: tuple[str, ...] = ()) -> None:
    """Warn of columns that RELION does not have, or that are near to the names of what is read."""
    unknown = [str(name) for name in table.columns if not _KNOWN.fullmatch(str(name)) and name not in also]
    if unknown:
        warnings.warn(
            f"{path}: {len(unknown)} columns that are not RELION's are passed over: {unknown}",
            ParticlesWarning,
            stacklevel=3,
        )


def numbers(path: Path, table: pd.DataFrame, names: list[str], allow_missing: bool = False) -> NDArray[np.float64]:
    """Columns as (n, columns) float64.

    Raises
    ------
    FormatError
        A cell is no number, or not a finite one.
    """
    try:
        values = table[names].astype("float64").to_numpy()
    except (TypeError, ValueError) as error:
        raise FormatError(f"{path}: {names} should be numbers: {error}") from error
    if not allow_missing and not np.isfinite(values).all():
        row = int(np.argmax(~np.isfinite(values).all(axis=1)))
        raise FormatError(f"{path}: {names} should be finite numbers, particle {row} has {values[row].tolist()}")
    return values


def poses(
    path: Path, table: pd.DataFrame, start: NDArray[np.float64], pixel: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions and orientations of particles.

    Parameters
    ----------
    path, table
        Where errors are; the particles' block.
    start : (n, 3) float64
        Positions (x, y, z) in Å without origins.
    pixel : (n, 1) float64, optional
        Å per pixel of ``rlnOriginX``; without it that column is not looked at.

    Returns
    -------
    (n, 3) float64, (n, 3) float64
        Positions (x, y, z) in Å, and ``rot, tilt, psi`` in degrees, NaN where all angles are 0 or none are given.

    Raises
    ------
    FormatError
        A cell is no number, or some of three angles are missing.
    """
    angles = {}
    for names in (PARTICLE, SUBTOMOGRAM):
        there = [name for name in names if name in table.columns]
        if there and len(there) < 3:
            raise FormatError(f"{path}: expected all of {list(names)}, found {there} only")
        angles[names] = numbers(path, table, list(names)) if there else np.zeros((len(table), 3))
    known = (angles[PARTICLE] != 0).any(axis=1) | (angles[SUBTOMOGRAM] != 0).any(axis=1)
    result = np.full((len(table), 3), np.nan)
    if not len(table):
        return start, result
    subtomogram = rotation(angles[SUBTOMOGRAM])
    if set(ORIGIN) <= set(table.columns):
        start = start - subtomogram.apply(numbers(path, table, list(ORIGIN)))
    elif pixel is not None and set(OLD_ORIGIN) <= set(table.columns):
        start = start - subtomogram.apply(numbers(path, table, list(OLD_ORIGIN)) * pixel)
    if known.any():
        result[known] = angles_of((subtomogram * rotation(angles[PARTICLE]))[known])
    return start, result


def optics_table(shown: Mapping[str, Unbinned]) -> tuple[pd.DataFrame, dict[str, int]]:
    """Optics table, and the number of each tomogram's group: one for each pixel size and microscope setting."""
    different: list[dict[str, float]] = []
    groups: dict[str, int] = {}
    for name, one in shown.items():
        values = {"rlnTomoTiltSeriesPixelSize": one.pixel[0], **one.optics}
        if values not in different:
            different.append(values)
        groups[name] = different.index(values) + 1
    table = pd.DataFrame(different or {"rlnTomoTiltSeriesPixelSize": []})
    table.insert(0, "rlnOpticsGroup", range(1, len(different) + 1))
    table.insert(1, "rlnOpticsGroupName", [f"opticsGroup{n}" for n in range(1, len(different) + 1)])
    return table, groups
