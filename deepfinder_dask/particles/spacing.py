"""A minimum distance between particles: of those that are closer, the better one stays.

Particles are asked one after the other, the best first; each that stays removes those after it that are too close.
So what stays depends on positions, scores and the order of rows alone, and no two that stay are too close.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from deepfinder_dask.errors import SettingsError
from deepfinder_dask.particles.classes import ParticleClass
from deepfinder_dask.particles.lengths import Length
from deepfinder_dask.particles.table import Particles

MOST = 1024
"""Most particles whose neighbours are looked up at a time."""


def keep_apart(particles: Particles, distance: Length | float | str, *, per_class: bool = False) -> NDArray[np.bool_]:
    """Which particles stay so that all of a tomogram are at least a distance apart.

    The higher score stays. Particles without a score (NaN) come after those with one, the larger first; on a tie the
    earlier row stays. It takes n log n steps in the number of particles.

    Parameters
    ----------
    particles : Particles
        Of any number of tomograms, each judged alone.
    distance : Length, float or str
        Smallest distance between two centres that may be, in Å, or as text: ``120``, ``3vox``; or ``1.5r``, for two
        particles 1.5 times the mean of the radii of their classes: at ``2r`` balls of these radii just touch.
    per_class : bool
        Whether particles of different classes may be as close as they like.

    Returns
    -------
    (n,) bool
        True for rows that stay, as :meth:`Particles.where` takes it.

    Raises
    ------
    SettingsError
        The distance is no length above 0, or is in radii and a class with particles has none.
    VoxelSizeError
        The distance is in voxels and a tomogram does not say their size.
    """
    length = distance if isinstance(distance, Length) else Length.parse(distance, "a minimum distance")
    half = _halves(particles, length)
    rank = _ranks(particles)
    places = particles.positions()
    names = ["tomogram", "class"] if per_class else ["tomogram"]
    stays = np.ones(len(particles), bool)
    groups = [np.asarray(rows) for rows in particles.table.groupby(names, sort=False).indices.values()]
    for rows in sorted(groups, key=lambda rows: int(rows[0])):
        order = rows[np.argsort(rank[rows])]
        here = places[order]
        if length.unit == "vox":
            size = particles.voxel_size(str(particles.table["tomogram"].iloc[order[0]]))
            here = here / np.array(size, np.float64)
        stays[order] = _suppress(here, half[order])
    return stays


def check_distance(distance: float | str, classes: Sequence[ParticleClass] | None) -> None:
    """Refuse a minimum distance that cannot be judged for particles of these classes (None: none is known).

    Raises
    ------
    SettingsError
        It is no length above 0, or is in radii and a class has none.
    """
    if Length.parse(distance, "a minimum distance").unit != "r":
        return
    unknown = [one.name for one in classes or () if one.radius is None]
    if classes is None or unknown:
        raise SettingsError(
            f"a minimum distance in radii needs the radius of every class, and "
            f"{f'class {unknown[0]!r} has none' if unknown else 'no class is known'}: "
            f"give radii in a file of classes (--classes), or a distance in Å"
        )


def _halves(particles: Particles, length: Length) -> NDArray[np.float64]:
    """(n,): what each of two particles adds to the distance that must be between them."""
    if length.unit != "r":
        return np.full(len(particles), length.amount / 2)
    labels = particles.table["label"].to_numpy()
    there = [one for one in particles.classes if one.label in labels]
    check_distance("1r", there)
    radii = {one.label: length.amount * (one.radius or 0.0) / 2 for one in there}
    return np.array([radii[int(label)] for label in labels], np.float64)


def _ranks(particles: Particles) -> NDArray[np.int64]:
    """(n,): place of each particle in the order in which they are asked."""
    score = particles.table["score"].to_numpy(dtype=np.float64)
    size = particles.table["size_voxels"].to_numpy(dtype=np.float64, na_value=-1)
    unknown = np.isnan(score)
    order = np.lexsort((np.where(unknown, -size, 0), np.where(unknown, 0, -score), unknown))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank


def _suppress(places: NDArray[np.float64], half: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(n,): which of the places, (n, 3) in the order in which they are asked, stay."""
    stays = np.ones(len(places), bool)
    tree = KDTree(places)
    widest = half.max(initial=0)
    begin, batch = 0, 1
    while begin < len(places):
        asked = begin + np.flatnonzero(stays[begin : begin + 4 * batch])[:batch]
        if not len(asked):
            begin += 4 * batch
            continue
        # A little more than needed: the tree rounds in its own way, and the comparison below decides.
        found = tree.query_ball_point(places[asked], (half[asked] + widest) * (1 + 1e-9), return_sorted=False)
        for one, near in zip(asked, found, strict=True):
            if stays[one]:
                others = np.asarray(near)
                others = others[others > one]
                limit = half[others] + half[one]
                stays[others[((places[others] - places[one]) ** 2).sum(axis=1) < limit**2]] = False
        begin = int(asked[-1]) + 1
        # Crowds are asked one by one, so that neighbours of what is removed are not looked up in vain.
        batch = min(MOST, 2 * batch) if 4 * np.count_nonzero(stays[asked]) > 3 * len(asked) else max(1, batch // 2)
    return stays
