"""Groups of positions that are one particle in several sets."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfinder_dask.evaluation.matching import match


def group_positions(sets: Mapping[str, ArrayLike], reach: float, *, box: bool = False) -> NDArray[np.int64]:
    """Groups with at most one position of each set.

    Each two sets are matched one to one (:func:`match`: most pairs, then least total distance). The pairs of all sets
    are then taken from the nearest to the farthest, and each joins the groups of its two positions, unless that would
    put two positions of one set into a group. So two sets give exactly the pairs of :func:`match`, and in a chain that
    cannot hold together the longest link breaks. A group may be wider than ``reach``: two of its members need not be
    matched with each other, if a third is with both.

    Parameters
    ----------
    sets : mapping of (n, 3) float
        Positions, (z, y, x), any unit, by the name of the set.
    reach : float
        How far apart a pair may be; a distance equal to it counts.
    box
        Measure ``reach`` along each axis instead of straight.

    Returns
    -------
    (g, sets) int64
        Row of each group's member in each set, in the order of ``sets``; -1 where a set has none. Every row of every
        set is in one group. Groups are sorted by their rows in the sets, by name; the order in which sets are given
        changes nothing but the columns.
    """
    names = sorted(sets)
    points = [np.asarray(sets[name], dtype=np.float64).reshape(-1, 3) for name in names]
    starts = np.cumsum([0, *(len(one) for one in points)])
    every = np.concatenate(points)
    links = [(np.empty(0), np.empty((0, 2), dtype=np.int64))]
    for i, j in combinations(range(len(names)), 2):
        pairs = match(points[i], points[j], reach, box=box)
        links.append((pairs.distance, np.stack([starts[i] + pairs.truth, starts[j] + pairs.found], axis=1)))
    distance = np.concatenate([one for one, _ in links])
    ends = np.concatenate([one for _, one in links])
    # Of links of one length the first by position, so that neither the order of sets nor of rows decides.
    order = np.lexsort((*every[ends[:, 1]].T[::-1], *every[ends[:, 0]].T[::-1], distance))

    root = np.arange(len(every))
    members = {n: [n] for n in range(len(every))}
    owner = np.repeat(np.arange(len(names)), np.diff(starts))
    for a, b in ends[order].tolist():
        left, right = int(root[a]), int(root[b])
        if left == right or {int(owner[n]) for n in members[left]} & {int(owner[n]) for n in members[right]}:
            continue
        root[members[right]] = left
        members[left] += members.pop(right)
    groups = np.full((len(members), len(names)), -1, dtype=np.int64)
    for number, group in enumerate(members.values()):
        groups[number, owner[group]] = group - starts[owner[group]]
    missing = np.where(groups < 0, len(every), groups)
    groups = groups[np.lexsort(missing.T[::-1])]
    return groups[:, [names.index(name) for name in sets]]
