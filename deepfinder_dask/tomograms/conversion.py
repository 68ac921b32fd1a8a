"""``convert``: tomogram files of any kind into sharded OME-Zarr, streamed in bounded memory."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepfinder_dask.errors import DeepFinderError, FormatError, PartialFailure, SettingsError, VoxelSizeError
from deepfinder_dask.execution import options_to_settings
from deepfinder_dask.tomograms.copying import copy_voxels, shard_for
from deepfinder_dask.tomograms.location import AnyPath, base_name, is_inside, is_remote, normalise
from deepfinder_dask.tomograms.pyramid import build_pyramid
from deepfinder_dask.tomograms.settings import ConvertSettings
from deepfinder_dask.tomograms.sources import ENDINGS, TILT_STACKS, open_source, split_dataset
from deepfinder_dask.tomograms.statistics import statistics_of
from deepfinder_dask.tomograms.storage import check_output, create_image, discard, finish_image
from deepfinder_dask.tomograms.tomogram import Imaging, Tomogram, VoxelSize, as_voxel_size

if TYPE_CHECKING:
    from deepfinder_dask.tomograms.sources import Source

KIND = "tomogram"


def convert(
    source: AnyPath,
    output: AnyPath,
    settings: ConvertSettings | None = None,
    *,
    progress: bool = True,
    **options: Any,
) -> Tomogram:
    """Convert one tomogram file to OME-Zarr, with a mean pyramid and the statistics of all voxels.

    Values and their type stay as they are (MRC mode 12 gives float16, mode 101 uint8). The file is read once, some rows
    of some planes at a time; the peak memory does not depend on the number of planes or rows.

    Parameters
    ----------
    source : str or path
        MRC (``.mrc .rec .map .st .ccp4``, also gzip or bzip2), TIFF, HDF5 (``file.h5:/dataset`` where it holds
        several), or a Zarr store (also a URL).
    output : str or path
        The OME-Zarr group to make: local or any fsspec URL.
    settings : ConvertSettings, optional
        How; default the defaults.
    progress : bool
        Show a bar where standard error is a terminal.
    **options
        Single fields of the settings, such as ``voxel_size=13.5``.

    Returns
    -------
    Tomogram
        The converted tomogram, opened.

    Raises
    ------
    FormatError
        If the file cannot be read, is damaged, or holds NaN or infinite values.
    VoxelSizeError
        If the file does not say its voxel size.
    OutputExistsError
        If the output is there and may not be replaced.
    StorageError
        If the output cannot be written; nothing is left that looks whole.
    SettingsError
        If an option is unknown or cannot work.
    """
    chosen = options_to_settings(ConvertSettings, settings, options)
    location = normalise(output)
    file = split_dataset(source)[0]
    if is_inside(location, file) or is_inside(file, location):
        raise SettingsError(f"source and output are the same: {location}: choose another output")
    check_output(location, kind=KIND, overwrite=chosen.overwrite)
    scratch = Path.cwd() if is_remote(location) else Path(location).parent
    with open_source(source, scratch) as opened, ExitStack() as on_failure:
        size = _voxel_size(opened, chosen)
        if opened.path.lower().removesuffix(".gz").removesuffix(".bz2").endswith(TILT_STACKS):
            warnings.warn(f"{opened.path} is named like a tilt series, not a tomogram", stacklevel=2)
        volume = create_image(
            location,
            shape=opened.shape,
            dtype=opened.dtype,
            voxel_size=size,
            chunk=chosen.chunk,
            shard=shard_for(opened.shape, chosen.chunk, opened.dtype.itemsize),
            overwrite=chosen.overwrite,
            kind=KIND,
            ome_zarr=chosen.ome_zarr,
            compression=chosen.compression,
        )
        on_failure.callback(_remove_half, location)
        copied = copy_voxels(opened, volume, chosen, progress=progress)
        if chosen.pyramid:
            build_pyramid(location, start=copied.levels - 1, compression=chosen.compression)
        statistics = copied.statistics
        if statistics.robust is None:  # one look was not enough
            statistics = statistics_of(volume)
        attributes = {
            "imaging": _imaging(opened, chosen).to_dict(),
            "statistics": statistics.to_dict(),
            "source": {
                "file": normalise(source),
                "format": opened.format,
                "header": dict(opened.facts),
                "header_voxel_size": opened.voxel_size,
                "replaced_nonfinite": copied.replaced,
            },
        }
        finish_image(location, attributes)
        on_failure.pop_all()
    return Tomogram.open(location)


def _imaging(source: Source, settings: ConvertSettings) -> Imaging:
    """Imaging as the settings say, else as a source that was converted before says."""
    stated = Imaging.from_dict(source.facts.get("converted", {}).get("imaging", {}))
    return replace(
        stated, contrast=settings.contrast or stated.contrast, tilt_axis=settings.tilt_axis or stated.tilt_axis
    )


def convert_many(
    sources: Sequence[AnyPath] | AnyPath,
    folder: AnyPath,
    settings: ConvertSettings | None = None,
    *,
    progress: bool = True,
    **options: Any,
) -> list[Tomogram]:
    """Convert many files, or all tomogram files in folders, each to ``folder/NAME.zarr``.

    Parameters
    ----------
    sources : sequence of str or path
        Files, and folders whose tomogram files (by their endings) are all taken.
    folder : str or path
        Where the outputs go; made if it is not there.
    settings, progress, **options
        As in :func:`convert`, the same for all.

    Returns
    -------
    list of Tomogram
        The converted tomograms, in the order of their files.

    Raises
    ------
    PartialFailure
        If some files could not be converted: they are named, with the reason, after all others were converted.
    FormatError
        If there is no file at all.
    """
    chosen = options_to_settings(ConvertSettings, settings, options)
    files = find_tomograms([sources] if isinstance(sources, str | PathLike) else sources)
    done, failed = [], []
    for file, output in zip(files, output_names(files, folder), strict=True):
        try:
            done.append(convert(file, output, chosen, progress=progress))
        except (DeepFinderError, OSError, MemoryError) as error:
            failed.append(f"{file}: {error}")
    if failed:
        raise PartialFailure(f"{len(failed)} of {len(files)} files were not converted: " + "; ".join(failed))
    return done


def find_tomograms(sources: Sequence[AnyPath]) -> list[str]:
    """The files among the sources, folders replaced by the tomogram files in them, sorted.

    Raises
    ------
    FormatError
        If a folder holds no tomogram file, or there are no sources.
    """
    files: list[str] = []
    for source in sources:
        location = normalise(source)
        path = Path(location)
        if is_remote(location) or not path.is_dir() or location.endswith(".zarr"):
            files.append(location)
            continue
        found = sorted(
            str(p) for p in path.iterdir() if p.name.lower().removesuffix(".gz").removesuffix(".bz2").endswith(ENDINGS)
        )
        if not found:
            raise FormatError(f"expected tomogram files ({' '.join(ENDINGS)}) in {location}, found none")
        files += found
    if not files:
        raise FormatError("expected at least one tomogram file, found none")
    return files


def output_names(files: Sequence[str], folder: AnyPath) -> list[str]:
    """``folder/NAME.zarr`` for each file; files that differ only in their endings keep these in the name."""
    root = normalise(folder)
    uses = Counter(base_name(f) for f in files)
    names = [base_name(f) if uses[base_name(f)] == 1 else f.rsplit("/", 1)[-1].removesuffix(".zarr") for f in files]
    return [f"{root}/{name}.zarr" for name in names]


def _voxel_size(source: Source, settings: ConvertSettings) -> VoxelSize:
    if settings.voxel_size is not None:
        return as_voxel_size(settings.voxel_size)
    if source.voxel_size is None:
        raise VoxelSizeError(f"{source.path} does not say its voxel size: give it with --voxel-size Å")
    return source.voxel_size


def _remove_half(location: str) -> None:
    """Remove what was written before a failure; where even that fails it stays marked as unfinished."""
    with suppress(OSError, DeepFinderError):
        discard(location)
