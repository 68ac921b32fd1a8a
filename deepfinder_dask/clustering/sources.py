"""What can be clustered: segmentations, label maps in Zarr stores and in files, and arrays in memory.

A segmentation's root says which classes its labels are and which tomogram it is of, and a probability volume lies
beside its label map. Other label maps are just numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Box, Shape3, triple
from deepfinder_dask.clustering.labelling import Source
from deepfinder_dask.errors import FormatError, GeometryError, InputError, SettingsError
from deepfinder_dask.particles import ParticleClass, classes_from_dicts
from deepfinder_dask.segmentation.store import LazySegmentation, Segmentation
from deepfinder_dask.tomograms import Image, MaskedSource, Region, Volume, VoxelSize, open_image, read_attributes
from deepfinder_dask.tomograms.boxes import ArraySource, FileSource
from deepfinder_dask.tomograms.location import AnyPath, base_name, is_remote, is_zarr, normalise
from deepfinder_dask.tomograms.opening import check_finished, check_finished_array
from deepfinder_dask.tomograms.sources import open_source
from deepfinder_dask.tomograms.sources.compressed import compression_of, expanded


@dataclass(frozen=True)
class LabelMap:
    """A label map, and what is known of it."""

    path: str
    """Where it was opened."""
    labels: Source
    """The labels, (z, y, x)."""
    unit: Shape3
    """Voxels that are best read together, (z, y, x): a shard, a chunk, or a plane of a file."""
    itemsize: int
    """Bytes per stored label."""
    name: str
    """Name of the tomogram."""
    voxel_size: VoxelSize | None
    """Å per voxel, (z, y, x); None where unknown."""
    classes: tuple[ParticleClass, ...] | None
    """What the labels mean; None where unknown."""
    probability: Source | None
    """Probability of each voxel's label, (z, y, x) uint8, 255 is 1; None where there is none."""

    @property
    def shape(self) -> Shape3:
        """Extent in voxels, (z, y, x)."""
        return triple(self.labels.shape)


@dataclass(frozen=True)
class Chunk:
    """A part of a label map or probability volume, in memory; empty, it only says the shape of the volume."""

    shape: Shape3
    """Extent of the volume in voxels, (z, y, x)."""
    values: NDArray[Any] | None = None
    """The part, (z, y, x)."""
    start: Shape3 = (0, 0, 0)
    """Where it begins in the volume."""

    def read(self, box: Box) -> NDArray[Any]:
        """Values of a box of voxels inside the part, (z, y, x)."""
        extent = (0, 0, 0) if self.values is None else triple(self.values.shape)
        part = Box.whole(extent).shift(self.start)
        if self.values is None or not part.contains(box):
            raise GeometryError(f"expected a box inside {part.start} to {part.stop}, got {box.start} to {box.stop}")
        return np.asarray(self.values[box.within(part).slices()])

    def __str__(self) -> str:
        return "the label map"


def array_sources(labels: Any, probability: Any) -> tuple[ArraySource, ArraySource | None]:
    """A label map and probabilities in memory, or lazy, as sources.

    Raises
    ------
    GeometryError
        The arrays are no volumes, or have different shapes.
    """
    source = ArraySource(labels)
    if len(source.shape) != 3 or min(source.shape) < 1:
        raise GeometryError(f"expected a label map (z, y, x), got an array of shape {source.shape}")
    weights = None if probability is None else ArraySource(probability)
    if weights is not None and (weights.shape != source.shape or weights.array.dtype != np.uint8):
        raise GeometryError(
            f"expected probabilities as uint8 of shape {source.shape}, got {weights.array.dtype} of {weights.shape}"
        )
    return source, weights


def within(source: LabelMap, mask: AnyPath | None, border: float | None, voxel_size: VoxelSize) -> LabelMap:
    """The label map with background outside a mask and in a border in Å (see :class:`Region`); as it is without both.

    Raises
    ------
    FormatError, GeometryError, SettingsError
        As :meth:`Region.open`.
    """
    if mask is None and border is None:
        return source
    region = Region.open(mask, shape=source.shape, voxel_size=voxel_size, border=border)
    itemsize = max(source.itemsize, region.itemsize)  # a block of the mask is read before the labels are
    return replace(source, labels=MaskedSource(source.labels, region), itemsize=itemsize)


@contextmanager
def opened(source: Any, probability: Any, scratch: Path) -> Iterator[LabelMap]:
    """What is to be clustered, of any kind; reads metadata only, and computes nothing.

    Parameters
    ----------
    source : str, path, LabelMap, Segmentation, LazySegmentation or array
        As for :func:`~deepfinder_dask.cluster`.
    probability : (z, y, x) uint8 array, optional
        Beside an array of labels only.
    scratch : Path
        Folder for the temporary copy of a gzip or bzip2 file.

    Raises
    ------
    SettingsError
        Probabilities are given for what is no array.
    FormatError, GeometryError
        As :func:`open_label_map` and :func:`array_sources`.
    """
    if probability is not None and not hasattr(source, "dtype"):
        raise SettingsError("probabilities are given beside an array of labels only: a segmentation has its own")
    if isinstance(source, LabelMap):
        yield source
    elif isinstance(source, LazySegmentation):
        known = (source.tomogram, source.voxel_size, source.classes)
        yield _array_label_map(source.labels, source.probability, *known)
    elif hasattr(source, "dtype"):
        yield _array_label_map(source, probability, "tomogram", None, None)
    else:
        path = source.path if isinstance(source, Segmentation) else source
        if not isinstance(path, str | PathLike):
            raise SettingsError(f"expected a label map, as a path or an array, got {type(path).__name__}")
        with open_label_map(path, scratch) as label_map:
            yield label_map


