"""Lengths as they are asked for: in Å, in voxels, or in radii of a particle's class.

Light on purpose: settings carry them, so nothing here imports more than the standard library.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from deepfinder_dask.errors import SettingsError

_PATTERN = re.compile(r"(\d+\.?\d*|\.\d+) ?(r|A|Å|vox|)")


@dataclass(frozen=True, slots=True)
class Length:
    """A length above 0, in a unit."""

    amount: float
    """Number of units."""
    unit: Literal["A", "r", "vox"]
    """``A``: Å; ``r``: radii of a particle's class; ``vox``: voxels of the tomogram, by the voxel size of each axis."""

    @classmethod
    def parse(cls, value: float | str, name: str) -> Length:
        """Length from a number of Å, or from text such as ``120``, ``120A``, ``1.5r`` or ``3vox``.

        Parameters
        ----------
        value
            What was asked for.
        name
            What it is, for the error.

        Raises
        ------
        SettingsError
            It is none of these, or not above 0.
        """
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf"):
            return cls(float(value), "A")
        found = _PATTERN.fullmatch(value.strip()) if isinstance(value, str) else None
        if found is None or not float(found[1]) > 0:
            raise SettingsError(f"{name} is a length above 0, written like 120 (Å), 1.5r or 3vox, got {value!r}")
        return cls(float(found[1]), "r" if found[2] == "r" else "vox" if found[2] == "vox" else "A")
