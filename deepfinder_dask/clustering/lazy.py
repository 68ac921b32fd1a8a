"""The particles of a label map as a lazy Dask value, to be composed with a user's own graph: nothing is computed yet.

::

    chunk or direct read ──> block: labelled, measured ──┐
    chunk or direct read ──> block: labelled, measured ──┴─> pair: joined ──┐
    …                                                                       ├─> pair: joined ──> table of particles
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import BlockGrid
from deepfinder_dask.clustering.components import Components, concatenate
from deepfinder_dask.clustering.finding import completed, positions_of
from deepfinder_dask.clustering.labelling import LabelJob, label_block
from deepfinder_dask.clustering.merging import Merger
from deepfinder_dask.clustering.request import Found, Request
from deepfinder_dask.clustering.settings import ClusterSettings
from deepfinder_dask.clustering.sources import Chunk, opened
from deepfinder_dask.errors import SettingsError
from deepfinder_dask.execution import SerialExecutor, options_to_settings
from deepfinder_dask.particles import Particles
from deepfinder_dask.tomograms.boxes import ArraySource
from deepfinder_dask.tomograms.location import is_remote, normalise
from deepfinder_dask.tomograms.sources.compressed import compression_of

if TYPE_CHECKING:
    from dask.delayed import Delayed


def cluster_lazily(
    segmentation: Any, settings: ClusterSettings | None = None, *, probability: Any = None, **options: Any
) -> Delayed:
    """Particles of a label map as a Dask ``Delayed``: the same, bit for bit, as :func:`~deepfinder_dask.cluster` finds.

    Each block of connected components is one task, which reads straight from the store, or takes the chunk of a Dask
    array; pairs of blocks are joined in a tree, and one task makes the table. Labels and probability of a lazy
    segmentation are computed together, each block once.

    Mean-shift is one task for each group of classes that is clustered together, and splitting one task, since both
    learn on the way what they have to read. These tasks work through the blocks one after the other, within the memory
    of a block, but a lazy array they compute anew whenever they read it: store first what took long to compute.

    Parameters
    ----------
    segmentation, probability, settings, **options
        As for :func:`~deepfinder_dask.cluster`; ``workers``, ``scheduler`` and ``overwrite`` say nothing here, since
        whoever computes the result says where. Blocks of a Dask array are whole chunks, unless ``block`` says else.

    Returns
    -------
    dask.delayed.Delayed
        Of :class:`~deepfinder_dask.particles.Particles`.

    Raises
    ------
    SettingsError
        The label map would have to be unpacked first, or an instance map, which needs a store, is asked for.
    InputError
        As :func:`~deepfinder_dask.cluster`, as far as it can be known before anything is computed.
    """
    chosen = options_to_settings(ClusterSettings, settings, options)
    if chosen.instances is not None:
        raise SettingsError("compute=False writes nothing: leave out the instance map, or compute")
    if isinstance(segmentation, str | Path) and not is_remote(segmentation):
        file = Path(normalise(segmentation))
        if file.is_file() and compression_of(str(file)):
            raise SettingsError(f"a lazy label map is read where it is: unpack {file} first")
    with opened(segmentation, probability, Path.cwd()) as source:
        request = Request.of(source, chosen)
    if request.settings.method == "mean-shift":
        return _shift_lazily(request)
    return _label_lazily(request)


def _label_lazily(request: Request) -> Delayed:
    from dask.delayed import delayed

    job, grid = request.label_job(), request.label_grid()
    if request.settings.split:
        request.split_distances()
    chunks: list[tuple[Any, Any]] = [(None, None)] * len(grid)
    labels, probability = job.labels, job.probability
    if _is_dask(labels) or _is_dask(probability):
        parts = [_delayed_chunks(source, grid) for source in (labels, probability)]
        chunks = list(zip(*parts, strict=True))
        job = replace(
            job,
            labels=Chunk(job.shape) if _is_dask(labels) else labels,
            probability=Chunk(job.shape) if _is_dask(probability) else probability,
        )
    shared = delayed(_Blocks(job, grid), traverse=False, pure=False)
    label = delayed(_label, pure=False)
    level = [label(shared, number, *pair) for number, pair in enumerate(chunks)]
    join = delayed(Merger.joined, pure=False)
    while len(level) > 1:
        last = level[len(level) // 2 * 2 :]
        level = [join(a, b) for a, b in zip(level[::2], level[1::2], strict=False)] + last
    if not request.settings.split:
        request = _without_voxels(request)
    finish = delayed(_finish, pure=False)
    table: Delayed = finish(delayed(request, traverse=False, pure=False), level[0])
    return table


@dataclass(frozen=True, slots=True)
class _Blocks:
    """What all block tasks share."""

    job: LabelJob
    grid: BlockGrid


def _label(
    shared: _Blocks,
    number: int,
    labels: NDArray[Any] | None,
    probability: NDArray[np.uint8] | None,
) -> Merger:
    """One block, labelled and measured; the values are those of its chunks, or read from the store."""
    job, grid = shared.job, shared.grid
    block = grid[number]
    if labels is not None:
        job = replace(job, labels=Chunk(job.shape, np.asarray(labels), block.write.start))
    if probability is not None:
        job = replace(job, probability=Chunk(job.shape, np.asarray(probability), block.write.start))
    merger = Merger(grid, job.connectivity, per_class=job.per_class, scored=job.probability is not None)
    merger.add(block, label_block(job, block))
    return merger


def _finish(request: Request, merger: Merger) -> Particles:
    components, pieces = merger.merged()
    found = completed(request, request.label_job(), components, pieces, SerialExecutor(), progress=False)
    return _table(request, found)


def _shift_lazily(request: Request) -> Delayed:
    from dask.delayed import delayed

    job = request.shift_job()
    request.shift_grid(job)  # refused now where no block fits the memory
    shared = delayed(request, traverse=False, pure=False)
    shift = delayed(_shift_group, pure=False)
    groups = [shift(shared, number) for number in range(len(job.groups))]
    finish = delayed(_finish_groups, pure=False)
    table: Delayed = finish(delayed(_without_voxels(request), traverse=False, pure=False), groups)
    return table


def _shift_group(request: Request, number: int) -> tuple[Components, NDArray[np.float64]]:
    """Clusters of one group, and where they are."""
    from deepfinder_dask.clustering.mean_shift import shift_to_modes

    job = request.shift_job()
    job = replace(job, groups=job.groups[number : number + 1])
    clusters = shift_to_modes(job, request.shift_grid(job), SerialExecutor(), request.source.name, progress=False)
    return clusters.components, positions_of(clusters, request.settings.position)


def _finish_groups(request: Request, groups: list[tuple[Components, NDArray[np.float64]]]) -> Particles:
    scored = request.source.probability is not None
    components = concatenate([one for one, _ in groups], scored=scored)
    positions = np.concatenate([np.zeros((0, 3)), *(where for _, where in groups)])
    return _table(request, Found(components, positions))


def _table(request: Request, found: Found) -> Particles:
    return request.table(request.spaced(found.take(request.limits.accept(found.components))))


def _is_dask(source: Any) -> bool:
    return isinstance(source, ArraySource) and hasattr(source.array, "__dask_graph__")


def _delayed_chunks(source: Any, grid: BlockGrid) -> list[Any]:
    """The chunk of each block, as Delayed; None where the block reads for itself."""
    if not _is_dask(source):
        return [None] * len(grid)
    # Not optimised: labels and probability of a lazy segmentation must keep the tasks that they share.
    chunks = source.array.rechunk(grid.core).to_delayed(optimize_graph=False)
    return [chunks[block.index] for block in grid]


def _without_voxels(request: Request) -> Request:
    """The request for whoever only makes the table: arrays need not travel with it."""
    source = request.source
    weights = None if source.probability is None else Chunk(source.shape)
    return replace(request, source=replace(source, labels=Chunk(source.shape), probability=weights))
