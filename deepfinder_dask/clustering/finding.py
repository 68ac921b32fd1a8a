"""From a request to its particles: the blocks of connected components, or of mean-shift, wherever they run."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import BlockGrid
from deepfinder_dask.clustering.components import Components
from deepfinder_dask.clustering.labelling import LabelJob, label_block
from deepfinder_dask.clustering.merging import Merger, Pieces
from deepfinder_dask.clustering.request import Found, Request
from deepfinder_dask.clustering.settings import Position
from deepfinder_dask.clustering.splitting import Parts, split_components
from deepfinder_dask.execution import Executor, Progress

if TYPE_CHECKING:
    from deepfinder_dask.clustering.mean_shift import Clusters


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
        return Found(clusters.components, positions_of(clusters, request.settings.position), clusters=clusters)
    job = request.label_job()
    if request.settings.split:
        request.split_distances()  # refused before anything is labelled
    components, pieces = label_blocks(job, request.label_grid(), executor, f"Clustering {name}", progress=progress)
    return completed(request, job, components, pieces, executor, progress=progress)


def completed(
    request: Request, job: LabelJob, components: Components, pieces: Pieces, executor: Executor, *, progress: bool
) -> Found:
    """Connected components that were merged, parted where they are to be split."""
    parts: list[Parts] = []
    if request.settings.split:
        distances = request.split_distances()[components.labels]
        name = request.source.name
        components, parts = split_components(job, components, distances, executor, name, progress=progress)
    return Found(components, components.centroids, pieces, tuple(parts))


def positions_of(clusters: Clusters, position: Position) -> NDArray[np.float64]:
    """(n, 3): where the clusters that have voxels are, (z, y, x) in voxels."""
    if position == "centroid":
        return clusters.components.centroids
    return clusters.centers[clusters.occupied]


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
