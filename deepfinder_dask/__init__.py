"""Find macromolecules in cryo-electron tomograms of any size.

In: a tomogram file and weights. Out: particles. :func:`locate` does the whole job, and the other verbs are its steps::

    convert ──► segment ──► cluster ──► export
                               │
    simulate, target, train    └──────► evaluate, pictures

Everything is loaded when it is first used: importing the package takes neither PyTorch nor Dask.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepfinder_dask.campaigns import Campaign, Located, locate, reproduce, run, status, write_report
    from deepfinder_dask.clustering import cluster, distance
    from deepfinder_dask.errors import DeepFinderError, InputError, PartialFailure
    from deepfinder_dask.evaluation import Consensus, Evaluation, Tuning, consensus, evaluate, tune
    from deepfinder_dask.networks import Weights, import_keras_weights, load_weights, save_weights
    from deepfinder_dask.particles import (
        ParticleClass,
        Particles,
        TomogramFacts,
        export,
        import_particles,
        read_classes,
        read_particles,
    )
    from deepfinder_dask.segmentation import Segmentation, segment
    from deepfinder_dask.simulation import simulate
    from deepfinder_dask.targets import Target, target
    from deepfinder_dask.tomograms import Imaging, Tomogram, convert, convert_many, info
    from deepfinder_dask.training import train, watch
    from deepfinder_dask.viewing import (
        Annotator,
        View,
        annotate,
        distributions,
        napari_layers,
        orthoslices,
        projection,
        view,
        write_pictures,
    )

__version__ = "0.1.0"

_ROOMS = {
    "campaigns": "Campaign Located locate reproduce run status write_report",
    "clustering": "cluster distance",
    "errors": "DeepFinderError InputError PartialFailure",
    "evaluation": "Consensus Evaluation Tuning consensus evaluate tune",
    "networks": "Weights import_keras_weights load_weights save_weights",
    "particles": "ParticleClass Particles TomogramFacts export import_particles read_classes read_particles",
    "segmentation": "Segmentation segment",
    "simulation": "simulate",
    "targets": "Target target",
    "tomograms": "Imaging Tomogram convert convert_many info",
    "training": "train watch",
    "viewing": "Annotator View annotate distributions napari_layers orthoslices projection view write_pictures",
}
_HOMES = {name: room for room, names in _ROOMS.items() for name in names.split()}

__all__ = [
    "Annotator",
    "Campaign",
    "Consensus",
    "DeepFinderError",
    "Evaluation",
    "Imaging",
    "InputError",
    "Located",
    "PartialFailure",
    "ParticleClass",
    "Particles",
    "Segmentation",
    "Target",
    "Tomogram",
    "TomogramFacts",
    "Tuning",
    "View",
    "Weights",
    "annotate",
    "cluster",
    "consensus",
    "convert",
    "convert_many",
    "distance",
    "distributions",
    "evaluate",
    "export",
    "import_keras_weights",
    "import_particles",
    "info",
    "load_weights",
    "locate",
    "napari_layers",
    "orthoslices",
    "projection",
    "read_classes",
    "read_particles",
    "reproduce",
    "run",
    "save_weights",
    "segment",
    "simulate",
    "status",
    "target",
    "train",
    "tune",
    "view",
    "watch",
    "write_pictures",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its room when it is first asked for."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
