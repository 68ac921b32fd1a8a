"""Label maps that are given to be merged: Zarr stores and files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Box
from deepfinder_dask.errors import FormatError, GeometryError, VoxelSizeError
from deepfinder_dask.particles import IGNORE
from deepfinder_dask.targets.recipes import LabelFile
from deepfinder_dask.tomograms import Tomogram, VoxelSize, open_image
from deepfinder_dask.tomograms.boxes import BoxSource, FileSource
from deepfinder_dask.tomograms.location import is_remote, is_zarr, normalise
from deepfinder_dask.tomograms.opening import check_finished
from deepfinder_dask.tomograms.sources import open_source
from deepfinder_dask.tomograms.sources.compressed import compression_of, expanded

TOLERANCE = 0.01
"""Part by which the voxel sizes of a tomogram and of a volume given for it may differ."""


@dataclass(frozen=True)
class GivenLabels:
    """A label map to merge."""

    source: BoxSource
    """The values."""
    name: str
    """The file or store, for messages."""
    label: int | None
    """Label that its voxels take; None keeps those it holds."""
    value: int | None
    """The one value that counts; None for every value other than 0."""
    known: tuple[int, ...]
    """Labels that it may hold."""

    def read(self, box: Box) -> NDArray[np.uint8]:
        """Labels of a box of voxels, (z, y, x) uint8.

        Raises
        ------
        FormatError
            A value is no label, or a label of none of the classes.
        """
        values = self.source.read(box)
        if self.label is not None:
            counts = values != 0 if self.value is None else values == self.value
            return np.where(counts, np.uint8(self.label), np.uint8(0))
        low, high = values.min(initial=0), values.max(initial=0)
        if not (low >= 0 and high <= IGNORE) or (values.dtype.kind == "f" and np.any(values != np.floor(values))):
            raise FormatError(
                f"expected a label map of whole numbers from 0 to {IGNORE} in {self.name}, found values from {low:g} "
                f"to {high:g}: give it one label with {self.name}=LABEL"
            )
        labels = values.astype(np.uint8)
        found = np.flatnonzero(np.bincount(labels.ravel(), minlength=256))
        unknown = sorted(set(found.tolist()) - {0, IGNORE, *self.known})
        if unknown:
            raise FormatError(
                f"{self.name} holds the label {unknown[0]}, which belongs to none of the classes {list(self.known)}: "
                f"add that class, or give the map one label with {self.name}=LABEL"
            )
        return labels


@contextmanager
def open_labels(
    file: LabelFile, tomogram: Tomogram, known: tuple[int, ...], scratch: Path | None
) -> Iterator[GivenLabels]:
    """Open a label map of a tomogram; reads metadata only.

    Parameters
    ----------
    file : LabelFile
    tomogram : Tomogram
        What it must have the shape of.
    known : tuple of int
        Labels of all classes.
    scratch : Path or None
        Folder for the temporary copy of a gzip or bzip2 file; None refuses those.

    Yields
    ------
    GivenLabels
        Good until the context ends.

    Raises
    ------
    FormatError, GeometryError, VoxelSizeError
        There is none, or it is not of this tomogram.
    """
    with _open(file.path, tomogram, scratch) as source:
        yield GivenLabels(source, file.path, file.label, file.value, known)


@contextmanager
def _open(path: str, tomogram: Tomogram, scratch: Path | None) -> Iterator[BoxSource]:
    location = normalise(path)
    if is_zarr(location):
        check_finished(location)
        inner = next((f"{location}/{key}" for key in ("labels",) if is_zarr(f"{location}/{key}")), location)
        image = open_image(inner)
        _check(path, image.levels[0].shape, image.voxel_size, tomogram)
        yield image.levels[0]
        return
    if is_remote(location):
        raise FormatError(f"expected a Zarr store at {location}, found none: files of other formats must be local")
    if not Path(location).is_file():
        raise FormatError(f"no such label map: {location}")
    if compression_of(location):
        if scratch is None:
            raise FormatError(f"a label map that is read later must not be compressed: unpack {path}")
        with expanded(location, scratch) as copy:
            yield _file(copy, path, tomogram)
        return
    yield _file(location, path, tomogram)


def _file(location: str, name: str, tomogram: Tomogram) -> FileSource:
    try:
        with open_source(location, Path(location).parent) as source:
            shape, size = source.shape, source.voxel_size
    except FormatError as error:
        raise FormatError(str(error).replace(location, name)) from error
    _check(name, shape, size, tomogram)
    return FileSource(location, name, tuple(shape))


def _check(path: str, shape: tuple[int, ...], size: VoxelSize | None, tomogram: Tomogram) -> None:
    """Refuse what is not of this tomogram."""
    if tuple(shape) != tomogram.shape:
        raise GeometryError(
            f"label map and tomogram must have one shape: {path} has {tuple(shape)}, {tomogram.path} {tomogram.shape} "
            "(z, y, x)"
        )
    if size is not None and any(abs(a - b) > TOLERANCE * b for a, b in zip(size, tomogram.voxel_size, strict=True)):
        raise VoxelSizeError(
            f"label map and tomogram must have one voxel size: {path} has {list(size)} Å, {tomogram.path} "
            f"{list(tomogram.voxel_size)} (z, y, x)"
        )
