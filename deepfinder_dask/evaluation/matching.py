"""One-to-one matching of true and found positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.spatial import cKDTree

Positions = NDArray[np.float64]
"""(n, 3) float64, (z, y, x)."""
Indices = NDArray[np.int64]
Edges = tuple[Indices, Indices]
"""Index of the true and of the found position of each pair that may match."""
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
    Pairs within reach make a sparse bipartite graph. Where a true and a found position have only each other, they are
    a pair. Of the rest, each true position also gets an edge of its own to "unmatched", dearer than all that any
    re-arrangement could save; the cheapest full matching of the true positions is then the largest matching of least
    total distance (Jonker and Volgenant's algorithm for sparse matrices).
    """
    a = np.asarray(truth, dtype=np.float64).reshape(-1, 3)
    b = np.asarray(found, dtype=np.float64).reshape(-1, 3)
    return match_edges(a, b, within_reach(a, b, reach, box=box))


def within_reach(truth: Positions, found: Positions, reach: ArrayLike, *, box: bool = False) -> Edges:
    """Pairs of positions that may match: index of the true and of the found one, each (e,) int64, in that order.

    Parameters as those of :func:`match`.
    """
    none = np.empty(0, dtype=np.int64)
    if not len(truth) or not len(found):
        return none, none
    limits = np.broadcast_to(np.asarray(reach, dtype=np.float64), (len(truth),)) * (1 + _SLACK)
    near = cKDTree(found).query_ball_point(truth, limits, p=np.inf if box else 2.0, return_sorted=True)
    counts = np.array([len(one) for one in near])
    if not counts.any():
        return none, none
    return np.repeat(np.arange(len(truth)), counts), np.concatenate([np.asarray(one, dtype=np.int64) for one in near])


def match_edges(truth: Positions, found: Positions, edges: Edges) -> Matches:
    """Largest matching of least total distance along given edges; see :func:`match`.

    Parameters
    ----------
    truth, found : (n, 3) and (m, 3) float64
        Positions, (z, y, x), any unit.
    edges
        Index of the true and of the found position of each pair that may match, each once.
    """
    rows, columns = edges
    distances = np.linalg.norm(truth[rows] - found[columns], axis=1)
    alone = (np.bincount(rows, minlength=len(truth))[rows] == 1) & (
        np.bincount(columns, minlength=len(found))[columns] == 1
    )
    left, right = _assigned(rows[~alone], columns[~alone], distances[~alone])
    left, right = np.concatenate([rows[alone], left]), np.concatenate([columns[alone], right])
    order = np.argsort(left)
    left, right = left[order].astype(np.int64), right[order].astype(np.int64)
    return Matches(left, right, np.linalg.norm(truth[left] - found[right], axis=1))


def _assigned(rows: Indices, columns: Indices, distances: NDArray[np.float64]) -> Edges:
    """Edges of the largest matching of least total distance."""
    if not len(rows):
        return rows, columns
    truths, a = np.unique(rows, return_inverse=True)
    founds, b = np.unique(columns, return_inverse=True)
    # Weights of pairs lie in 1 … 2 (a stored 0 would be no edge); leaving a truth out costs more than all of them save.
    weights = 1 + distances / max(float(distances.max()), np.finfo(float).tiny)
    unmatched = np.arange(len(truths))
    graph = coo_array(
        (
            np.concatenate([weights, np.full(len(truths), len(truths) + 3.0)]),
            (np.concatenate([a, unmatched]), np.concatenate([b, len(founds) + unmatched])),
        ),
        shape=(len(truths), len(founds) + len(truths)),
    )
    left, right = min_weight_full_bipartite_matching(graph.tocsr())
    real = right < len(founds)
    return truths[left[real]], founds[right[real]]
