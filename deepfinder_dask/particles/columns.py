"""Columns beyond those of every table: what can be measured of a particle, each with its type and unit.

A table keeps any other column as it is. Those listed here have a type, so that a table reads back as it was written,
also from text, and keeps it where tables with and without the column are joined. Formats without room for them leave
them out.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal


@dataclass(frozen=True, slots=True)
class Measure:
    """What a column holds."""

    dtype: Literal["float64", "Int64", "boolean"]
    """Its pandas type; all of them can say that a value is missing."""
    meaning: str
    """What is measured, with its unit."""


BOX_START = ("z_start", "y_start", "x_start")
"""Columns of the first voxel of a particle's bounding box."""
BOX_STOP = ("z_stop", "y_stop", "x_stop")
"""Columns of one past its last voxel."""
CENTROID = ("centroid_z", "centroid_y", "centroid_x")
"""Columns of the mean of a particle's voxels."""

MEASURES: dict[str, Measure] = {
    "size_angstrom3": Measure("float64", "size in Å³"),
    **{name: Measure("Int64", f"first {name[0]} of the bounding box, voxels from 0") for name in BOX_START},
    **{name: Measure("Int64", f"one past the last {name[0]} of the bounding box, voxels") for name in BOX_STOP},
    "instance": Measure("Int64", "value of the particle's voxels in the instance map"),
    "touches_border": Measure("boolean", "whether a voxel of the particle lies at the border of the tomogram"),
    **{name: Measure("float64", f"{name[-1]} of the mean of the particle's voxels, Å") for name in CENTROID},
    "distance_*": Measure("float64", "Å from the particle's position to the nearest voxel of a structure class"),
}
"""Columns that have a type, by name; ``*`` stands for any name, such as that of a class."""


def measure_in(column: str) -> Measure | None:
    """What a column holds; None for one that is not listed, which may hold anything."""
    return next((measure for name, measure in MEASURES.items() if fnmatchcase(column, name)), None)
