"""Bodies of particles: built-in phantoms, and density maps at any voxel size.

A body knows its density at any point, whether it is there, and how far its surface is. A map is scaled so that its
densest half is 1 on average, seen at 10 Å, as the inside of a phantom is; where its voxels are smaller than the
tomogram's, it is smoothed and sampled on theirs first. Between voxels it is a cubic spline, to be turned at will.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import pi
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deepfinder_dask.errors import FormatError, SettingsError, VoxelSizeError
from deepfinder_dask.simulation.phantoms import Points, phantom_of
from deepfinder_dask.simulation.recipe import Species
from deepfinder_dask.tomograms.sources import open_source

THRESHOLD = 0.1
"""Density on the surface of a map, as a part of its greatest, where nobody says."""
FAINTEST = 0.02
"""Density below which a map is empty, as a part of its greatest."""
ROOM = 100.0
"""Å around a map within which the distance to its surface is exact."""
REFERENCE = 10.0
"""Å per voxel at which the density of a map is compared with that of others."""
LARGEST = 600
"""Voxels on an axis of the largest map that is read."""


class Body(Protocol):
    """What a particle is made of."""

    @property
    def extent(self) -> float:
        """Radius in Å of a ball about the centre that holds the body."""
        ...

    @property
    def tail(self) -> float:
        """Å beyond the extent at which the density has faded."""
        ...

    @property
    def volume(self) -> float:
        """Volume in Å³ of what counts as the body."""
        ...

    @property
    def radius(self) -> float:
        """Radius in Å of the ball of equal volume."""
        ...

    def distance(self, points: Points, /) -> NDArray[np.float64]:
        """Signed distance in Å to the surface, negative inside, of points (..., 3) x, y, z in Å from the centre."""
        ...

    def sample(self, points: Points) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Density, and whether the body is there, at points (..., 3) x, y, z in Å from its centre."""
        ...


