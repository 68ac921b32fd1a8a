"""Built-in density phantoms: analytic bodies with a smooth edge, at any voxel size.

A phantom is a signed distance in Å: negative inside the body, zero on its surface, positive outside. Its density
follows from the distance alone (`density_of`), so that it can be rotated and sampled on any grid, not interpolated.

=========  ==========================================  =======  ==================  =====================
name       body                                        volume   greatest extent     symmetry
=========  ==========================================  =======  ==================  =====================
``ring``   torus, circle of 90 Å, tube of 45 Å         3.60e6   270 Å across        about z, and z to -z
``rod``    capsule of radius 65 Å, as long as it       3.60e6   314 Å long          about z, and z to -z
           takes to have the ring's volume
``shell``  hollow ball, radii 130 Å and 85 Å           6.63e6   260 Å across        full
``ball``   solid ball of radius 80 Å                   2.14e6   160 Å across        full
``barrel`` open cylinder along z, 180 Å long, radii    2.94e6   248 Å corner to     about z, and z to -z
           85 Å and 45 Å                                        corner
``hook``   capsule along z with a ball at the side     --       200 Å long          none but a mirror
           of its +z end
=========  ==========================================  =======  ==================  =====================

Volumes are in Å³. ``ring`` and ``rod`` differ in nothing but their shape: they test what a network has learnt of shape.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import pi

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfc

from deepfinder_dask.errors import SettingsError

Points = NDArray[np.float64]
"""(..., 3) float64: x, y, z in Å, counted from the phantom's centre."""

EDGE = 6.0
"""Standard deviation in Å of the Gaussian that softens every edge."""


@dataclass(frozen=True)
class Phantom:
    """A body given by its signed distance."""

    name: str
    """Name in configuration files."""
    distance: Callable[[Points], NDArray[np.float64]]
    """Signed distance in Å of points (..., 3) x, y, z in Å; a lower bound of it far outside is enough."""
    extent: float
    """Radius in Å of a ball about the centre that holds the body."""
    volume: float
    """Volume in Å³."""

    @property
    def radius(self) -> float:
        """Radius in Å of the ball of equal volume."""
        return float((3 * self.volume / (4 * pi)) ** (1 / 3))

    @property
    def tail(self) -> float:
        """Å beyond the extent at which the density has faded."""
        return 6 * EDGE

    def sample(self, points: Points) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Density, and whether the body is there, at points (..., 3) x, y, z in Å."""
        distance = self.distance(points)
        return density_of(distance), distance <= 0


def density_of(distance: NDArray[np.float64], edge: float = EDGE) -> NDArray[np.float32]:
    """Density, 1 deep inside and 0 far outside, of a signed distance in Å; exactly one half on the surface."""
    return np.asarray(0.5 * erfc(distance / (np.sqrt(2.0) * edge)), dtype=np.float32)


def torus(name: str, circle: float, tube: float) -> Phantom:
    """Torus about the z axis: a tube of radius ``tube`` around a circle of radius ``circle``, both in Å."""

    def distance(points: Points) -> NDArray[np.float64]:
        across = np.hypot(points[..., 0], points[..., 1]) - circle
        return np.asarray(np.hypot(across, points[..., 2]) - tube)

    return Phantom(name, distance, circle + tube, 2 * pi**2 * circle * tube**2)


def capsule(name: str, radius: float, volume: float) -> Phantom:
    """Cylinder along z with half balls at its ends, of this ``radius`` in Å and this ``volume`` in Å³."""
    straight = (volume - 4 / 3 * pi * radius**3) / (pi * radius**2)
    if straight < 0:
        raise SettingsError(
            f"a capsule of radius {radius:g} Å needs a volume of at least its ball's, got {volume:g} Å³"
        )

    def distance(points: Points) -> NDArray[np.float64]:
        beyond = np.maximum(np.abs(points[..., 2]) - straight / 2, 0.0)
        return np.asarray(np.sqrt(points[..., 0] ** 2 + points[..., 1] ** 2 + beyond**2) - radius)

    return Phantom(name, distance, straight / 2 + radius, volume)


def hollow_ball(name: str, outer: float, inner: float) -> Phantom:
    """Ball of radius ``outer`` with a concentric hole of radius ``inner``, both in Å; no hole where ``inner`` is 0."""

    def distance(points: Points) -> NDArray[np.float64]:
        radius = np.sqrt((points**2).sum(axis=-1))
        return np.asarray(np.maximum(radius - outer, inner - radius) if inner > 0 else radius - outer)

    return Phantom(name, distance, outer, 4 / 3 * pi * (outer**3 - inner**3))


def barrel(name: str, outer: float, inner: float, length: float) -> Phantom:
    """Cylinder along z of radius ``outer``, with a hole of radius ``inner`` from end to end; all sizes in Å."""

    def distance(points: Points) -> NDArray[np.float64]:
        across = np.hypot(points[..., 0], points[..., 1])
        wall = np.maximum(across - outer, inner - across)
        end = np.abs(points[..., 2]) - length / 2
        outside = np.hypot(np.maximum(wall, 0), np.maximum(end, 0))
        return np.asarray(outside + np.minimum(np.maximum(wall, end), 0))

    return Phantom(name, distance, float(np.hypot(outer, length / 2)), pi * (outer**2 - inner**2) * length)


def hook(name: str, radius: float, length: float, knob: float) -> Phantom:
    """Capsule along z of this ``radius`` and total ``length`` with a ball of radius ``knob`` beside its +z end (+x).

    No rotation maps it to itself, so that a wrong angle shows. All sizes in Å.
    """
    half = length / 2 - radius
    side = np.array([radius + 0.8 * knob, 0.0, half])

    def distance(points: Points) -> NDArray[np.float64]:
        beyond = np.maximum(np.abs(points[..., 2]) - half, 0.0)
        stem = np.sqrt(points[..., 0] ** 2 + points[..., 1] ** 2 + beyond**2) - radius
        return np.asarray(np.minimum(stem, np.sqrt(((points - side) ** 2).sum(axis=-1)) - knob))

    extent = max(length / 2, float(np.linalg.norm(side)) + knob)
    grid = np.stack(np.meshgrid(*[np.arange(-extent, extent, 4.0)] * 3, indexing="ij"), axis=-1)
    return Phantom(name, distance, extent, float((distance(grid) < 0).sum()) * 4.0**3)


RING = torus("ring", circle=90.0, tube=45.0)
ROD = capsule("rod", radius=65.0, volume=RING.volume)
SHELL = hollow_ball("shell", outer=130.0, inner=85.0)
BALL = hollow_ball("ball", outer=80.0, inner=0.0)
BARREL = barrel("barrel", outer=85.0, inner=45.0, length=180.0)
HOOK = hook("hook", radius=35.0, length=200.0, knob=40.0)

PHANTOMS: dict[str, Phantom] = {p.name: p for p in (RING, ROD, SHELL, BALL, BARREL, HOOK)}
"""The built-in phantoms by name."""


def phantom_of(name: str) -> Phantom:
    """The built-in phantom of this name.

    Raises
    ------
    SettingsError
        If there is none.
    """
    if name not in PHANTOMS:
        raise SettingsError(f"phantom must be one of {', '.join(PHANTOMS)}, got {name!r}")
    return PHANTOMS[name]
