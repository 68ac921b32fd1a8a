"""``deepfinder cluster``."""

from __future__ import annotations

from cyclopts import Parameter

from deepfinder_dask.cli.options import Outcome, Output, verb
from deepfinder_dask.clustering.settings import ClusterSettings


@verb(ClusterSettings, bandwidth_angstrom=Parameter(metavar="Å"))
def cluster(segmentation: str, /, *, output: Output, settings: ClusterSettings) -> Outcome:
    """Turn a label map into particles.

    Parameters
    ----------
    segmentation
        What `deepfinder segment` wrote; or any label map as OME-Zarr, Zarr or MRC.
    output
        Table of particles, PARTICLES.parquet.

    Examples
    --------
    # by mean-shift, with a bandwidth from the radii of the classes
    deepfinder cluster TS_01_labels.zarr -o TS_01.parquet --min-size 100
    # connected voxels; particles that touch are parted, and each voxel is told which particle it belongs to
    deepfinder cluster TS_01_labels.zarr -o TS_01.parquet --method components --split --instances auto
    # any other label map
    deepfinder cluster labels.mrc -o TS_01.parquet --voxel-size 10 --bandwidth 9
    """
    from deepfinder_dask.cli.words import counted, facts_of
    from deepfinder_dask.clustering import cluster

    found = cluster(segmentation, output, settings)
    return Outcome(f"found {counted(found)} → {output}", {"particles": output, **facts_of(found)})
