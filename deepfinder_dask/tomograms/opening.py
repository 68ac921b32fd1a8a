"""Opening stores: their attributes, and images of any origin. Reads metadata only."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

from deepfinder_dask.errors import FormatError
from deepfinder_dask.tomograms.location import AnyPath, exists, is_zarr, normalise, open_store
from deepfinder_dask.tomograms.ome import parse_multiscales
from deepfinder_dask.tomograms.tomogram import VoxelSize, as_voxel_size
from deepfinder_dask.tomograms.volume import Volume

if TYPE_CHECKING:
    import zarr


@dataclass(frozen=True)
class Image:
    """A multiscale image in a store."""

    levels: tuple[Volume, ...]
    """Handles of the pyramid, full resolution first."""
    voxel_size: VoxelSize | None
    """Å per voxel of the full resolution, (z, y, x); None where unknown."""
    axes: tuple[str, ...]
    """Names of the axes of the levels, the last three normally z, y, x."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Our own attributes of the group (see :func:`read_attributes`); empty in stores made by other programs."""


def open_node(location: str, mode: Literal["r", "r+"] = "r") -> zarr.Group | zarr.Array[Any]:
    """The group or array at a location, or one clear error."""
    import zarr

    if not is_zarr(location):
        found = "something else" if exists(location) else "nothing"
        raise FormatError(f"expected a Zarr store at {location}, found {found}")
    try:
        return zarr.open(store=open_store(location, read_only=mode == "r"), mode=mode)
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"the Zarr metadata of {location} cannot be read: {error}".splitlines()[0]) from error


def open_group(location: str, mode: Literal["r", "r+"]) -> zarr.Group:
    """The group at a location, or one clear error."""
    import zarr

    node = open_node(location, mode)
    if not isinstance(node, zarr.Group):
        raise FormatError(f"expected a Zarr group at {location}, found an array")
    return node


def children(group: zarr.Group, kind: Literal["arrays", "groups"]) -> list[str]:
    """Names of the arrays or groups in a group, sorted; what else lies there, such as a ledger, is passed over."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Object at .* is not recognized as a component of a Zarr hierarchy")
        return sorted(name for name, _ in (group.arrays() if kind == "arrays" else group.groups()))


def all_attributes(node: zarr.Group | zarr.Array[Any]) -> dict[str, Any]:
    """All attributes of a group or array, of any origin."""
    return cast("dict[str, Any]", node.attrs.asdict())


def read_attributes(path: AnyPath) -> dict[str, Any]:
    """Our own attributes (the mapping ``deepfinder``) of a group or array, ``state`` among them; {} if there are none.

    Raises
    ------
    FormatError
        If there is no Zarr store.
    """
    return dict(all_attributes(open_node(normalise(path))).get("deepfinder", {}))


def is_finished(path: AnyPath) -> bool:
    """Whether a complete store, or one made by another program, is there."""
    return is_zarr(path) and read_attributes(path).get("state", "complete") == "complete"


def check_finished(path: AnyPath) -> None:
    """Refuse a store of ours that was never finished.

    Raises
    ------
    FormatError
        If its state is not "complete".
    """
    if not is_finished(path):
        raise FormatError(f"{path} was never finished: run the same command again")


def check_finished_array(path: AnyPath) -> None:
    """Refuse a store of ours that was never finished, also where one of its arrays is named: that says nothing itself.

    Raises
    ------
    FormatError
        If its state, or that of the group around it, is not "complete".
    """
    check_finished(path)
    parent = normalise(path).rpartition("/")[0]
    if parent and is_zarr(parent):
        check_finished(parent)


def open_image(path: AnyPath) -> Image:
    """Open an OME-Zarr image (0.4, 0.5) or a plain Zarr array, ours or of another program; reads metadata only.

    Raises
    ------
    FormatError
        If there is no image, or it was never finished.
    """
    import zarr

    location = normalise(path)
    node = open_node(location)
    attributes = all_attributes(node)
    ours = attributes.get("deepfinder", {})
    if ours.get("state", "complete") != "complete":
        raise FormatError(f"{location} was never finished: run the same command again")
    if isinstance(node, zarr.Array):
        names = getattr(node.metadata, "dimension_names", None) or ("z", "y", "x")
        return Image((Volume(location),), None, tuple(str(n) for n in names), ours)
    if not attributes.get("ome", attributes).get("multiscales"):
        arrays = children(node, "arrays")
        hint = f": give one of its arrays, such as {location}/{arrays[0]}" if arrays else ""
        raise FormatError(f"expected an OME-Zarr image at {location}, found a group of {len(arrays)} arrays{hint}")
    axes, paths, scale = parse_multiscales(attributes, location)
    unknown = scale is None or (set(scale[-3:]) == {1.0} and "voxel_size" not in ours)
    size = None if scale is None or unknown else as_voxel_size(scale[-3:])
    return Image(tuple(Volume(location, p) for p in paths), size, axes, ours)
