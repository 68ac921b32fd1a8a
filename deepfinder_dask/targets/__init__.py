"""Targets: the label maps that a network is trained on, drawn from particle positions.

In: particles with their classes, the tomogram they are in, for each class a radius, a density map, a mask or a given
label map. Out: a label map, block by block: 0 is background, 255 is *ignore* (not annotated); with the classes that are
annotated, and how many voxels were claimed twice.

::

    positions ──► spheres ────┐
    positions,    oriented    ├──► nearest centre ──► particles over ──► ignore: outside a mask,
    angles    ──► shapes   ───┘    wins               given maps         around particles
    given label maps ─────────────────────────────────────┘
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deepfinder_dask.targets.settings import TargetSettings

if TYPE_CHECKING:
    from deepfinder_dask.targets.store import Overlap, Target
    from deepfinder_dask.targets.verb import target

_HOMES = {"Overlap": "store", "Target": "store", "target": "verb"}

__all__ = ["Overlap", "Target", "TargetSettings", "target"]


def __getattr__(name: str) -> Any:
    """Load what needs NumPy, pandas or zarr only when asked for."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
