"""One-to-one matching of true and found positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.spatial import cKDTree

_SLACK = 1e-9
"""Relative: a distance of exactly the tolerance counts, whatever rounding did to it."""


@dataclass(frozen=True)
class Matches:
    """Pairs of true and found positions; no position is in two."""

    truth: NDArray[np.int64]
    """Index of the true position, (k,) int64, increasing."""
    found: NDArray[np.int64]
    """Index of the found position, (k,) int64."""
    distance: NDArray[np.float64]
    """Distance between them, (k,) float64, in the unit of the positions."""

    def __len__(self) -> int:
        return len(self.truth)


def match(truth: ArrayLike, found: ArrayLike, reach: ArrayLike, *, box: bool = False) -> Matches:
    """Match true and found positions one to one: as many pairs as can be, then the least total distance.

    So a truth with two found positions beside it is one hit and one false positive, and two truths beside one found
    position are one hit and one miss.

    Parameters
    ----------
    truth : (n, 3) float
        True positions, (z, y, x), any unit.
    found : (m, 3) float
        Found positions, same unit.
    reach : float or (n,) float
        How far a match may be from each true position; a distance equal to it counts.
    box
        Measure ``reach`` along each axis (the largest of the three distances) instead of straight. The total that is
        made least is of straight distances in both cases.

    Returns
    -------
    Matches
        In the order of the true positions.

    Notes
    -----
    Pairs within reach make a sparse bipartite graph. Each true position also gets an edge of its own to "unmatched",
    dearer than all that any re-arrangement could save; the cheapest full matching of the true positions is then the
    largest matching of least total distance (Jonker and Volgenant's algorithm for sparse matrices). Time grows with
    the number of pairs within reach: 10,000 positions take a second.
    """
    a = np.asarray(truth, dtype=np.float64).reshape(-1, 3)
    b = np.asarray(found, dtype=np.float64).reshape(-1, 3)
    limits = np.broadcast_to(np.asarray(reach, dtype=np.float64), (len(a),)) * (1 + _SLACK)
    none = np.empty(0, dtype=np.int64)
    if not len(a) or not len(b):
        return Matches(none, none, np.empty(0))
    near = cKDTree(b).query_ball_point(a, limits, p=np.inf if box else 2.0, return_sorted=True)
    counts = np.array([len(one) for one in near])
    if not counts.any():
        return Matches(none, none, np.empty(0))
    rows = np.repeat(np.arange(len(a)), counts)
    columns = np.concatenate([np.asarray(one, dtype=np.int64) for one in near])
    distances = np.linalg.norm(a[rows] - b[columns], axis=1)
    # Weights of pairs lie in 1 … 2 (a stored 0 would be no edge); leaving a truth out costs more than all of them save.
    weights = 1 + distances / max(float(distances.max()), np.finfo(float).tiny)
    alone = np.arange(len(a))
    graph = coo_array(
        (
            np.concatenate([weights, np.full(len(a), len(a) + 3.0)]),
            (np.concatenate([rows, alone]), np.concatenate([columns, len(b) + alone])),
        ),
        shape=(len(a), len(b) + len(a)),
    )
    left, right = min_weight_full_bipartite_matching(graph.tocsr())
    real = right < len(b)
    left, right = left[real].astype(np.int64), right[real].astype(np.int64)
    return Matches(left, right, np.linalg.norm(a[left] - b[right], axis=1))
