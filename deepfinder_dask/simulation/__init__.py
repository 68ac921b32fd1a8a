"""Simulation: tomograms with known truth.

In: a TOML file of species (built-in density phantoms), scenes and imaging. Out: for each tomogram its OME-Zarr, the
true particles with their orientations, and the true class and instance of every voxel.

::

    phantoms ──► scene ──► tilt series ──► filtered images ──► back-projection ──► stores
               density     projections,     ramp                 missing wedge
               and truth   CTF, noise
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deepfinder_dask.simulation.settings import SimulateSettings

if TYPE_CHECKING:
    from deepfinder_dask.simulation.config import SimulationConfig, Species, TiltImaging, TomogramConfig, read_config
    from deepfinder_dask.simulation.imaging import simulate_tomogram
    from deepfinder_dask.simulation.phantoms import PHANTOMS, Phantom
    from deepfinder_dask.simulation.verb import simulate

_HOMES = {
    "simulate": "verb",
    **dict.fromkeys(("SimulationConfig", "Species", "TiltImaging", "TomogramConfig", "read_config"), "config"),
    "simulate_tomogram": "imaging",
    **dict.fromkeys(("PHANTOMS", "Phantom"), "phantoms"),
}

__all__ = [
    "PHANTOMS",
    "Phantom",
    "SimulateSettings",
    "SimulationConfig",
    "Species",
    "TiltImaging",
    "TomogramConfig",
    "read_config",
    "simulate",
    "simulate_tomogram",
]


def __getattr__(name: str) -> Any:
    """Load what needs SciPy, pandas or zarr only when asked for."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
