"""Orientations: Euler angles of the table and of the formats, and the rotations they stand for.

The table's ``rot, tilt, psi`` are RELION's: intrinsic ZYZ in degrees, in x, y, z, whose inverse takes the object to the
tomogram. A rotation here always is the one from object to tomogram, acting on (x, y, z) columns.

An orientation that is *exactly* the identity means "unknown" in RELION and copick files, which have no other way to say
it; tables keep NaN.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from scipy.spatial.transform import Rotation

Angles = NDArray[np.float64]
"""Euler angles, (n, 3) float64, degrees; NaN in rows whose orientation is unknown."""


def _rotations() -> type[Rotation]:
    """SciPy's class, loaded by those who turn something: many only read tables."""
    from scipy.spatial.transform import Rotation as Untyped

    return cast("type[Rotation]", Untyped)


def rotation(angles: ArrayLike) -> Rotation:
    """Rotations object → tomogram from ``rot, tilt, psi``, (n, 3) in degrees, none of them NaN."""
    return _rotations().from_euler("ZYZ", _rows(angles), degrees=True).inv()


def angles_of(rotations: Rotation) -> Angles:
    """``rot, tilt, psi``, (n, 3) float64 in degrees, of rotations object → tomogram."""
    return _euler(rotations.inv(), "ZYZ")


def to_original(angles: ArrayLike) -> Angles:
    """``phi, psi, the`` of the original DeepFinder from ``rot, tilt, psi``; (n, 3) in degrees, NaN rows stay NaN.

    Its object → tomogram rotation is active, Rz(psi) · Rx(the) · Rz(phi) in x, y, z.
    """
    return _converted(angles, lambda given: _euler(rotation(given), "ZXZ")[:, [2, 0, 1]], np.nan)


def from_original(angles: ArrayLike) -> Angles:
    """``rot, tilt, psi`` from ``phi, psi, the`` of the original DeepFinder; (n, 3) in degrees, NaN rows stay NaN."""
    return _converted(
        angles, lambda given: angles_of(_rotations().from_euler("ZXZ", given[:, [1, 2, 0]], degrees=True)), np.nan
    )


def to_dynamo(angles: ArrayLike) -> Angles:
    """``tdrot, tilt, narot`` of Dynamo from ``rot, tilt, psi``; (n, 3) in degrees, 0 where unknown.

    Its angles turn about the fixed axes z, x, z, in that order, and take the tomogram to the object.
    """
    return _converted(angles, lambda given: _euler(rotation(given).inv(), "zxz"), 0.0)


def from_dynamo(angles: ArrayLike) -> Angles:
    """``rot, tilt, psi`` from ``tdrot, tilt, narot`` of Dynamo; (n, 3) in degrees, NaN where all three are 0."""
    return _converted(
        zero_is_unknown(angles),
        lambda given: angles_of(_rotations().from_euler("zxz", given, degrees=True).inv()),
        np.nan,
    )


def to_slicer(angles: ArrayLike) -> Angles:
    """Angles about x, y, z of 3dmod's slicer from ``rot, tilt, psi``; (n, 3) in degrees, NaN rows stay NaN.

    The slicer turns the volume about z, then y, then x, until the object stands as its reference does.
    """
    return _converted(angles, lambda given: _euler(rotation(given).inv(), "zyx")[:, ::-1], np.nan)


def from_slicer(angles: ArrayLike) -> Angles:
    """``rot, tilt, psi`` from angles about x, y, z of 3dmod's slicer; (n, 3) in degrees, NaN rows stay NaN."""
    return _converted(
        angles, lambda given: angles_of(_rotations().from_euler("zyx", given[:, ::-1], degrees=True).inv()), np.nan
    )


def zero_is_unknown(angles: ArrayLike) -> Angles:
    """Angles with rows of three zeros as NaN, for formats that have no other way to say that they are unknown."""
    given = _rows(angles).copy()
    given[(given == 0).all(axis=1)] = np.nan
    return given


def to_matrices(angles: ArrayLike) -> NDArray[np.float64]:
    """Matrices object → tomogram, (n, 3, 3) float64 acting on (x, y, z); the identity where unknown."""
    given = _rows(angles)
    known = ~np.isnan(given).any(axis=1)
    result = np.tile(np.eye(3), (len(given), 1, 1))
    if known.any():
        result[known] = rotation(given[known]).as_matrix()
    return result


def from_matrices(matrices: ArrayLike) -> Angles:
    """``rot, tilt, psi``, (n, 3) in degrees, of matrices (n, 3, 3) object → tomogram; NaN where exactly the identity.

    Raises
    ------
    ValueError
        A matrix is no rotation (mirrored, scaled or singular).
    """
    given = np.asarray(matrices, dtype=np.float64).reshape(-1, 3, 3)
    result = np.full((len(given), 3), np.nan)
    known = ~(given == np.eye(3)).all(axis=(1, 2))
    if not known.any():
        return result
    squares = given @ np.swapaxes(given, 1, 2)
    wrong = ~np.isclose(squares, np.eye(3), atol=1e-3).all(axis=(1, 2)) | ~(np.linalg.det(given) > 0)
    if wrong.any():
        raise ValueError(f"matrix {int(np.flatnonzero(wrong)[0])} is no rotation")
    result[known] = angles_of(_rotations().from_matrix(given[known]))
    return result


def _rows(angles: ArrayLike) -> Angles:
    return np.asarray(angles, dtype=np.float64).reshape(-1, 3)


def _converted(angles: ArrayLike, convert: Callable[[Angles], Angles], unknown: float) -> Angles:
    """Rows converted where they are known, else filled with ``unknown``."""
    given = _rows(angles)
    known = ~np.isnan(given).any(axis=1)
    result = np.full(given.shape, unknown)
    if known.any():
        result[known] = convert(given[known])
    return result


def _euler(rotations: Rotation, sequence: str) -> Angles:
    """Euler angles in degrees; where two of them turn about one axis any split of their sum is right."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Gimbal lock", UserWarning)
        return cast("Angles", np.asarray(rotations.as_euler(sequence, degrees=True)).reshape(-1, 3))
