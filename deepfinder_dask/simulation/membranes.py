"""Membranes: bilayers along a sphere, a plane or a cylinder, given by the distance from their middle.

All points are x, y, z in Å in the tomogram, where voxel 0 is at 0. The distance is positive outside: away from the
middle of a sphere or tube, and along the normal of a sheet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.simulation.phantoms import Points
from deepfinder_dask.simulation.recipe import Membranes, MembraneShape

FACE = 0.36
"""Distance of a dense face from the middle, as a part of the thickness (18 Å of 50 Å)."""
BLUR = 0.12
"""Standard deviation of a face, as a part of the thickness (6 Å of 50 Å)."""
DENSITY = 0.8
"""Density of the faces, as a part of a particle's."""
PROBES = 4000
"""Points of a new membrane whose distance from the others is checked."""

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Membrane:
    """One membrane."""

    shape: MembraneShape
    """sphere, sheet or tube."""
    centre: Vector
    """x, y, z in Å: the middle of a sphere, a point of a sheet or of a tube's axis."""
    axis: Vector
    """Unit vector x, y, z: the normal of a sheet, the axis of a tube; any for a sphere."""
    radius: float
    """Å, from the middle of a sphere or tube to the middle of the membrane; 0 for a sheet."""
    thickness: float
    """Å."""

    @property
    def half(self) -> float:
        """Half the thickness in Å."""
        return self.thickness / 2

    def distance(self, points: Points) -> NDArray[np.float64]:
        """Signed distance in Å of points (..., 3) from the middle of the membrane."""
        x, y, z = (points[..., axis] - self.centre[axis] for axis in range(3))
        along = x * self.axis[0] + y * self.axis[1] + z * self.axis[2]
        if self.shape == "sheet":
            return np.asarray(along)
        square = x * x + y * y + z * z
        if self.shape == "tube":
            square = np.maximum(square - along * along, 0.0)
        return np.asarray(np.sqrt(square) - self.radius)

    def density(self, distance: NDArray[np.float64]) -> NDArray[np.float32]:
        """Density at signed distances in Å: two faces, little between."""
        off = (np.abs(distance) - FACE * self.thickness) / (BLUR * self.thickness)
        return np.asarray(DENSITY * np.exp(-0.5 * off * off), dtype=np.float32)

    def area(self, length: float) -> float:
        """Area in Å² of the part within about ``length`` Å."""
        return {
            "sphere": 4 * np.pi * self.radius**2,
            "sheet": length**2,
            "tube": 2 * np.pi * self.radius * length,
        }[self.shape]

    def draw(self, rng: np.random.Generator, number: int, length: float) -> tuple[Points, Points]:
        """Random places spread evenly over the middle of the membrane, within about ``length`` Å.

        Returns
        -------
        points, normals : (n, 3) float64
            x, y, z in Å; unit vectors pointing outwards.
        """
        centre, axis = np.array(self.centre), np.array(self.axis)
        if self.shape == "sphere":
            normals = rng.normal(size=(number, 3))
            normals /= np.linalg.norm(normals, axis=1, keepdims=True)
            return centre + self.radius * normals, normals
        first, second = _across(axis)
        if self.shape == "sheet":
            u, v = rng.uniform(-length / 2, length / 2, size=(2, number))
            return centre + u[:, None] * first + v[:, None] * second, np.tile(axis, (number, 1))
        turn = rng.uniform(0, 2 * np.pi, size=number)
        normals = np.cos(turn)[:, None] * first + np.sin(turn)[:, None] * second
        along = rng.uniform(-length / 2, length / 2, size=number)
        return centre + along[:, None] * axis + self.radius * normals, normals


def _across(axis: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two unit vectors at right angles to one and to each other."""
    helper = np.eye(3)[int(np.argmin(np.abs(axis)))]
    first = np.cross(axis, helper)
    first /= np.linalg.norm(first)
    return first, np.cross(axis, first)


def random_membrane(kind: Membranes, extent: NDArray[np.float64], rng: np.random.Generator) -> Membrane:
    """A membrane at a random place in a volume of ``extent`` Å (x, y, z).

    Sheets and tubes go through the middle half of it; tubes lie within 30° of the plane of x and y.
    """
    centre = rng.uniform(0, 1, size=3)
    centre = (centre if kind.shape == "sphere" else 0.25 + centre / 2) * extent
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    radius = float(rng.uniform(*kind.radius))
    if kind.shape == "tube":
        turn, lift = rng.uniform(0, 2 * np.pi), rng.uniform(-np.pi / 6, np.pi / 6)
        axis = np.array([np.cos(turn) * np.cos(lift), np.sin(turn) * np.cos(lift), np.sin(lift)])
    return Membrane(
        kind.shape,
        (float(centre[0]), float(centre[1]), float(centre[2])),
        (float(axis[0]), float(axis[1]), float(axis[2])),
        0.0 if kind.shape == "sheet" else radius,
        kind.thickness,
    )


def fits(
    new: Membrane, others: list[Membrane], extent: NDArray[np.float64], gap: float, rng: np.random.Generator
) -> bool:
    """Whether a new membrane (of a sphere at least a fifth) is inside the volume, ``gap`` Å or more from the others."""
    length = float(np.linalg.norm(extent))

    def places(membrane: Membrane) -> Points:
        points, _ = membrane.draw(rng, PROBES, length)
        return points[((points >= 0) & (points <= extent)).all(axis=1)]

    mine = places(new)
    if len(mine) < (PROBES // 5 if new.shape == "sphere" else PROBES // 100):
        return False
    for other in others:
        least = gap + other.half + new.half
        theirs = places(other)
        if np.abs(other.distance(mine)).min() < least or np.abs(new.distance(theirs)).min(initial=np.inf) < least:
            return False
    return True
