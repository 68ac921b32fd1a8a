"""Voxels of a scene: density, classes and instances of any box, the same bits whatever box a voxel is asked in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Box
from deepfinder_dask.simulation.bodies import Body
from deepfinder_dask.simulation.scene import Position, Scene, cube_around, object_points, to_tomogram

GOLD = 6.0
"""Density of gold, times that of a particle: what a bead of 10 nm scatters beside protein of the same size."""
PLANES = 8
"""z slices of membranes computed at a time; bounds the memory beside the volume."""


@dataclass(frozen=True)
class Rendered:
    """A box of a scene as voxels."""

    density: NDArray[np.float32]
    """(z, y, x) float32: 0 in the ice, about 1 inside a particle."""
    labels: NDArray[np.uint8]
    """(z, y, x) uint8: class label of what is there."""
    instances: NDArray[np.uint32]
    """(z, y, x) uint32: its number in the scene, from 1."""


def render(scene: Scene, box: Box) -> Rendered:
    """Voxels of a box of a scene.

    Particles add up where their faint edges meet, and push membranes aside. A voxel whose body is there has the
    particle's label: of a phantom, where its density is at least a half; of a map, where it is above the threshold.
    """
    out = Rendered(np.zeros(box.shape, np.float32), np.zeros(box.shape, np.uint8), np.zeros(box.shape, np.uint32))
    for number, particle in enumerate(scene.particles, start=1):
        body = scene.body(particle.name)
        strength = np.float32(scene.species[particle.name].density)
        for inside, density, there in _within(body, particle.position, particle.angles, scene, box):
            out.density[inside] += strength * density
            out.labels[inside][there] = particle.label
            out.instances[inside][there] = number
    number = len(scene.particles)
    if scene.bead is not None:
        for position in scene.beads:
            number += 1
            for inside, density, there in _within(scene.bead, position, (0.0, 0.0, 0.0), scene, box):
                out.density[inside] += np.float32(GOLD) * density
                there &= out.labels[inside] == 0
                out.labels[inside][there] = scene.gold_label
                out.instances[inside][there] = number
    if scene.membranes:
        _add_membranes(scene, box, out, number)
    return out


def _within(
    body: Body, position: Position, angles: tuple[float, float, float], scene: Scene, box: Box
) -> Iterator[tuple[tuple[slice, slice, slice], NDArray[np.float32], NDArray[np.bool_]]]:
    """The part of a body in a box, if any: where, its density, and where it counts as there."""
    part = cube_around(position, (body.extent + body.tail) / scene.voxel_size).intersect(box)
    if part.size:
        density, there = body.sample(object_points(part, position, to_tomogram(angles), scene.voxel_size))
        yield part.within(box).slices(), density, there


def _add_membranes(scene: Scene, box: Box, out: Rendered, number: int) -> None:
    """Put the membranes where no particle is; they are numbered on from ``number``."""
    y, x = (np.arange(a, b) * scene.voxel_size for a, b in zip(box.start[1:], box.stop[1:], strict=True))
    for first in range(0, box.shape[0], PLANES):
        some = slice(first, min(first + PLANES, box.shape[0]))
        z = np.arange(box.start[0] + some.start, box.start[0] + some.stop) * scene.voxel_size
        points = np.empty((len(z), len(y), len(x), 3))
        points[..., 0], points[..., 1], points[..., 2] = x, y[:, None], z[:, None, None]
        room = 1 - np.minimum(out.density[some], 1)
        for more, membrane in enumerate(scene.membranes, start=1):
            distance = membrane.distance(points)
            out.density[some] += room * membrane.density(distance)
            there = (np.abs(distance) <= membrane.half) & (out.labels[some] == 0)
            out.labels[some][there] = scene.membrane_label
            out.instances[some][there] = number + more