@dataclass(frozen=True)
class MapBody:
    """A body given by a density map; its centre is voxel n // 2 of the map as it was in the file."""

    name: str
    """The file, for messages."""
    voxel_size: float
    """Å per voxel of the arrays."""
    spline: NDArray[np.float64]
    """(z, y, x) float64: coefficients of the cubic spline of the density."""
    distances: NDArray[np.float32]
    """(z, y, x) float32: signed distance in Å at each voxel, negative inside."""
    centre: tuple[float, float, float]
    """Voxel of the centre, (z, y, x)."""
    surface: float
    """Density on the surface."""
    extent: float
    """Å."""
    volume: float
    """Å³."""
    tail: float = 0.0
    """A map ends where it ends."""

    @property
    def radius(self) -> float:
        """Radius in Å of the ball of equal volume."""
        return float((3 * self.volume / (4 * pi)) ** (1 / 3))

    def _voxels(self, points: Points) -> NDArray[np.float64]:
        """(3, ...) voxel coordinates z, y, x of points (..., 3) x, y, z in Å."""
        return np.stack([points[..., 2 - axis] / self.voxel_size + self.centre[axis] for axis in range(3)])

    def distance(self, points: Points) -> NDArray[np.float64]:
        """Signed distance in Å to the surface; far outside a lower bound of it."""
        voxels = self._voxels(points)
        last = np.array(self.distances.shape).reshape(3, *[1] * (voxels.ndim - 1)) - 1.0
        beyond = np.maximum(np.maximum(-voxels, voxels - last), 0.0).max(axis=0) * self.voxel_size
        near = ndimage.map_coordinates(self.distances, voxels, output=np.float64, order=1, mode="nearest")
        return np.asarray(np.where(beyond > 0, ROOM + beyond, near), dtype=np.float64)

    def sample(self, points: Points) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Density, and whether the body is there, at points (..., 3) x, y, z in Å from its centre."""
        density = np.zeros(points.shape[:-1], np.float32)
        near = (points**2).sum(axis=-1) <= self.extent**2
        found = ndimage.map_coordinates(
            self.spline, self._voxels(points[near]), output=np.float32, order=3, mode="constant", prefilter=False
        )
        density[near] = np.maximum(found, 0.0)
        return density, density >= self.surface


def body_of(species: Species, voxel_size: float) -> Body:
    """The body of a species for tomograms of this voxel size in Å; maps are kept in memory.

    Raises
    ------
    FormatError
        If a map cannot be read, is larger than 600 voxels, or its threshold leaves nothing.
    VoxelSizeError
        If a map does not say its voxel size, or it is not the same on all axes.
    """
    if not species.map:
        return phantom_of(species.phantom or species.name)
    try:
        changed = Path(species.map).stat().st_mtime_ns
    except OSError as error:
        raise FormatError(f"no density map {species.map} for species {species.name!r}: check its path") from error
    return _map_body(species.map, changed, species.threshold, voxel_size)


@lru_cache(maxsize=64)
def _map_body(path: str, changed: int, threshold: float | None, voxel_size: float) -> MapBody:
    """Read a map; ``changed`` is its time of change, so that a new one is read again."""
    values, size = _read(path)
    greatest = float(values.max())
    surface = THRESHOLD * greatest if threshold is None else threshold
    if not 0 < surface < greatest:
        raise FormatError(
            f"expected densities around {surface:g} in {path}, found up to {greatest:g}: change threshold"
        )
    middle = tuple(float(n // 2) for n in values.shape)
    scale = _scale(values, size)
    if size < voxel_size * 0.999:
        values, middle = _coarser(values, middle, voxel_size / size)
        size = voxel_size
        if values.max() <= surface:
            raise FormatError(f"{path} falls between the voxels of {voxel_size:g} Å: use a smaller voxel_size")
    return _framed(path, values * scale, size, middle, surface * scale)


def _read(path: str) -> tuple[NDArray[np.float64], float]:
    """Densities (z, y, x) float64 and Å per voxel of a map."""
    with open_source(path, Path(path).parent) as source:
        shape, size = source.shape, source.voxel_size
        if max(shape) > LARGEST:
            raise FormatError(
                f"expected a map of at most {LARGEST} voxels on each axis, found {shape} in {path}: bin it"
            )
        values = source.read((0, shape[0]), (0, shape[1])).astype(np.float64)
    if size is None:
        raise VoxelSizeError(f"{path} does not say its voxel size: write it into its header")
    if max(size) > 1.001 * min(size):
        raise VoxelSizeError(f"expected one voxel size on all axes of {path}, found {size} Å (z, y, x): resample it")
    if not np.isfinite(values).all() or values.max() <= 0:
        raise FormatError(f"expected finite densities, some above 0, in {path}")
    return values, size[0]


def _scale(values: NDArray[np.float64], size: float) -> float:
    """What makes the densest half of a map 1 on average, as seen at 10 Å: the same for all voxel sizes of tomograms."""
    seen = _smooth(values, REFERENCE / size) if size < REFERENCE else values
    return 1.0 / float(seen[seen > seen.max() / 2].mean())


def _smooth(values: NDArray[np.float64], ratio: float) -> NDArray[np.float64]:
    """A map without what voxels ``ratio`` times as large cannot hold."""
    smooth: NDArray[np.float64] = ndimage.gaussian_filter(values, 0.5 * np.sqrt(ratio**2 - 1.0), mode="constant")
    return smooth


def _coarser(
    values: NDArray[np.float64], middle: tuple[float, ...], ratio: float
) -> tuple[NDArray[np.float64], tuple[float, ...]]:
    """A map on voxels ``ratio`` times as large, its centre on a voxel; smoothed first to what those can hold."""
    smooth = _smooth(values, ratio)
    axes, centre = [], []
    for extent, at in zip(values.shape, middle, strict=True):
        before, after = int(np.ceil(at / ratio)), int(np.ceil((extent - 1 - at) / ratio))
        axes.append(at + ratio * np.arange(-before, after + 1))
        centre.append(float(before))
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))
    return ndimage.map_coordinates(smooth, grid, order=1, mode="constant"), tuple(centre)


def _framed(path: str, values: NDArray[np.float64], size: float, middle: tuple[float, ...], surface: float) -> MapBody:
    """The map cut down to where it is not empty, with room around it for distances."""
    filled = np.argwhere(values > FAINTEST * values.max())
    extent = (np.sqrt(((filled - middle) ** 2).sum(axis=1).max()) + 1.0) * size
    room = int(np.ceil(ROOM / size)) + 1
    low, high = filled.min(axis=0), filled.max(axis=0) + 1
    cut = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    # Zeros around, so that spline and distances see the end of the body.
    padded = np.pad(np.where(values > FAINTEST * values.max(), values, 0.0)[cut], room)
    body = padded >= surface
    outside = ndimage.distance_transform_edt(~body)
    inside = ndimage.distance_transform_edt(body)
    distances = np.where(body, 0.5 - inside, outside - 0.5) * size
    z, y, x = (float(m - a + room) for m, a in zip(middle, low, strict=True))
    return MapBody(
        name=path,
        voxel_size=size,
        spline=ndimage.spline_filter(padded, order=3),
        distances=distances.astype(np.float32),
        centre=(z, y, x),
        surface=surface,
        extent=float(extent),
        volume=float(body.sum()) * size**3,
    )


def bottom_of(body: Body) -> float:
    """Å from a body's centre down to its lowest point along its own -z axis."""
    steps = np.linspace(-body.extent, body.extent, 41)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1)
    _, inside = body.sample(grid)
    lowest = np.flatnonzero(inside.any(axis=(0, 1)))
    if not len(lowest):
        raise SettingsError("a body has no inside: lower its threshold")
    return float(-steps[lowest[0]])
