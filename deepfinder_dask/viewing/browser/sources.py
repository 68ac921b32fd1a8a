"""Where a layer gets its voxels: an OME-Zarr image as it is, anything else through blocks made here.

neuroglancer puts the *corner* of voxel 0 at 0. Our positions, like OME-Zarr, put its *centre* there. For OME-Zarr the
client shifts by half a voxel of each level itself; for blocks the layer's transform does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import neuroglancer

from deepfinder_dask.tomograms import Image, VoxelSize
from deepfinder_dask.tomograms.location import read_key
from deepfinder_dask.tomograms.opening import all_attributes, open_node
from deepfinder_dask.viewing.browser.blocks import Blocks
from deepfinder_dask.viewing.browser.serving import PageServer

METRES = 1e-10
"""Metres per Å."""
KNOWN = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "float32")
"""Types of values that the client reads itself."""
UNITS = ("angstrom", "nanometer", "micrometer", "picometer")
"""Units of length that the client knows; without one, axes would not be those of the viewer."""
CODECS = ("bytes", "transpose", "sharding_indexed", "blosc", "gzip", "zlib", "zstd", "crc32c")
"""Codecs of chunks that the client knows."""


def space_of(voxel_size: VoxelSize) -> neuroglancer.CoordinateSpace:
    """The axes x, y, z of a viewer, counted in voxels."""
    return neuroglancer.CoordinateSpace(
        names=["x", "y", "z"], units=["m"] * 3, scales=[v * METRES for v in reversed(voxel_size)]
    )


def source_of(
    server: PageServer, name: str, path: str, image: Image, voxel_size: VoxelSize, *, segments: bool = False
) -> neuroglancer.LayerDataSource:
    """The source of a volume (z, y, x), read by the page straight from its store where the client can.

    Parameters
    ----------
    server : PageServer
        Serves the store under ``name``.
    path : str
        The store.
    image : Image
        What is in it.
    voxel_size : VoxelSize
        Å per voxel (z, y, x) at which it is shown, whatever the store says.
    segments : bool
        Whether values are labels.
    """
    same = image.voxel_size == voxel_size and image.axes == ("z", "y", "x")
    if not (same and image.levels[0].dtype.name in KNOWN and _placed_alike(path) and _decoded(path, image)):
        return blocks_source(server, name, image, voxel_size, segments=segments)
    version = "zarr3" if read_key(path, "zarr.json") is not None else "zarr2"
    return neuroglancer.LayerDataSource(url=f"{server.serve_store(name, path)}/|{version}:")


def blocks_source(
    server: PageServer,
    name: str,
    image: Image,
    voxel_size: VoxelSize,
    *,
    segments: bool = False,
    class_number: int | None = None,
) -> neuroglancer.LayerDataSource:
    """The source of a volume of values that the client does not know, or of one class of a score map: this process
    reads the blocks that the page asks for and turns them into values it knows.
    """
    blocks = Blocks(image.levels, voxel_size, segments=segments, class_number=class_number)
    url = server.serve_made(name, blocks.answer)
    half = [[float(row == column) for column in range(3)] + [-0.5] for row in range(3)]
    transform = neuroglancer.CoordinateSpaceTransform(output_dimensions=space_of(voxel_size), matrix=half)
    return neuroglancer.LayerDataSource(url=f"{url}/|neuroglancer-precomputed:", transform=transform)


def _placed_alike(path: str) -> bool:
    """Whether the client puts an OME-Zarr image where this package does: in a unit it knows, voxel 0 at the origin."""
    attributes = all_attributes(open_node(path))
    entry = attributes.get("ome", attributes)["multiscales"][0]
    moves = [*entry["datasets"][0].get("coordinateTransformations", []), *entry.get("coordinateTransformations", [])]
    known = all(isinstance(axis, dict) and axis.get("unit") in UNITS for axis in entry.get("axes", []))
    return known and not any(any(move.get("translation", ())) for move in moves)


def _decoded(path: str, image: Image) -> bool:
    """Whether the client knows the codecs of an image."""
    text = read_key(path, f"{image.levels[0].key}/zarr.json")
    if text is not None:
        return set(_names(json.loads(text)["codecs"])) <= set(CODECS)
    facts = json.loads(read_key(path, f"{image.levels[0].key}/.zarray") or b"{}")
    return not facts.get("filters") and (facts.get("compressor") or {"id": "bytes"})["id"] in CODECS


def _names(codecs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Names of codecs, and of those inside of shards."""
    for one in codecs:
        yield one["name"]
        yield from _names(one.get("configuration", {}).get("codecs", []))
