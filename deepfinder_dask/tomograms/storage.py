"""Making, finishing and opening the images and groups of a store.

An output is *unfinished* from its first file until :func:`finish_image` or :func:`finish_group` writes, in one atomic
file, the OME metadata and ``deepfinder.state = "complete"``. Until then no reader takes it for whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from deepfinder_dask.errors import FormatError, OutputExistsError, StorageError
from deepfinder_dask.tomograms.layout import CHUNK, SHARD, compressors, fit_chunks, zarr_format
from deepfinder_dask.tomograms.location import (
    AnyPath,
    base_name,
    exists,
    is_remote,
    is_zarr,
    normalise,
    open_store,
    remove_store,
    storage_errors,
)
from deepfinder_dask.tomograms.ome import image_label, multiscales
from deepfinder_dask.tomograms.opening import all_attributes, open_group, read_attributes
from deepfinder_dask.tomograms.settings import Compression, OmeZarr
from deepfinder_dask.tomograms.tomogram import as_voxel_size
from deepfinder_dask.tomograms.volume import Volume


def create_group(
    path: AnyPath,
    *,
    kind: str,
    overwrite: bool = False,
    attributes: Mapping[str, Any] | None = None,
    ome_zarr: OmeZarr = "0.5",
) -> None:
    """Make an unfinished group, such as the root of a segmentation.

    Parameters
    ----------
    path : str or path
        Where: local or any fsspec URL.
    kind : str
        What it will hold ("segmentation" …); only an unfinished group of the same kind is replaced without asking.
    overwrite : bool
        Delete a finished Zarr store that is there. Anything that is not a Zarr store is never deleted.
    attributes : mapping, optional
        First attributes, as in :func:`write_attributes`.
    ome_zarr : str
        "0.5" (Zarr v3) or "0.4" (Zarr v2).

    Raises
    ------
    OutputExistsError
        If something is there that may not be replaced.
    StorageError
        If the disk is full or may not be written.
    """
    import zarr

    location = normalise(path)
    check_output(location, kind=kind, overwrite=overwrite)
    discard(location)
    ours = {**(attributes or {}), "state": "writing", "kind": kind}
    with storage_errors(location):
        store = open_store(location, read_only=False)
        zarr.create_group(store, zarr_format=zarr_format(ome_zarr), attributes={"deepfinder": ours})


def create_image(
    path: AnyPath,
    *,
    shape: Sequence[int],
    dtype: Any,
    voxel_size: float | Sequence[float],
    chunk: int | Sequence[int] = CHUNK,
    shard: Sequence[int] | None = SHARD,
    axes: Sequence[str] = ("z", "y", "x"),
    overwrite: bool = False,
    name: str | None = None,
    kind: str = "image",
    ome_zarr: OmeZarr = "0.5",
    compression: Compression = "auto",
    attributes: Mapping[str, Any] | None = None,
) -> Volume:
    """Make an unfinished image and the empty array of its full resolution at ``path/0``.

    Parameters
    ----------
    path : str or path
        Where: local or any fsspec URL. Groups above it need not exist.
    shape : sequence of int
        Voxels, (z, y, x) or (class, z, y, x).
    dtype : dtype
        Type of the values.
    voxel_size : float or sequence of float
        Å per voxel, one number or (z, y, x).
    chunk, shard : sequence of int
        In voxels, (z, y, x), cut down by :func:`fit_chunks`. Classes share shards, not chunks. Without a shard, and
        always in OME-Zarr 0.4, every chunk is a file.
    axes : sequence of str
        Axis names; ("class", "z", "y", "x") for an array with classes.
    overwrite, kind, attributes
        As in :func:`create_group`.
    name : str, optional
        Name of the image in the OME metadata; default the name of the store.
    ome_zarr : str
        "0.5" (Zarr v3) or "0.4" (Zarr v2, for older readers).
    compression : str
        "lz4", "none", or "auto": lz4 for integers, none for floats (noise does not compress).

    Raises
    ------
    OutputExistsError, StorageError
        As :func:`create_group`.
    """
    size = as_voxel_size(voxel_size)
    label = name if name is not None else base_name(path)
    ours = {**(attributes or {}), "voxel_size": list(size), "axes": list(axes), "name": label}
    create_group(path, kind=kind, overwrite=overwrite, attributes=ours, ome_zarr=ome_zarr)
    return create_level(path, 0, shape=shape, dtype=dtype, chunk=chunk, shard=shard, axes=axes, compression=compression)


def create_level(
    path: AnyPath,
    level: int,
    *,
    shape: Sequence[int],
    dtype: Any,
    chunk: int | Sequence[int] = CHUNK,
    shard: Sequence[int] | None = SHARD,
    axes: Sequence[str] = ("z", "y", "x"),
    compression: Compression = "auto",
) -> Volume:
    """Make the empty array of one pyramid level of an unfinished image; parameters as :func:`create_image`."""
    location = normalise(path)
    shape = tuple(int(n) for n in shape)
    if len(shape) not in (3, 4) or len(axes) != len(shape) or min(shape) < 1:
        raise FormatError(f"expected a volume of at least one voxel with axes {tuple(axes)}, got shape {shape}")
    group = open_group(location, mode="r+")
    v3 = group.metadata.zarr_format == 3
    chunks, shards = fit_chunks(shape, chunk, shard if v3 else None)
    dtype = np.dtype(dtype).newbyteorder("=")
    lead = shape[:-3]
    with storage_errors(location):
        group.create_array(
            str(level),
            shape=shape,
            dtype=dtype,
            chunks=(1,) * len(lead) + chunks,
            shards=None if shards is None else lead + shards,
            compressors=compressors(dtype, compression, v3=v3),
            fill_value=0,
            dimension_names=list(axes) if v3 else None,
            chunk_key_encoding={"name": "default" if v3 else "v2", "separator": "/"},
            overwrite=True,
        )
    return Volume(location, str(level))


def finish_image(
    path: AnyPath,
    attributes: Mapping[str, Any] | None = None,
    *,
    method: str = "mean",
    label_colours: Mapping[int, str] | None = None,
) -> None:
    """Declare an image complete: write its OME-NGFF metadata and attributes, last of all and in one file.

    Parameters
    ----------
    path : str or path
        The unfinished image; the levels "0", "1", … that exist become its pyramid.
    attributes : mapping, optional
        More attributes, as in :func:`write_attributes`.
    method : str
        How each level was made from the one before: "mean", "mode", "max".
    label_colours : mapping, optional
        Makes it a label image: "#rrggbb" per label (0 is transparent).
    """
    location = normalise(path)
    group = open_group(location, mode="r+")
    v3 = group.metadata.zarr_format == 3
    version = "0.5" if v3 else "0.4"
    everything = all_attributes(group)
    ours = {**everything.get("deepfinder", {}), **(attributes or {}), "state": "complete"}
    levels = 0
    while str(levels) in group:
        levels += 1
    entry: dict[str, Any] = {
        "multiscales": multiscales(
            name=ours["name"],
            axes=ours["axes"],
            voxel_size=as_voxel_size(ours["voxel_size"]),
            levels=levels,
            method=method,
            version=version,
        )
    }
    if label_colours is not None:
        entry["image-label"] = image_label(label_colours, version)
    everything |= {"ome": {"version": version, **entry}} if v3 else entry
    with storage_errors(location):
        group.attrs.put({**everything, "deepfinder": ours})


def finish_group(path: AnyPath, attributes: Mapping[str, Any] | None = None) -> None:
    """Declare a group made by :func:`create_group` complete, with more attributes."""
    _update(path, {**(attributes or {}), "state": "complete"})


def write_attributes(path: AnyPath, attributes: Mapping[str, Any]) -> None:
    """Merge JSON values into our own attributes (the mapping ``deepfinder``) of a group; its state stays."""
    _update(path, {k: v for k, v in attributes.items() if k != "state"})


def check_output(path: AnyPath, *, kind: str, overwrite: bool) -> None:
    """Refuse an output that is there and may not be replaced: see :func:`create_group`. Deletes nothing.

    Raises
    ------
    OutputExistsError
        If so.
    StorageError
        If it is on a web server.
    """
    location = normalise(path)
    if location.startswith(("http://", "https://")):
        raise StorageError(f"cannot write {location}: web servers are read-only, choose another output")
    if not exists(location):
        return
    local = None if is_remote(location) else Path(location)
    if (local is not None and (local.is_symlink() or not local.is_dir())) or not is_zarr(location):
        raise OutputExistsError(f"{location} is there and is no Zarr store: choose another output, it is never deleted")
    ours: dict[str, Any] = {}
    with suppress(FormatError):  # damaged metadata: not ours, but it may be overwritten
        ours = read_attributes(location)
    unfinished = ours.get("state") == "writing" and ours.get("kind") == kind
    if not (unfinished or overwrite):
        raise OutputExistsError(f"{location} is already there: choose another output or give --overwrite")


def discard(path: AnyPath) -> None:
    """Delete a Zarr store; its root is marked unfinished first: what an interruption leaves never looks whole."""
    location = normalise(path)
    if not is_zarr(location):
        return
    with storage_errors(location):
        # A full disk or damaged metadata must not keep us from deleting.
        with suppress(OSError, FormatError):
            group = open_group(location, mode="r+")
            ours = all_attributes(group).get("deepfinder", {})
            group.attrs.put({"deepfinder": {"kind": "removed", **ours, "state": "writing"}})
        remove_store(location)


def _update(path: AnyPath, attributes: Mapping[str, Any]) -> None:
    location = normalise(path)
    group = open_group(location, mode="r+")
    everything = all_attributes(group)
    with storage_errors(location):
        group.attrs.put({**everything, "deepfinder": {**everything.get("deepfinder", {}), **attributes}})
