"""``deepfinder cluster``."""

from __future__ import annotations

from cyclopts import Parameter

from deepfinder_dask.cli.options import Output, verb
from deepfinder_dask.clustering.settings import ClusterSettings


@verb(ClusterSettings, bandwidth_angstrom=Parameter(metavar="Å"))
def cluster(segmentation: str, /, *, output: Output, settings: ClusterSettings) -> str:
    """Turn a label map into particles.

    Parameters
    ----------
    segmentation
        What `deepfinder segment` wrote; or any label map as OME-Zarr, Zarr or MRC.
    output
        Table of particles, PARTICLES.parquet.
    """
    from deepfinder_dask.cli.words import counted
    from deepfinder_dask.clustering import cluster

    return f"found {counted(cluster(segmentation, output, settings))} → {output}"
