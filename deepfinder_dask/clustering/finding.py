"""From a request to its particles: the blocks of connected components, or of mean-shift, wherever they run."""

from __future__ import annotations

from functools import partial

from deepfinder_dask.blocks import BlockGrid
from deepfinder_dask.clustering.components import Components
from deepfinder_dask.clustering.labelling import LabelJob, label_block
from deepfinder_dask.clustering.merging import Merger, Pieces
from deepfinder_dask.clustering.request import Found, Request
from deepfinder_dask.execution import Executor, Progress


def find(request: Request, executor: Executor, *, progress: bool) -> Found:
    """Everything that the method finds, no size dropped that a class allows.

    Parameters
    ----------
    request : Request
        What is clustered, and how.
    executor : Executor
        Where blocks are computed.
    progress : bool
        Whether bars may be shown.

    Raises
    ------
    FormatError
        The values are no labels, or belong to none of the classes.
    SettingsError
        A bandwidth is missing, or a block does not fit the memory.
    """
    name = request.source.name
    if request.settings.method == "mean-shift":
        from deepfinder_dask.clustering.mean_shift import shift_to_modes

        shift = request.shift_job()
        clusters = shift_to_modes(shift, request.shift_grid(shift), executor, name, progress=progress)
        components = clusters.components
        centroid = request.settings.position == "centroid"
        positions = components.centroids if centroid else clusters.centers[clusters.occupied]
        return Found(components, positions, clusters=clusters)
    job = request.label_job()
    components, pieces = label_blocks(job, request.label_grid(), executor, f"Clustering {name}", progress=progress)
    return Found(components, components.centroids, pieces=pieces)


def label_blocks(
    job: LabelJob, grid: BlockGrid, executor: Executor, label: str, *, progress: bool
) -> tuple[Components, Pieces]:
    """Components of all blocks, merged, in canonical order; and the pieces they were put together from."""
    merger = Merger(grid, job.connectivity, per_class=job.per_class, scored=job.probability is not None)
    blocks = list(grid)
    with Progress(label, len(grid), enabled=None if progress else False) as bar:
        for number, part in executor.run(partial(label_block, job), blocks, label="cluster"):
            merger.add(blocks[number], part)
            bar.advance()
    return merger.merged()
