"""``info``: what is known of a tomogram, a store or a file without converting it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepfinder_dask.errors import FormatError
from deepfinder_dask.tomograms.location import AnyPath, is_remote, is_zarr, normalise
from deepfinder_dask.tomograms.opening import all_attributes, children, open_image, open_node
from deepfinder_dask.tomograms.sources import first_bytes, kind_of, open_source, split_dataset
from deepfinder_dask.tomograms.sources.compressed import compression_of
from deepfinder_dask.tomograms.sources.mrc_header import parse_header

if TYPE_CHECKING:
    from deepfinder_dask.tomograms.volume import Volume


def info(path: AnyPath) -> dict[str, Any]:
    """What is known of a tomogram file or a store; reads headers and metadata only.

    Parameters
    ----------
    path : str or path
        MRC (also compressed), TIFF, HDF5, a Zarr store (also a URL), or a Parquet file of particles.

    Returns
    -------
    dict
        JSON values: ``path``, ``format``, ``kind`` (tomogram, image, segmentation, particles …), ``state`` of our own
        stores, ``shape`` in voxels (z, y, x), ``voxel_size`` in Å (None where unknown), ``size_nm``, ``dtype``, and
        what the kind has: ``axes, levels, chunks, shards, statistics, imaging, source, header, images, particles``.

    Raises
    ------
    FormatError
        If there is nothing that can be read.
    """
    location, dataset = split_dataset(path)
    if is_remote(location) or is_zarr(location):
        return _of_store(location)
    file = Path(location)
    if not file.is_file():
        found = "a folder that is no Zarr store" if file.is_dir() else "nothing"
        raise FormatError(f"no such tomogram: {location} ({found} is there)")
    start = first_bytes(location)
    if start[:4] == b"PAR1":
        return _of_particles(location)
    packed = compression_of(location)
    if packed and kind_of(start) == "MRC":
        header = parse_header(start, location)
        facts = {"format": f"MRC, {packed}", "header": dict(header.facts)}
        return _common(location, header.shape, header.voxel_size, str(header.dtype.newbyteorder("=")), facts)
    with open_source(path, file.parent) as source:
        name = source.format if dataset is None else f"{source.format}, dataset {dataset}"
        facts = {"format": name, "header": dict(source.facts)}
        return _common(location, source.shape, source.voxel_size, str(source.dtype), facts)


def _common(
    path: str, shape: Sequence[int], voxel_size: Sequence[float] | None, dtype: str, facts: Mapping[str, Any]
) -> dict[str, Any]:
    size = None if voxel_size is None else [round(n * v / 10, 6) for n, v in zip(shape[-3:], voxel_size, strict=True)]
    return {
        "path": path,
        "kind": "tomogram",
        "shape": list(shape),
        "voxel_size": None if voxel_size is None else list(voxel_size),
        "size_nm": size,
        "dtype": dtype,
        **facts,
    }


def _of_store(location: str) -> dict[str, Any]:
    """A Zarr group or array of any origin, finished or not."""
    import zarr

    node = open_node(location)
    attributes = all_attributes(node)
    ours = attributes.get("deepfinder", {})
    state = {"state": ours["state"]} if "state" in ours else {}
    if state.get("state", "complete") != "complete":
        return {"path": location, "format": "Zarr", "kind": ours.get("kind", "image"), **state, "attributes": ours}
    version = node.metadata.zarr_format
    is_image = isinstance(node, zarr.Array) or bool(attributes.get("ome", attributes).get("multiscales"))
    if not is_image:
        groups = children(node, "groups") if isinstance(node, zarr.Group) else []
        images = {name: _image_facts(f"{location}/{name}") for name in groups if _is_image(f"{location}/{name}")}
        rest = {k: v for k, v in ours.items() if k not in ("state", "kind")}
        kind = ours.get("kind", "group")
        return {"path": location, "format": f"Zarr v{version}", "kind": kind, **state, **rest, "images": images}
    facts = _image_facts(location)
    kept = ("statistics", "imaging", "source", "rescaled_from")
    return _common(
        location,
        facts.pop("shape"),
        facts.pop("voxel_size"),
        facts.pop("dtype"),
        {
            "format": f"Zarr v{version}",
            "kind": ours.get("kind", "image"),
            **state,
            **facts,
            **{k: ours[k] for k in kept if k in ours},
        },
    )


def _is_image(location: str) -> bool:
    attributes = all_attributes(open_node(location))
    finished = attributes.get("deepfinder", {}).get("state", "complete") == "complete"
    return finished and bool(attributes.get("ome", attributes).get("multiscales"))


def _image_facts(location: str) -> dict[str, Any]:
    image = open_image(location)
    full: Volume = image.levels[0]
    return {
        "shape": list(full.shape),
        "voxel_size": None if image.voxel_size is None else list(image.voxel_size),
        "dtype": str(full.dtype),
        "axes": list(image.axes),
        "levels": [list(level.shape) for level in image.levels],
        "chunks": list(full.chunks),
        "shards": None if full.shards is None else list(full.shards),
        "compression": full.codec,
    }


def _of_particles(location: str) -> dict[str, Any]:
    """A table of particles: how many there are of each class and tomogram."""
    from deepfinder_dask.particles import Particles

    particles = Particles.read(location)
    table = particles.table
    return {
        "path": normalise(location),
        "format": "Parquet",
        "kind": "particles",
        "particles": len(table),
        "classes": {str(k): int(v) for k, v in table["class"].value_counts(sort=False).items()},
        "tomograms": {str(k): int(v) for k, v in table["tomogram"].value_counts(sort=False).items()},
    }
