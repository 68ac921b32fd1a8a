"""The verb ``cluster``, and the components of any array of labels."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from numpy.typing import NDArray

from deepfinder_dask.blocks import Shape3, triple
from deepfinder_dask.clustering.components import Components, SizeLimits
from deepfinder_dask.clustering.finding import find, label_blocks
from deepfinder_dask.clustering.instances import painted, place_of
from deepfinder_dask.clustering.labelling import LabelJob
from deepfinder_dask.clustering.planning import plan_blocks
from deepfinder_dask.clustering.request import Request
from deepfinder_dask.clustering.settings import ClusterSettings, Connectivity
from deepfinder_dask.clustering.sources import LabelMap, array_sources, opened
from deepfinder_dask.errors import SettingsError
from deepfinder_dask.execution import Executor, SerialExecutor, open_executor, options_to_settings
from deepfinder_dask.particles import Particles
from deepfinder_dask.particles.files import refuse_existing
from deepfinder_dask.tomograms.location import AnyPath, is_inside, is_remote

if TYPE_CHECKING:
    import dask.array
    from dask.delayed import Delayed

    from deepfinder_dask.segmentation import LazySegmentation, Segmentation

    LabelSource = AnyPath | LabelMap | Segmentation | LazySegmentation | dask.array.Array | NDArray[Any]

OTHER_FORMATS = (".csv", ".xml", ".star", ".json", ".ndjson", ".tbl", ".mod", ".txt", ".zarr", ".mrc")
"""Endings of outputs that cannot be meant to hold Parquet."""


@overload
def cluster(
    segmentation: LabelSource,
    output: AnyPath | None = None,
    settings: ClusterSettings | None = None,
    *,
    probability: Any = None,
    compute: Literal[True] = True,
    executor: Executor | None = None,
    progress: bool = True,
    **options: Any,
) -> Particles: ...


@overload
def cluster(
    segmentation: LabelSource,
    output: None = None,
    settings: ClusterSettings | None = None,
    *,
    probability: Any = None,
    compute: Literal[False],
    **options: Any,
) -> Delayed: ...


def cluster(
    segmentation: LabelSource,
    output: AnyPath | None = None,
    settings: ClusterSettings | None = None,
    *,
    probability: Any = None,
    compute: bool = True,
    executor: Executor | None = None,
    progress: bool = True,
    **options: Any,
) -> Particles | Delayed:
    """Find the particles of a label map: its mean-shift clusters or connected components, exact for any blocks.

    A particle's position is the centre of its cluster (the mode), index times voxel size, or the centroid of the
    cluster's voxels if asked for; for components always their centroid. Its class is that of most
    of its voxels, the smallest label on a tie. Its score is the mean probability of the voxels of that class, NaN
    where the label map has no probability volume beside it. Background (0), *ignore* (255) and classes of kind
    ``structure`` never enter. Components come in the order of their first voxels (C order), as in
    ``scipy.ndimage.label``; clusters in that of ``sklearn.cluster.MeanShift``, most voxels around the centre first,
    class by class where classes are clustered one by one. Sizes that no particle of its class has are dropped, then
    those too close to a better one, where a minimum distance is asked for.

    Parameters
    ----------
    segmentation : str, path, Segmentation, LazySegmentation, LabelMap or array
        A segmentation, any OME-Zarr image or plain Zarr array of labels (local or a URL), or an MRC, TIFF or HDF5 file
        of labels; or an array of labels (z, y, x), NumPy, Dask or anything with a shape, a dtype and slices, whose
        voxel size must be given. Labels are whole numbers from 0 to 255, of any type.
    output : str or path, optional
        Parquet file to write.
    settings : ClusterSettings, optional
        How; default the defaults.
    probability : (z, y, x) uint8 array, optional
        Probability of each voxel's label, 255 is 1: beside an array of labels only.
    compute : bool
        False computes nothing, and returns a ``dask.delayed.Delayed`` of the particles
        (:func:`~deepfinder_dask.clustering.cluster_lazily`).
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
        A ``dask.delayed.Delayed`` of them for ``compute=False``.

    Raises
    ------
    FormatError
        There is no label map, it was never finished, or a label belongs to none of its classes.
    GeometryError
        The probability volume or the mask has another shape than the label map.
    VoxelSizeError
        The voxel size is unknown.
    SettingsError
        An option is unknown or cannot work, or a block does not fit the memory.
    OutputExistsError
        The output is there and may not be replaced.
    StorageError
        The output cannot be written.

    Warns
    -----
    ClusterWarning
        Nothing asks for a method and no bandwidth is known: components are found instead of mean-shift clusters.
    """
    if not compute:
        from deepfinder_dask.clustering.lazy import cluster_lazily

        if output is not None:
            raise SettingsError("compute=False writes nothing: leave out the output")
        return cluster_lazily(segmentation, settings, probability=probability, **options)
    chosen = options_to_settings(ClusterSettings, settings, options)
    target = checked_output(output, chosen.overwrite)
    scratch = Path.cwd() if target is None else target.absolute().parent
    with opened(segmentation, probability, scratch) as source:
        request = Request.of(source, chosen)
        limits = request.limits
        place = place_of(request)
        if place is not None and target is not None and (is_inside(target, place) or is_inside(place, target)):
            raise SettingsError(f"the table and the instance map would both be {output}: choose another")
        with nullcontext(executor) if executor else open_executor(chosen.workers, chosen.scheduler) as where:
            found = find(request, where, progress=progress)
            found = request.spaced(found.take(limits.accept(found.components)))
            particles = request.table(found)
            # The map is declared complete when the table is there: neither is taken for the other run's.
            with painted(place, request, found, particles, where, progress=progress) if place else nullcontext():
                if target is not None:
                    particles.write(target)
    return particles


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
        connectivity=connectivity,
        per_class=checked.per_class,
        structures=tuple(structures),
        particles=None,
        limits=SizeLimits({}, {}),
    )
    return label_blocks(job, grid, executor or SerialExecutor(), "Finding components", progress=False)[0]


def checked_output(output: AnyPath | None, overwrite: bool) -> Path | None:
    """Where particles go, refused early if they could not.

    Raises
    ------
    SettingsError, OutputExistsError
        It is no local Parquet file, or is there and may not be replaced.
    """
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
