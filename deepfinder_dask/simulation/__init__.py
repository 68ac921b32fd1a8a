"""Simulation: tomograms with known truth.

In: a TOML file of species (density maps or built-in phantoms), scenes and imaging. Out: for each tomogram its OME-Zarr,
the true particles with their orientations, and the true class and instance of every voxel.

::

    bodies ──► scene ──► density and truth ──► projections ──► tilt series ──► filtered rows ──► back-projection
    maps,      what is    slab by slab of y     rows of each    CTF, shifts,     ramp              missing wedge,
    phantoms   where                                            noise, image                       slab by slab
                                                                by image
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deepfinder_dask.simulation.settings import SimulateSettings

if TYPE_CHECKING:
    from deepfinder_dask.simulation.bodies import Body, MapBody, body_of
    from deepfinder_dask.simulation.config import read_config
    from deepfinder_dask.simulation.imaging import Simulated, simulate_tomogram
    from deepfinder_dask.simulation.phantoms import PHANTOMS, Phantom
    from deepfinder_dask.simulation.placing import place_scene
    from deepfinder_dask.simulation.recipe import (
        Membranes,
        SimulationConfig,
        Species,
        Structure,
        TiltImaging,
        TomogramConfig,
    )
    from deepfinder_dask.simulation.rendering import Rendered, render
    from deepfinder_dask.simulation.scene import Placed, Scene
    from deepfinder_dask.simulation.verb import simulate

_HOMES = {
    "bodies": "Body MapBody body_of",
    "config": "read_config",
    "imaging": "Simulated simulate_tomogram",
    "phantoms": "PHANTOMS Phantom",
    "placing": "place_scene",
    "recipe": "Membranes SimulationConfig Species Structure TiltImaging TomogramConfig",
    "rendering": "Rendered render",
    "scene": "Placed Scene",
    "verb": "simulate",
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "PHANTOMS",
    "Body",
    "MapBody",
    "Membranes",
    "Phantom",
    "Placed",
    "Rendered",
    "Scene",
    "SimulateSettings",
    "Simulated",
    "SimulationConfig",
    "Species",
    "Structure",
    "TiltImaging",
    "TomogramConfig",
    "body_of",
    "place_scene",
    "read_config",
    "render",
    "simulate",
    "simulate_tomogram",
]


def __getattr__(name: str) -> Any:
    """Load what needs SciPy, PyTorch, pandas or zarr only when asked for."""
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
