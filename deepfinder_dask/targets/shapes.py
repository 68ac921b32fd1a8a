"""Shapes: density maps and masks, ready to be turned and placed.

A shape is a small volume whose value is at least one half inside. A voxel of a tomogram belongs to a particle where the
shape, turned by the particle's angles about its centre and placed at its position, is so at the voxel's centre, by
trilinear interpolation. The centre is voxel ``n // 2``, as in RELION and the original DeepFinder.

A map with finer voxels than the tomogram is thresholded first, and then averaged over the tomogram's voxel: a voxel
belongs to the particle where half of it does. Any other is interpolated as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, pi
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Box, triple
from deepfinder_dask.errors import FormatError, GeometryError, VoxelSizeError
from deepfinder_dask.targets.recipes import ShapeFile
from deepfinder_dask.tomograms import VoxelSize, as_voxel_size
from deepfinder_dask.tomograms.resampling import interpolate
from deepfinder_dask.tomograms.sources import open_source

LARGEST = 1024
"""Voxels of the edge of a map, at most: larger ones are tomograms."""
FINER = 1.01
"""A map whose voxels are smaller than the tomogram's by more than this factor is averaged."""


@dataclass(frozen=True, eq=False)
class Shape:
    """A shape: values of at least one half are inside; beyond its box it is empty."""

    name: str
    """Class that is drawn from it."""
    values: NDArray[np.float32]
    """(z, y, x) float32, with a border of empty voxels unless it comes as it was."""
    voxel_size: VoxelSize
    """Å per voxel, (z, y, x)."""
    centre: tuple[float, float, float]
    """Voxel that lies at a particle's position, (z, y, x)."""
    reach: float
    """Å from the centre to the farthest point that may be inside."""
    threshold: float
    """Grey value of the file from which on a voxel is inside."""
    volume: float
    """Å³ of the file's voxels that are inside."""
    path: str
    """The file."""


