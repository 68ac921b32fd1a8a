"""Scenes: particles in random orientations that do not touch, as one density volume with its truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from deepfinder_dask.blocks import Shape3
from deepfinder_dask.errors import SettingsError
from deepfinder_dask.simulation.phantoms import Phantom, density_of

PLACES_TRIED = 3000
"""Random places tried for one particle before the scene is called full."""


@dataclass(frozen=True)
class Placed:
    """One particle of a scene."""

    name: str
    """Species."""
    label: int
    """Class label of the species."""
    position: tuple[float, float, float]
    """Centre in voxels, (z, y, x); voxel ``i`` has its centre at ``i``."""
    angles: tuple[float, float, float]
    """rot, tilt, psi in degrees; ``Rotation.from_euler("ZYZ", angles).inv()`` maps object to tomogram (x, y, z)."""


@dataclass(frozen=True)
class Scene:
    """A density volume and its truth; particle number ``i`` (from 0) has the instance ``i + 1``."""

    density: NDArray[np.float32]
    """(z, y, x) float32: 0 in the void, 1 inside a particle."""
    labels: NDArray[np.uint8]
    """(z, y, x) uint8: class label where the density of its particle is at least one half."""
    instances: NDArray[np.uint32]
    """(z, y, x) uint32: number of the particle, from 1."""
    particles: tuple[Placed, ...]
    """The particles, in the order of their instance numbers."""


def random_rotation(rng: np.random.Generator) -> Rotation:
    """A rotation drawn uniformly from all rotations: a normalised 4-D Gaussian vector, read as a quaternion."""
    return Rotation.from_quat(rng.normal(size=4))


def sampled_distance(
    phantom: Phantom, to_tomogram: Rotation, fraction: NDArray[np.float64], voxel_size: float, margin: float
) -> NDArray[np.float64]:
    """Signed distance in Å of a rotated phantom on a cube of voxels.

    Parameters
    ----------
    phantom : Phantom
    to_tomogram : Rotation
        Maps object to tomogram, in x, y, z.
    fraction : (3,) float64
        Offset in voxels (z, y, x) of the phantom's centre from the cube's middle voxel.
    voxel_size : float
        Å per voxel.
    margin : float
        The cube holds everything within this distance in Å of the body.

    Returns
    -------
    distance : (n, n, n) float64
        Å, axes z, y, x; ``n`` is odd.
    """
    reach = int(np.ceil((phantom.extent + margin) / voxel_size)) + 1
    axis = np.arange(-reach, reach + 1, dtype=np.float64)
    zyx = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1) - fraction
    in_object = to_tomogram.inv().apply(zyx[..., ::-1].reshape(-1, 3) * voxel_size)
    return phantom.distance(in_object).reshape(zyx.shape[:3])


def build_scene(
    species: list[tuple[str, int, Phantom, int]],
    shape: Shape3,
    voxel_size: float,
    gap: float,
    rng: np.random.Generator,
) -> Scene:
    """Place particles at random, uniformly oriented and at least ``gap`` apart, wholly inside the volume.

    Parameters
    ----------
    species : list of (name, label, phantom, count)
    shape : (z, y, x) voxels
    voxel_size : float
        Å per voxel.
    gap : float
        Least distance in Å between the surfaces of two particles.
    rng : numpy.random.Generator
        Decides everything that is random.

    Returns
    -------
    Scene

    Raises
    ------
    SettingsError
        If the particles do not fit, or are smaller than a voxel.
    """
    density = np.zeros(shape, dtype=np.float32)
    labels = np.zeros(shape, dtype=np.uint8)
    instances = np.zeros(shape, dtype=np.uint32)
    placed: list[Placed] = []
    queue = [(name, label, phantom) for name, label, phantom, count in species for _ in range(count)]
    for number in rng.permutation(len(queue)):
        name, label, phantom = queue[number]
        rotation = random_rotation(rng)
        fraction = rng.uniform(-0.5, 0.5, size=3)
        distance = sampled_distance(phantom, rotation, fraction, voxel_size, gap)
        if not np.any(distance <= 0):
            raise SettingsError(f"{name} falls between the voxels of {voxel_size:g} Å: use a smaller voxel_size")
        corner = _free_corner(distance < gap, instances, rng)
        if corner is None:
            raise SettingsError(
                f"cannot place {len(queue)} particles in {'x'.join(map(str, shape))} voxels: "
                f"no room for number {len(placed) + 1} ({name}); use lower counts, a smaller gap or a larger shape"
            )
        inside, (dz, dy, dx) = _clip(corner, distance.shape, shape)
        part = distance[dz, dy, dx]
        density[inside] += density_of(part)
        body = part <= 0
        labels[inside][body] = label
        instances[inside][body] = len(placed) + 1
        centre = np.array(corner) + distance.shape[0] // 2 + fraction
        rot, tilt, psi = rotation.inv().as_euler("ZYZ", degrees=True)
        placed.append(
            Placed(
                name,
                label,
                (float(centre[0]), float(centre[1]), float(centre[2])),
                (float(rot), float(tilt), float(psi)),
            )
        )
    return Scene(density, labels, instances, tuple(placed))


def _free_corner(
    forbidden: NDArray[np.bool_], instances: NDArray[np.uint32], rng: np.random.Generator
) -> tuple[int, int, int] | None:
    """First voxel of a cube placed at random: its forbidden voxels are inside the volume and hold no particle."""
    lows, highs = [], []
    for axis, extent in enumerate(instances.shape):
        others = tuple(a for a in range(3) if a != axis)
        (used,) = np.nonzero(forbidden.any(axis=others))
        lows.append(-int(used[0]))
        highs.append(extent - int(used[-1]))
    if any(low >= high for low, high in zip(lows, highs, strict=True)):
        return None
    for z, y, x in rng.integers(lows, highs, size=(PLACES_TRIED, 3)).tolist():
        inside, within = _clip((z, y, x), forbidden.shape, instances.shape)
        if not np.any(instances[inside][forbidden[within]]):
            return z, y, x
    return None


def _clip(
    corner: tuple[int, int, int], size: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Slices of a cube's part inside the volume: in the volume and in the cube."""
    starts = [max(0, c) for c in corner]
    stops = [min(n, c + s) for c, s, n in zip(corner, size, shape, strict=True)]
    inside = tuple(slice(a, b) for a, b in zip(starts, stops, strict=True))
    within = tuple(slice(a - c, b - c) for a, b, c in zip(starts, stops, corner, strict=True))
    return inside, within
