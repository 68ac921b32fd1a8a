"""The instance map: which particle of the table each voxel belongs to.

An OME-Zarr label image of the shape of the label map, uint32: 0 for no particle, otherwise the number of the
particle, which is its row in the table plus 1, and its value in the column ``instance``. It is painted block by block
from the label map, in whole shards; its colours are those of the classes. It lies at a place of its own, or as
``instances`` in the segmentation::

    SEG.zarr
    └── instances/0, 1, …   (z, y, x) uint32, lower levels by the mode
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path

import numpy as np

from deepfinder_dask.blocks import BlockGrid, Shape3, triple
from deepfinder_dask.clustering.painting import paint_components
from deepfinder_dask.clustering.request import Found, Request
from deepfinder_dask.errors import SettingsError
from deepfinder_dask.execution import Executor, hold
from deepfinder_dask.particles import Particles, classes_to_dicts
from deepfinder_dask.tomograms import build_pyramid, create_image, finish_image, read_attributes
from deepfinder_dask.tomograms.layout import CHUNK, SHARD
from deepfinder_dask.tomograms.location import is_inside, is_remote, is_zarr, normalise
from deepfinder_dask.tomograms.storage import check_output

KIND = "instances"
"""What the store says it is; and the name of the image in a segmentation."""
COLOURED = 100_000
"""Most particles that are given a colour: each is a line of text in the metadata that every reader loads."""


def place_of(request: Request) -> str | None:
    """Where the instance map goes; None where none is wanted.

    Raises
    ------
    SettingsError
        It would go into something else than a segmentation, or replace the label map.
    OutputExistsError
        It is there and may not be replaced.
    """
    wanted, source = request.settings.instances, request.source.path
    if wanted is None:
        return None
    if wanted == "auto":
        if not (is_zarr(source) and read_attributes(source).get("kind") == "segmentation"):
            raise SettingsError(
                f"--instances auto puts the instance map into the segmentation, and {source} is none: give a path"
            )
        wanted = f"{source}/{KIND}"
    elif is_inside(source, wanted) or is_inside(wanted, source):
        raise SettingsError(
            f"the instance map {wanted} would lie in, or replace, the label map {source}: choose another"
        )
    path = normalise(wanted)
    mask = request.settings.mask
    if mask is not None and (is_inside(mask, path) or is_inside(path, mask)):
        raise SettingsError(f"the instance map {wanted} would replace the mask {mask}: choose another")
    check_output(path, kind=KIND, overwrite=request.settings.overwrite)
    return path


@contextmanager
def painted(
    path: str, request: Request, found: Found, particles: Particles, executor: Executor, *, progress: bool
) -> Iterator[None]:
    """Paint the instance map, and declare it complete when the ``with`` block has ended well.

    Parameters
    ----------
    path : str
        Where, as :func:`place_of` says.
    request : Request
        What was clustered.
    found : Found
        The particles of the table.
    particles : Particles
        The table, for the colours.
    executor : Executor
        Where blocks are painted.
    progress : bool
        Whether a bar may be shown.

    Raises
    ------
    OutputExistsError, StorageError
        The store cannot be made or written.
    """
    shift = None if found.clusters is None else request.shift_job()
    grid = request.label_grid() if shift is None else request.shift_grid(shift)
    chunk, shard = _layout(grid)
    held = nullcontext() if is_remote(path) else hold(Path(path).with_name(f".{Path(path).name}.lock"), path)
    with held:
        volume = create_image(
            path,
            shape=grid.shape,
            dtype=np.uint32,
            voxel_size=request.voxel_size,
            chunk=chunk,
            shard=shard,
            kind=KIND,
            overwrite=request.settings.overwrite,
        )
        if shift is not None and found.clusters is not None:
            from deepfinder_dask.clustering.shift_painting import paint_clusters

            paint_clusters(volume, shift, grid, found, found.clusters, executor, progress=progress)
        elif found.pieces is not None:
            job = request.label_job()
            paint_components(volume, job, grid, found, found.pieces, executor, progress=progress)
        build_pyramid(path, method="mode", executor=executor)
        yield
        colours = {one.name: one.colour for one in particles.classes}
        names = particles.table["class"].tolist()[:COLOURED]
        facts = {
            "tomogram": request.tomogram,
            "particles": len(particles),
            "classes": classes_to_dicts(particles.classes),
            "settings": {k: v for k, v in asdict(request.settings).items() if k in _TELLING},
        }
        finish_image(
            path, facts, method="mode", label_colours={n: colours[name] for n, name in enumerate(names, start=1)}
        )


_TELLING = (
    "method",
    "bandwidth",
    "bandwidth_angstrom",
    "connectivity",
    "per_class",
    "min_size",
    "split",
    "split_distance",
)
"""Settings that decide which voxels belong together."""


def _layout(grid: BlockGrid) -> tuple[Shape3, Shape3]:
    """Chunk and shard such that every block is whole shards."""
    chunk, shard = [], []
    for core, n, good, large in zip(grid.core, grid.shape, CHUNK, SHARD, strict=True):
        if core >= n:
            chunk.append(min(n, good))
            shard.append(large)
            continue
        divisors = [d for d in range(1, core + 1) if core % d == 0]
        nearest = min((max(d / good, good / d), d) for d in divisors)[1]
        chunk.append(nearest)
        shard.append(max(d for d in divisors if d % nearest == 0 and (d <= large or d == nearest)))
    return triple(chunk), triple(shard)
