"""Scenes: what is where, in a few numbers each; `rendering` makes voxels of any part of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from deepfinder_dask.blocks import Box, Shape3, triple
from deepfinder_dask.simulation.bodies import Body, body_of
from deepfinder_dask.simulation.ice import IceField
from deepfinder_dask.simulation.membranes import Membrane
from deepfinder_dask.simulation.phantoms import Phantom, hollow_ball
from deepfinder_dask.simulation.recipe import Species

Position = tuple[float, float, float]
"""Centre in voxels, (z, y, x); voxel ``i`` has its centre at ``i``."""


@dataclass(frozen=True)
class Placed:
    """One particle of a scene."""

    name: str
    """Species."""
    label: int
    """Class label of the species."""
    position: Position
    """Centre in voxels, (z, y, x)."""
    angles: tuple[float, float, float]
    """rot, tilt, psi in degrees; ``Rotation.from_euler("ZYZ", angles).inv()`` maps object to tomogram (x, y, z)."""


@dataclass(frozen=True)
class Scene:
    """The content of a tomogram. Instances are numbered from 1: particles, then beads, then membranes, in order."""

    shape: Shape3
    """Voxels, (z, y, x)."""
    voxel_size: float
    """Å."""
    species: Mapping[str, Species]
    """Species by name."""
    particles: tuple[Placed, ...]
    """The particles."""
    beads: tuple[Position, ...] = ()
    """Centres of gold beads."""
    bead: Phantom | None = field(default=None, compare=False)
    """Body of a bead."""
    gold_label: int = 0
    """Class label of the beads."""
    membranes: tuple[Membrane, ...] = ()
    """The membranes."""
    membrane_label: int = 0
    """Class label of the membranes."""
    ice: IceField | None = None
    """Empty and thick regions."""
    asked: Mapping[str, int] = field(default_factory=dict)
    """Particles that were to be placed, by species."""

    def body(self, name: str) -> Body:
        """The body of a species."""
        return body_of(self.species[name], self.voxel_size)

    def counts(self) -> dict[str, int]:
        """Particles placed, by species."""
        found = dict.fromkeys(self.species, 0)
        for particle in self.particles:
            found[particle.name] += 1
        return found

    def __getstate__(self) -> dict[str, object]:
        # The distance of a phantom is a function made at run time, which cannot be sent to a worker: its size can.
        state = dict(self.__dict__)
        state["bead"] = None if self.bead is None else self.bead.extent
        return state

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        radius = state["bead"]
        if isinstance(radius, float):
            self.__dict__["bead"] = gold_bead(2 * radius)


def gold_bead(diameter: float) -> Phantom:
    """The body of a gold bead of this diameter in Å."""
    return hollow_ball("gold", diameter / 2, 0.0)


def random_rotation(rng: np.random.Generator) -> Rotation:
    """A rotation drawn uniformly from all rotations: a normalised 4-D Gaussian vector, read as a quaternion."""
    return Rotation.from_quat(rng.normal(size=4))


def to_tomogram(angles: tuple[float, float, float]) -> NDArray[np.float64]:
    """Matrix object → tomogram, (3, 3) acting on x, y, z, of rot, tilt, psi in degrees."""
    matrix: NDArray[np.float64] = Rotation.from_euler("ZYZ", angles, degrees=True).inv().as_matrix()
    return matrix


def angles_of(rotation: Rotation) -> tuple[float, float, float]:
    """rot, tilt, psi in degrees of a rotation object → tomogram."""
    rot, tilt, psi = rotation.inv().as_euler("ZYZ", degrees=True)
    return float(rot), float(tilt), float(psi)


def cube_around(position: Position, reach: float) -> Box:
    """Box of the voxels around the one nearest to a position, ``reach`` voxels and one more to each side."""
    middle = [round(p) for p in position]
    more = int(np.ceil(reach)) + 1
    return Box(triple(m - more for m in middle), triple(m + more + 1 for m in middle))


def object_points(box: Box, position: Position, matrix: NDArray[np.float64], voxel_size: float) -> NDArray[np.float64]:
    """Voxels of a box as points of the object placed there: the same bits for a voxel whatever box it is asked in.

    Parameters
    ----------
    box : Box
        Voxels of the tomogram.
    position : (z, y, x)
        Centre of the object in voxels.
    matrix : (3, 3) float64
        Object → tomogram, acting on x, y, z.
    voxel_size : float
        Å.

    Returns
    -------
    points : (z, y, x, 3) float64
        x, y, z in Å from the object's centre.
    """
    z, y, x = (
        (np.arange(a, b, dtype=np.float64) - p) * voxel_size
        for a, b, p in zip(box.start, box.stop, position, strict=True)
    )
    points = np.empty((*box.shape, 3))
    for axis in range(3):  # the transpose takes the tomogram to the object
        plane = (matrix[2, axis] * z)[:, None] + (matrix[1, axis] * y)[None, :]
        np.add(plane[:, :, None], (matrix[0, axis] * x)[None, None, :], out=points[..., axis])
    return points
