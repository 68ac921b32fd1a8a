"""What a table of particles knows of the tomograms its particles are in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from deepfinder_dask.blocks import Shape3
from deepfinder_dask.errors import GeometryError, VoxelSizeError

VoxelSize = tuple[float, float, float]
"""Å per voxel, (z, y, x)."""


@dataclass(frozen=True, slots=True)
class TomogramFacts:
    """Voxel size and shape of the volume that particles were found in.

    One number for ``voxel_size`` means the same on every axis.
    """

    voxel_size: VoxelSize | None = None
    """Å per voxel, (z, y, x); None where unknown."""
    shape: Shape3 | None = None
    """Voxels, (z, y, x); None where unknown."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "voxel_size", as_voxel_size(self.voxel_size))
        object.__setattr__(self, "shape", _as_shape(self.shape))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "voxel_size": None if self.voxel_size is None else list(self.voxel_size),
            "shape": None if self.shape is None else list(self.shape),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TomogramFacts:
        """Facts from the mapping that :meth:`to_dict` gives."""
        return cls(values.get("voxel_size"), values.get("shape"))

    def merged(self, other: TomogramFacts) -> TomogramFacts:
        """These facts, with what is unknown taken from ``other``."""
        return TomogramFacts(
            other.voxel_size if self.voxel_size is None else self.voxel_size,
            other.shape if self.shape is None else self.shape,
        )


def as_voxel_size(value: float | Sequence[float] | None) -> VoxelSize | None:
    """Three lengths in Å, (z, y, x), from one number or three.

    Raises
    ------
    VoxelSizeError
        Not one or three finite numbers above 0.
    """
    if value is None:
        return None
    try:
        sizes = [float(v) for v in (value if hasattr(value, "__iter__") else (value,) * 3)]
    except (TypeError, ValueError):
        sizes = []
    if len(sizes) != 3 or not all(isfinite(v) and v > 0 for v in sizes):
        raise VoxelSizeError(f"a voxel size is one length in Å above 0, or three (z, y, x), got {value!r}")
    return sizes[0], sizes[1], sizes[2]


def _as_shape(value: Sequence[int] | None) -> Shape3 | None:
    """Three positive integers from any sequence of three whole numbers."""
    if value is None:
        return None
    try:
        sizes = [int(v) for v in value]
        whole = all(a == b for a, b in zip(sizes, value, strict=True))
    except (TypeError, ValueError):
        sizes, whole = [], False
    if len(sizes) != 3 or not whole or min(sizes) < 1:
        raise GeometryError(f"a shape is three whole numbers of voxels (z, y, x) above 0, got {value!r}")
    return sizes[0], sizes[1], sizes[2]
