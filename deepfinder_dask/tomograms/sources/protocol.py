"""What every file family offers to the conversion: facts, and rows of voxels in z, y, x."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Shape3, triple
from deepfinder_dask.errors import FormatError
from deepfinder_dask.tomograms.tomogram import VoxelSize

Span = tuple[int, int]
"""A half-open range of voxels, ``start <= index < stop``."""

DTYPES = frozenset("?bBhHiIlLqQefd")
"""Codes of the types of values that a tomogram may have; bool is read as uint8."""


class Source(Protocol):
    """An open file that holds one volume. Close it with ``close``; reading keeps no more than what it returns."""

    path: str
    """Where the file is."""
    format: str
    """Its format in a word: "MRC", "TIFF", "HDF5", "Zarr"."""
    shape: Shape3
    """Extent in voxels, (z, y, x)."""
    dtype: np.dtype[Any]
    """Type of the values as read, native byte order."""
    voxel_size: VoxelSize | None
    """Å per voxel, (z, y, x); None where the file does not say."""
    facts: Mapping[str, Any]
    """What else the header says, as JSON values."""
    whole_planes: bool
    """Whether reading some rows of a z plane costs as much as reading all of it."""

    def read(self, z: Span, y: Span) -> NDArray[Any]:
        """Values of some rows over the whole of x: ``(z, y, x)``, native byte order, C-contiguous."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


def check_shape(shape: Sequence[int], path: str) -> Shape3:
    """The shape as (z, y, x), or a refusal of an empty volume.

    Raises
    ------
    FormatError
        If there is no voxel on an axis.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise FormatError(f"expected at least one voxel on each axis in {path}, found shape {tuple(shape)} (z, y, x)")
    return triple(shape)


def check_dtype(dtype: np.dtype[Any], path: str) -> np.dtype[Any]:
    """The type in native byte order (bool as uint8), or a refusal.

    Raises
    ------
    FormatError
        If the values are no real numbers.
    """
    if dtype.char not in DTYPES:
        raise FormatError(f"expected real numbers in {path}, found values of type {dtype}")
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")


def known_voxel_size(size: Sequence[float] | None) -> VoxelSize | None:
    """Å per voxel, (z, y, x), to 6 digits (headers hold 32-bit floats), or None where it is unknown.

    A size that is not positive on an axis, or exactly 1.0 on all three, is what programs write that do not know it.
    """
    if size is None or not all(math.isfinite(v) and v > 0 for v in size) or all(v == 1.0 for v in size):
        return None
    z, y, x = (float(f"{v:.6g}") for v in size)
    return z, y, x


def plain(value: Any) -> Any:
    """The value as JSON: NumPy scalars and arrays as numbers and lists, bytes as text, non-finite floats as None."""
    if isinstance(value, np.void) and value.dtype.names:
        return [plain(value[name]) for name in value.dtype.names]
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, bytes):
        return value.decode("latin-1").rstrip("\0 ")
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, bool | int | str) or value is None else str(value)