def _array_label_map(
    labels: Any,
    probability: Any,
    name: str,
    voxel_size: VoxelSize | None,
    classes: tuple[ParticleClass, ...] | None,
) -> LabelMap:
    values, weights = array_sources(labels, probability)
    shape = triple(values.shape)
    unit = triple(getattr(labels, "chunksize", (64, 64, 64)))
    unit = triple(min(u, n) for u, n in zip(unit, shape, strict=True))
    return LabelMap(str(values), values, unit, labels.dtype.itemsize, name, voxel_size, classes, weights)


@contextmanager
def open_label_map(path: AnyPath, scratch: Path) -> Iterator[LabelMap]:
    """Open a segmentation or any label map; reads metadata only.

    Parameters
    ----------
    path : str or path
        A segmentation, an OME-Zarr image or plain Zarr array of labels (local or a URL), or a file such as MRC.
    scratch : Path
        Folder for the temporary copy of a gzip or bzip2 file.

    Yields
    ------
    LabelMap
        Good until the context ends.

    Raises
    ------
    FormatError
        There is nothing that can be read, it was never finished, or it holds something else than labels.
    GeometryError
        The probability volume has another shape than the label map.
    """
    location = normalise(path)
    if is_zarr(location):
        yield _open_zarr(location)
        return
    if is_remote(location):
        raise FormatError(f"expected a Zarr store at {location}, found none: files of other formats must be local")
    file = Path(location)
    if file.is_file() and compression_of(location):
        with expanded(location, scratch) as copy:
            yield _open_file(copy, location)
        return
    yield _open_file(location, location)


def _open_file(path: str, name: str) -> LabelMap:
    try:
        with open_source(path, Path(path).parent) as source:
            shape, size, itemsize = source.shape, source.voxel_size, source.dtype.itemsize
    except FormatError as error:
        raise FormatError(str(error).replace(path, name).replace("no such tomogram", "no such label map")) from error
    return LabelMap(
        path=name,
        labels=FileSource(path, name, shape),
        unit=(1, shape[1], shape[2]),
        itemsize=itemsize,
        name=base_name(name),
        voxel_size=size,
        classes=None,
        probability=None,
    )


def _open_zarr(location: str) -> LabelMap:
    check_finished_array(location)
    root = read_attributes(location)
    probability = None
    try:
        image = _image_at(location)
    except FormatError:
        inner = next((key for key in ("labels", "labels/0") if is_zarr(f"{location}/{key}")), None)
        if inner is None:
            raise
        image = _image_at(f"{location}/{inner}")
        if is_zarr(f"{location}/probability"):
            probability = _image_at(f"{location}/probability").levels[0]
    labels = image.levels[0]
    _check_labels(image, location)
    if probability is not None:
        _check_probability(probability, labels)
    facts = {**image.attributes, **root}
    return LabelMap(
        path=location,
        labels=labels,
        unit=triple(labels.write_unit),
        itemsize=labels.dtype.itemsize,
        name=str(facts.get("tomogram") or base_name(location)),
        voxel_size=image.voxel_size,
        classes=_classes(facts, location),
        probability=probability,
    )


def _image_at(path: str) -> Image:
    """The image or array at a place, or the array "0" of a group without OME metadata."""
    check_finished(path)
    try:
        return open_image(path)
    except FormatError:
        if not is_zarr(f"{path}/0"):
            raise
    return open_image(f"{path}/0")


def _check_labels(image: Image, location: str) -> None:
    """Refuse what is no volume in z, y, x."""
    shape = image.levels[0].shape
    if len(shape) != 3 or min(shape) < 1:
        raise FormatError(f"expected a label map (z, y, x) in {location}, found an array of shape {shape}")
    if image.axes[-3:] != ("z", "y", "x") and set(image.axes[-3:]) == set("xyz"):
        raise FormatError(
            f"expected axes z, y, x in {location}, found {', '.join(image.axes)}: "
            f"bring them into order with `deepfinder convert {location} -o NEW.zarr`"
        )


def _check_probability(probability: Volume, labels: Volume) -> None:
    """Refuse a probability volume that does not belong to the label map."""
    if probability.shape != labels.shape:
        raise GeometryError(
            f"expected the probability volume {probability} to have the shape of its label map {labels.shape}, "
            f"found {probability.shape} (z, y, x): segment again"
        )
    if probability.dtype != np.uint8:
        raise FormatError(
            f"expected uint8 in the probability volume {probability}, 255 for 1, found {probability.dtype}"
        )


def _classes(facts: Mapping[str, Any], location: str) -> tuple[ParticleClass, ...] | None:
    """Classes that a store lists among its attributes; None where it lists none."""
    listed = facts.get("classes")
    if not listed:
        return None
    try:
        return classes_from_dicts(listed)
    except InputError as error:
        raise FormatError(f"the classes listed in {location} cannot be used: {error}") from error
