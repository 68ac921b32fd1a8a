"""Clustering: which voxels of a label map belong to the same particle.

In: a segmentation (label map, probability, classes) or any label map. Out: a table of particles
(:class:`~deepfinder_dask.particles.Particles`), one row each, the same whatever the blocks and workers::

    label map ──> labelling (each block alone) ──> merging (as blocks arrive) ──> sizes, votes, scores ──> particles
    label map ──> shifting to modes (each block with its halo) ──> suppression ──> nearest mode of each voxel ──> ↑
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deepfinder_dask.clustering.settings import ClusterSettings, DistanceSettings

if TYPE_CHECKING:
    from deepfinder_dask.clustering.bandwidths import ClusterWarning
    from deepfinder_dask.clustering.components import Components
    from deepfinder_dask.clustering.distancing import distance
    from deepfinder_dask.clustering.lazy import cluster_lazily
    from deepfinder_dask.clustering.mean_shift import Clusters, find_clusters
    from deepfinder_dask.clustering.verb import cluster, find_components

_HOMES = {
    "cluster": "verb",
    "cluster_lazily": "lazy",
    "distance": "distancing",
    "find_clusters": "mean_shift",
    "find_components": "verb",
    "ClusterWarning": "bandwidths",
    "Clusters": "mean_shift",
    "Components": "components",
}

__all__ = [
    "ClusterSettings",
    "ClusterWarning",
    "Clusters",
    "Components",
    "DistanceSettings",
    "cluster",
    "cluster_lazily",
    "distance",
    "find_clusters",
    "find_components",
]


def __getattr__(name: str) -> Any:
    """Load what needs NumPy, cc3d and zarr only when asked for."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
