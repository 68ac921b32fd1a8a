"""Particles as pictures draw them: centre, radius and colour of each, and what the legend says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.particles import ParticleClass, Particles
from deepfinder_dask.tomograms import Tomogram

FALLBACK_RADIUS = 0.02
"""Radius of a particle of unknown size, as a part of the tomogram's largest extent."""

WELL_INSIDE = 0.6
"""Part of the radius within which a slice shows more of a sphere than its rim."""
ALMOST = 0.8
"""Part of the largest number of spheres that is good enough for a slice."""


@dataclass(frozen=True)
class Marks:
    """Spheres to draw."""

    centres: NDArray[np.float64]
    """(n, 3) float64, (z, y, x) in voxels of the full resolution."""
    radii: NDArray[np.float64]
    """(n,) float64, Å."""
    colours: NDArray[np.str_]
    """(n,) of "#rrggbb"."""
    legend: tuple[tuple[str, str], ...]
    """(colour, words) of the classes in order, structures left out."""

    def __len__(self) -> int:
        return len(self.radii)


def marks_of(tomogram: Tomogram, particles: Particles | None) -> Marks:
    """Spheres for the particles of one tomogram, coloured by class, of the class radius.

    Where a class has no radius, a particle is as large as its voxels;
    where these are unknown too, a small size stands in.
    """
    if particles is None:
        return Marks(np.empty((0, 3)), np.empty(0), np.empty(0, dtype="<U7"), ())
    here = in_tomogram(tomogram, particles)
    scale = np.asarray(tomogram.voxel_size)
    known = {one.name: one.radius for one in here.classes}
    radii = np.array([known[name] or np.nan for name in here.table["class"]], dtype=np.float64)
    sizes = here.table["size_voxels"].to_numpy(dtype=np.float64, na_value=np.nan)
    by_size = np.cbrt(3 * sizes * scale.prod() / (4 * np.pi))
    radii = np.where(np.isnan(radii), by_size, radii)
    fallback = FALLBACK_RADIUS * float(np.max(np.asarray(tomogram.shape) * scale))
    radii = np.where(radii > 0, radii, fallback)
    colour = {one.name: one.colour for one in here.classes}
    colours = np.array([colour[name] for name in here.table["class"]], dtype="<U7")
    return Marks(here.positions() / scale, radii, colours, class_legend(here.classes, here.counts(), structures=False))


def in_tomogram(tomogram: Tomogram, particles: Particles) -> Particles:
    """Particles of a tomogram: those under its name where the table has several tomograms, otherwise all."""
    if len(particles.tomograms) > 1:
        return particles.of_tomogram(tomogram.name)
    return particles


def title_of(tomogram: Tomogram, particles: Particles | None) -> str:
    """Name of a tomogram: the one in the table, where that has one tomogram only, else that of its store."""
    names = [] if particles is None else list(particles.tomograms)
    return names[0] if len(names) == 1 else tomogram.name


def class_legend(
    classes: Sequence[ParticleClass], counts: Mapping[str, int] | None, *, structures: bool = True
) -> tuple[tuple[str, str], ...]:
    """Legend of classes: colour and name, with the number of particles where ``counts`` are given."""
    return tuple(
        (one.colour, one.name if counts is None or one.kind == "structure" else f"{one.name} ({counts[one.name]})")
        for one in classes
        if structures or one.kind == "particle"
    )


def densest_index(centres: NDArray[np.float64], radii: NDArray[np.float64], extent: int) -> int:
    """Voxel along one axis where a slice cuts many spheres well inside: the nearest to the middle that cuts almost
    as many as any.

    Parameters
    ----------
    centres, radii : (n,) float
        In voxels along the axis.
    extent : int
        Voxels along the axis.
    """
    middle = extent // 2
    first = np.clip(np.ceil(centres - WELL_INSIDE * radii), 0, extent).astype(int)
    last = np.clip(np.floor(centres + WELL_INSIDE * radii) + 1, 0, extent).astype(int)
    cut = np.cumsum(np.bincount(first, minlength=extent + 1) - np.bincount(last, minlength=extent + 1))[:extent]
    best = np.flatnonzero(cut >= ALMOST * cut.max())
    return int(best[np.argmin(np.abs(best - middle))])