def read_shape(
    name: str, file: ShapeFile, radius: float | None, tomogram_voxel: VoxelSize, *, as_it_is: bool = False
) -> Shape:
    """Read the shape of a class.

    Parameters
    ----------
    name : str
        The class.
    file : ShapeFile
        A cubic density map or mask.
    radius : float or None
        Å: without a threshold, a density map is cut so that its volume is that of this sphere.
    tomogram_voxel : tuple of float
        Å per voxel of the tomogram, (z, y, x).
    as_it_is : bool
        Take the thresholded voxels as those of the tomogram, as the original DeepFinder does.

    Raises
    ------
    FormatError
        The file cannot be read, or holds no shape.
    GeometryError
        The map is not cubic.
    VoxelSizeError
        Its voxel size is unknown, or not that of the tomogram where it has to be.
    """
    values, stored = _read(name, file.path)
    if file.voxel_size is None and stored is None:
        raise VoxelSizeError(
            f"the shape of class {name!r}, {file.path}, does not say its voxel size: give it with "
            "--shape-voxel-size Å, or target.voxel_size in the classes file"
        )
    size = as_voxel_size(file.voxel_size if file.voxel_size is not None else stored)  # type: ignore[arg-type]  # one of both
    threshold = _threshold(name, values, file, radius, size)
    inside = values >= threshold
    if not inside.any():
        raise FormatError(
            f"the shape of class {name!r}, {file.path}, is empty: no value reaches the threshold {threshold:g}, "
            f"the largest is {values.max():g}"
        )
    voxels = float(np.prod(size))
    facts: dict[str, Any] = {"threshold": threshold, "volume": float(inside.sum()) * voxels, "path": file.path}
    centre = triple(n // 2 for n in values.shape)
    if as_it_is:
        return _unchanged(name, inside, size, tomogram_voxel, centre, facts)
    fine = tuple(max(1.0, min(tomogram_voxel) / v) if min(tomogram_voxel) > FINER * v else 1.0 for v in size)
    if max(fine) > 1:
        return _averaged(name, inside, size, fine, centre, facts)
    # Any affine change of the values leaves the surface where it is.
    binary = _is_binary(values)
    level = inside.astype(np.float32) if binary else _level(values, threshold)
    return _finished(name, level, size, (float(centre[0]), float(centre[1]), float(centre[2])), facts)


def _read(name: str, path: str) -> tuple[NDArray[np.float32], VoxelSize | None]:
    """Values and voxel size of a cubic map."""
    with open_source(path, Path(path).parent) as source:
        shape, size = source.shape, source.voxel_size
        if len(set(shape)) != 1:
            raise GeometryError(
                f"the shape of class {name!r}, {path}, must be cubic, so that it can be turned about its centre: "
                f"found {' × '.join(map(str, shape))} voxels (z, y, x); pad it with empty voxels"
            )
        if shape[0] > LARGEST:
            raise GeometryError(
                f"the shape of class {name!r}, {path}, has {shape[0]} voxels an edge, {LARGEST} at most"
            )
        values = np.asarray(source.read((0, shape[0]), (0, shape[1])), dtype=np.float32)
    if not np.isfinite(values).all():
        raise FormatError(f"the shape of class {name!r}, {path}, holds values that are no finite numbers")
    return values, size


def _is_binary(values: NDArray[np.float32]) -> bool:
    return bool(np.all((values == values.min()) | (values == values.max())))


def _threshold(name: str, values: NDArray[np.float32], file: ShapeFile, radius: float | None, size: VoxelSize) -> float:
    """As given; else halfway in a mask; else what gives a density the volume of a sphere."""
    if file.threshold is not None:
        return float(file.threshold)
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise FormatError(f"the shape of class {name!r}, {file.path}, holds one value only, {low:g}")
    if _is_binary(values):
        return (low + high) / 2
    if radius is None:
        raise FormatError(
            f"the shape of class {name!r}, {file.path}, is a density map from {low:g} to {high:g}: give its threshold "
            f"(--shapes {name}=FILE@THRESHOLD, or target.threshold), or the radius of the class to cut it by volume"
        )
    wanted = round(4 / 3 * pi * radius**3 / float(np.prod(size)))
    count = min(max(1, wanted), values.size)
    return float(np.partition(values, values.size - count, axis=None)[values.size - count])


def _level(values: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """One half on the surface; the same order as the values."""
    span = max(float(values.max()) - threshold, threshold - float(values.min())) or 1.0
    return (0.5 + (values.astype(np.float64) - threshold) / (2 * span)).astype(np.float32)


def _averaged(
    name: str,
    inside: NDArray[np.bool_],
    size: VoxelSize,
    fine: Sequence[float],
    centre: Sequence[int],
    facts: dict[str, Any],
) -> Shape:
    """The part of each larger voxel that is inside."""
    box = _occupied(inside)
    padding = triple(2 * ceil(f) + 1 for f in fine)
    padded = np.pad(inside[box.slices()].astype(np.float32), [(p, p) for p in padding])
    shape = triple(ceil((n - 1) / f) + 1 for n, f in zip(padded.shape, fine, strict=True))
    ratio = (fine[0], fine[1], fine[2])
    values = interpolate(padded, Box.whole(triple(padded.shape)), Box.whole(shape), ratio, triple(padded.shape))
    z, y, x = ((c - a + p) / f for c, a, p, f in zip(centre, box.start, padding, fine, strict=True))
    larger = (size[0] * fine[0], size[1] * fine[1], size[2] * fine[2])
    return _finished(name, values, larger, (z, y, x), facts)


def _finished(
    name: str,
    level: NDArray[np.float32],
    size: VoxelSize,
    centre: tuple[float, float, float],
    facts: dict[str, Any],
) -> Shape:
    """The part that matters, in a border of empty voxels."""
    inside = level >= 0.5
    if not inside.any():
        raise FormatError(f"the shape of class {name!r}, {facts['path']}, is smaller than half a voxel: draw spheres")
    box = _occupied(inside)
    near = box.grow((1, 1, 1), (1, 1, 1)).clip(triple(level.shape))
    values = np.ascontiguousarray(np.pad(level[near.slices()], 1))
    z, y, x = (c - a + 1 for c, a in zip(centre, near.start, strict=True))
    return Shape(name, values, size, (z, y, x), _reach(box, centre, size), **facts)


def _unchanged(
    name: str,
    inside: NDArray[np.bool_],
    size: VoxelSize,
    tomogram_voxel: VoxelSize,
    centre: tuple[int, int, int],
    facts: dict[str, Any],
) -> Shape:
    """The voxels of a mask, for the placement of the original."""
    if any(abs(a - b) > 0.01 * b for a, b in zip(size, tomogram_voxel, strict=True)):
        raise VoxelSizeError(
            f"compat places masks as they are: the shape of class {name!r}, {facts['path']}, has voxels of {size} Å "
            f"(z, y, x), the tomogram {tomogram_voxel}; resample it, or leave out compat"
        )
    if inside.shape[0] % 2:
        raise GeometryError(
            f"compat turns masks about voxel n/2, so that n must be even: the shape of class {name!r}, "
            f"{facts['path']}, has {inside.shape[0]} voxels an edge; pad it, or leave out compat"
        )
    middle = (float(centre[0]), float(centre[1]), float(centre[2]))
    reach = _reach(_occupied(inside), middle, tomogram_voxel)
    return Shape(name, inside.astype(np.float32), tomogram_voxel, middle, reach, **facts)


def _occupied(inside: NDArray[np.bool_]) -> Box:
    """The smallest box that holds all voxels inside."""
    starts, stops = [], []
    for axis in range(3):
        (used,) = np.nonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        starts.append(int(used[0]))
        stops.append(int(used[-1]) + 1)
    return Box(triple(starts), triple(stops))


def _reach(box: Box, centre: Sequence[float], size: VoxelSize) -> float:
    """Å from the centre to the farthest corner of a box of voxels, one voxel beyond their centres."""
    sides = [max(abs(a - 1 - c), abs(b - c)) * v for a, b, c, v in zip(box.start, box.stop, centre, size, strict=True)]
    return float(np.sqrt(np.sum(np.square(sides))))
