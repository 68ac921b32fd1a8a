"""Particles: the table, the classes, and the file formats of the field.

In: positions found by clustering, or particle lists of other programs in the conventions of each. Out: one
:class:`Particles` table in Å with its tomograms and classes, kept as Parquet, and exports that others can read.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deepfinder_dask.particles.classes import (
    BACKGROUND,
    IGNORE,
    MAX_LABEL,
    ParticleClass,
    check_classes,
    classes_from_dicts,
    classes_to_dicts,
    placeholder_classes,
    read_classes,
    write_classes,
)
from deepfinder_dask.particles.facts import TomogramFacts
from deepfinder_dask.particles.settings import ExportSettings, ImportSettings

if TYPE_CHECKING:
    from deepfinder_dask.particles.formats import (
        ParticlesWarning,
        export,
        import_particles,
        read_particles,
        write_particles,
    )
    from deepfinder_dask.particles.table import Particles

_FORMATS = "deepfinder_dask.particles.formats"
_LAZY = {
    "Particles": "deepfinder_dask.particles.table",
    "ParticlesWarning": _FORMATS,
    "export": _FORMATS,
    "import_particles": _FORMATS,
    "read_particles": _FORMATS,
    "write_particles": _FORMATS,
}

__all__ = [
    "BACKGROUND",
    "IGNORE",
    "MAX_LABEL",
    "ExportSettings",
    "ImportSettings",
    "ParticleClass",
    "Particles",
    "ParticlesWarning",
    "TomogramFacts",
    "check_classes",
    "classes_from_dicts",
    "classes_to_dicts",
    "export",
    "import_particles",
    "placeholder_classes",
    "read_classes",
    "read_particles",
    "write_classes",
    "write_particles",
]


def __getattr__(name: str) -> Any:
    """Load what needs pandas only when asked for."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
