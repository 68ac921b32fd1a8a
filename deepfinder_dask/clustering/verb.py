"""The verb ``cluster``, and the components of any array of labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import BlockGrid, Shape3, triple
from deepfinder_dask.clustering.bandwidths import groups_of
from deepfinder_dask.clustering.components import Components, SizeLimits
from deepfinder_dask.clustering.labelling import LabelJob, label_block
from deepfinder_dask.clustering.merging import Merger
from deepfinder_dask.clustering.planning import plan_blocks, plan_shift_blocks
from deepfinder_dask.clustering.settings import ClusterSettings, Connectivity
from deepfinder_dask.clustering.shift_job import Group, ShiftJob, halo_of
from deepfinder_dask.clustering.sources import LabelMap, array_sources, open_label_map
from deepfinder_dask.errors import SettingsError, VoxelSizeError
from deepfinder_dask.execution import Executor, Progress, SerialExecutor, open_executor, options_to_settings
from deepfinder_dask.particles import ParticleClass, Particles, TomogramFacts, placeholder_classes, read_classes
from deepfinder_dask.particles.files import refuse_existing
from deepfinder_dask.tomograms import VoxelSize, as_voxel_size
from deepfinder_dask.tomograms.location import AnyPath, is_remote

OTHER_FORMATS = (".csv", ".xml", ".star", ".json", ".ndjson", ".tbl", ".mod", ".txt", ".zarr", ".mrc")
"""Endings of outputs that cannot be meant to hold Parquet."""


def cluster(
    segmentation: AnyPath,
    output: AnyPath | None = None,
    settings: ClusterSettings | None = None,
    *,
    executor: Executor | None = None,
    progress: bool = True,
    **options: Any,
) -> Particles:
    """Find the particles of a label map: its connected components or mean-shift clusters, exact for any blocks.

    A particle's position is the centroid of its component's voxels, index times voxel size; for mean-shift the centre
    of its cluster (the mode), or the centroid if asked for. Its class is that of most
    of its voxels, the smallest label on a tie. Its score is the mean probability of the voxels of that class, NaN
    where the label map has no probability volume beside it. Background (0), *ignore* (255) and classes of kind
    ``structure`` never enter. Components come in the order of their first voxels (C order), as in
    ``scipy.ndimage.label``; clusters in that of ``sklearn.cluster.MeanShift``, most voxels around the centre first,
    class by class where classes are clustered one by one.

    Parameters
    ----------
    segmentation : str or path
        A segmentation, any OME-Zarr image or plain Zarr array of labels (local or a URL), or an MRC, TIFF or HDF5 file
        of labels. Labels are whole numbers from 0 to 255, of any type.
    output : str or path, optional
        Parquet file to write.
    settings : ClusterSettings, optional
        How; default the defaults.
    executor : Executor, optional
        Where block tasks run; by default as the settings say.
    progress : bool
        Show a bar where standard error is a terminal.
    **options
        Single fields of the settings, such as ``min_size=50``.

    Returns
    -------
    Particles
        One row per particle; its classes are those of kind ``particle``, named ``class_1`` … where nothing names them.

    Raises
    ------
    FormatError
        There is no label map, it was never finished, or a label belongs to none of its classes.
    GeometryError
        The probability volume has another shape than the label map.
    VoxelSizeError
        The voxel size is unknown.
    SettingsError
        An option is unknown or cannot work, or a block does not fit the memory.
    OutputExistsError
        The output is there and may not be replaced.
    StorageError
        The output cannot be written.
    """
    chosen = options_to_settings(ClusterSettings, settings, options)
    target = _checked_output(output, chosen.overwrite)
    with open_label_map(segmentation, Path.cwd() if target is None else target.absolute().parent) as source:
        voxel_size = _voxel_size(source, chosen)
        facts = TomogramFacts(voxel_size, source.shape)
        classes = source.classes if chosen.classes is None else read_classes(chosen.classes)
        particles = None if classes is None else [one for one in classes if one.kind == "particle"]
        structures = tuple(one.label for one in classes or () if one.kind == "structure")
        limits = SizeLimits.of(particles or (), chosen.min_size)
        place = nullcontext(executor) if executor else open_executor(chosen.workers, chosen.scheduler)
        if chosen.method == "mean-shift":
            groups = groups_of(particles, structures, chosen, voxel_size, source.path)
            components, positions = _shift(source, groups, chosen, classes, place, progress=progress)
        else:
            job = LabelJob(
                labels=source.labels,
                probability=source.probability,
                shape=source.shape,
                connectivity=chosen.connectivity,
                per_class=chosen.per_class,
                structures=structures,
                particles=None if particles is None else tuple(one.label for one in particles),
                limits=limits,
            )
            grid = plan_blocks(source.shape, source.unit, source.itemsize, block=chosen.block, memory=chosen.memory)
            with place as where:
                components = _run(job, grid, where, f"Clustering {source.name}", progress=progress)
            positions = components.centroids
        keep = limits.accept(components)
        components, positions = components.take(keep), positions[keep]
        found = _as_particles(components, positions, chosen.tomogram or source.name, facts, particles)
    if target is not None:
        found.write(target)
    return found


def find_components(
    labels: Any,
    probability: Any = None,
    *,
    connectivity: Connectivity = 6,
    per_class: bool = False,
    structures: Iterable[int] = (),
    block: Shape3 | None = None,
    executor: Executor | None = None,
) -> Components:
    """Connected components of an array of labels, of any size, block by block.

    Parameters
    ----------
    labels : (z, y, x) array
        Whole numbers from 0 (background) to 255 (*ignore*): NumPy, Dask, or anything with a shape and slices.
    probability : (z, y, x) uint8 array, optional
        Probability of each voxel's label, 255 is 1.
    connectivity : int
        6, 18 or 26.
    per_class : bool
        Whether only voxels of the same label connect.
    structures : iterable of int
        Labels that never enter.
    block : tuple of int, optional
        Voxels labelled at a time, (z, y, x); any numbers. It does not change the result.
    executor : Executor, optional
        Where blocks are labelled; default this process.

    Returns
    -------
    Components
        In canonical order, none dropped.

    Raises
    ------
    FormatError
        The values are no labels.
    GeometryError
        The arrays are no volumes, or have different shapes.
    SettingsError
        The connectivity is none of those.
    """
    checked = ClusterSettings(connectivity=connectivity, per_class=per_class)
    source, weights = array_sources(labels, probability)
    shape = triple(source.shape)
    grid = plan_blocks(shape, (64, 64, 64), labels.dtype.itemsize, block=block, memory=None)
    job = LabelJob(
        labels=source,
        probability=weights,
        shape=shape,
        connectivity=checked.connectivity,
        per_class=checked.per_class,
        structures=tuple(structures),
        particles=None,
        limits=SizeLimits({}, {}),
    )
    return _run(job, grid, executor or SerialExecutor(), "Finding components", progress=False)


def _run(job: LabelJob, grid: BlockGrid, executor: Executor, label: str, *, progress: bool) -> Components:
    """Components of all blocks, merged."""
    scored = job.probability is not None
    merger = Merger(grid, job.connectivity, per_class=job.per_class, scored=scored)
    blocks = list(grid)
    with Progress(label, len(grid), enabled=None if progress else False) as bar:
        for number, part in executor.run(partial(label_block, job), blocks, label="cluster"):
            merger.add(blocks[number], part)
            bar.advance()
    return merger.finish()


def _shift(
    source: LabelMap,
    groups: tuple[Group, ...],
    settings: ClusterSettings,
    classes: Sequence[ParticleClass] | None,
    place: AbstractContextManager[Executor],
    *,
    progress: bool,
) -> tuple[Components, NDArray[np.float64]]:
    """Clusters that have voxels, and where they are, (n, 3), (z, y, x) in voxels."""
    from deepfinder_dask.clustering.mean_shift import shift_to_modes

    halo = max((halo_of(group.bandwidth) for group in groups), default=0)
    grid = plan_shift_blocks(
        source.shape, source.unit, source.itemsize, halo=halo, block=settings.block, memory=settings.memory
    )
    known = None if classes is None else tuple(one.label for one in classes)
    job = ShiftJob(source.labels, source.probability, source.shape, groups, known, members=False)
    with place as where:
        clusters = shift_to_modes(job, grid, where, source.name, progress=progress)
    if settings.position == "centroid":
        return clusters.components, clusters.components.centroids
    return clusters.components, clusters.centers[clusters.occupied]


def _as_particles(
    components: Components,
    positions: NDArray[np.float64],
    tomogram: str,
    facts: TomogramFacts,
    classes: list[ParticleClass] | None,
) -> Particles:
    if classes is None:
        classes = list(placeholder_classes(components.vote_label.tolist()))
    return Particles.from_voxels(
        positions,
        tomogram=tomogram,
        facts=facts,
        labels=components.labels,
        classes=classes,
        scores=components.scores,
        sizes=components.sizes,
    )


def _voxel_size(source: LabelMap, settings: ClusterSettings) -> VoxelSize:
    if settings.voxel_size is not None:
        return as_voxel_size(settings.voxel_size)
    if source.voxel_size is None:
        raise VoxelSizeError(f"{source.path} does not say its voxel size: give it with --voxel-size Å")
    return source.voxel_size


def _checked_output(output: AnyPath | None, overwrite: bool) -> Path | None:
    """Where the particles go, refused early if they could not."""
    if output is None:
        return None
    path = Path(output)
    if is_remote(output):
        raise SettingsError(f"particles are written to a local file, got {output}")
    if path.suffix.lower() in OTHER_FORMATS:
        raise SettingsError(
            f"particles are written as Parquet, got {output}: name it {path.stem}.parquet, "
            f"and turn it into another format with deepfinder export"
        )
    refuse_existing([path], overwrite)
    return path
