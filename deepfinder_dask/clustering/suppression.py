"""What mean-shift does with all centres at once: which of them stay, and who gets a voxel that two want equally.

Both go through scikit-learn's own search for neighbours, whose order and rounding decide.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.clustering.kernels import FEW

BATCH = 256
"""Centres whose neighbours are looked up at a time."""


def distinct_centres(
    centres: NDArray[np.float64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Centres that differ, those with most voxels around them first; equal counts by z, y, x, the largest first.

    Parameters
    ----------
    centres : (k, 3) float64
        Where each trajectory ended, (z, y, x), in the order of the seeds.
    counts : (k,) int64
        Voxels around it before its last step; 0 where there is no centre. Where two trajectories end at the same place
        the later one's count holds.

    Returns
    -------
    centres : (n, 3) float64
    counts : (n,) int64
    """
    there = counts > 0
    centres, counts = centres[there], counts[there]
    order = np.lexsort((np.arange(len(counts)), centres[:, 2], centres[:, 1], centres[:, 0]))
    centres, counts = centres[order], counts[order]
    last = np.append(np.any(centres[1:] != centres[:-1], axis=1), np.ones(min(1, len(centres)), bool))
    centres, counts = centres[last], counts[last]
    order = np.lexsort((centres[:, 2], centres[:, 1], centres[:, 0], counts))[::-1]
    return centres[order], counts[order]


def suppress(centres: NDArray[np.float64], bandwidth: float) -> NDArray[np.bool_]:
    """(n,): which centres stay, when each that stays removes all others within the bandwidth.

    Parameters
    ----------
    centres : (n, 3) float64
        In the order in which they are asked.
    bandwidth : float
        In voxels.
    """
    from sklearn.neighbors import NearestNeighbors

    stays = np.ones(len(centres), bool)
    if not len(centres):
        return stays
    neighbours = NearestNeighbors(radius=bandwidth).fit(centres)
    # Few centres go through matrix products, whose rounding depends on how many are asked at once.
    size = 1 if len(centres) <= FEW else BATCH
    begin = 0
    while begin < len(centres):
        asked = begin + np.flatnonzero(stays[begin:])[:size]
        if not len(asked):
            break
        found = neighbours.radius_neighbors(centres[asked], return_distance=False)
        for one, near in zip(asked, found, strict=True):
            if stays[one]:
                stays[near] = False
                stays[one] = True
        begin = int(asked[-1]) + 1
    return stays


def settle(voxels: NDArray[np.int64], centres: NDArray[np.float64]) -> NDArray[np.int64]:
    """(d,): the nearest of all centres to each voxel, (d, 3) in z, y, x, as scikit-learn settles ties."""
    from sklearn.neighbors import NearestNeighbors

    search: Any = NearestNeighbors(n_neighbors=1).fit(centres)
    found: NDArray[np.int64] = search.kneighbors(voxels, return_distance=False)[:, 0].astype(np.int64)
    return found


def follow_few(
    voxels: NDArray[np.int64], seeds: NDArray[np.float64], bandwidth: float, limit: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Trajectories among so few voxels that scikit-learn measures distances through matrix products.

    Parameters
    ----------
    voxels : (n, 3) int64
        At most eleven, (z, y, x), in C order.
    seeds : (k, 3) float64
        Where the trajectories begin.
    bandwidth : float
        In voxels.
    limit : int
        Most steps.

    Returns
    -------
    centres : (k, 3) float64
    counts : (k,) int64
        0 where there is no centre.
    """
    from sklearn.neighbors import NearestNeighbors

    search: Any = NearestNeighbors(radius=bandwidth).fit(voxels)
    centres, counts = seeds.copy(), np.zeros(len(seeds), np.int64)
    for one in range(len(seeds)):
        for step in range(limit + 1):
            near = search.radius_neighbors(centres[one : one + 1], bandwidth, return_distance=False)[0]
            counts[one] = len(near)
            if not len(near):
                break
            before = centres[one].copy()
            centres[one] = voxels[near].mean(axis=0)
            if step == limit or np.linalg.norm(centres[one] - before) <= 1e-3 * bandwidth:
                break
    return centres, counts
