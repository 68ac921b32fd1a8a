"""Hits against a threshold: how many pairs are left when particles below it are dropped, for every threshold at once.

At each threshold particles are matched anew, as many one-to-one pairs as can be (what ``evaluate`` counts). Taken from
the largest value down, a particle makes the largest matching either larger by one or not at all; and one that did not
when it came never will, since sets of positions that can be matched at once form a matroid (Edmonds and Fulkerson,
1965). So one pass of augmenting paths from the top down gives the count at every threshold exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfinder_dask.evaluation.matching import within_reach
from deepfinder_dask.evaluation.result import Score

_TIE = 1e-12


def near_truths(truth: ArrayLike, found: ArrayLike, reach: float, *, box: bool = False) -> list[list[int]]:
    """Indices of the true positions within reach of each found one; a distance equal to ``reach`` counts.

    Parameters
    ----------
    truth : (n, 3) float
        True positions, (z, y, x), any unit.
    found : (m, 3) float
        Found positions, same unit.
    reach : float
        How far a match may be.
    box
        Measure along each axis instead of straight.
    """
    a = np.asarray(truth, dtype=np.float64).reshape(-1, 3)
    b = np.asarray(found, dtype=np.float64).reshape(-1, 3)
    near: list[list[int]] = [[] for _ in b]
    for one, other in zip(*(ends.tolist() for ends in within_reach(a, b, reach, box=box)), strict=True):
        near[other].append(one)
    return near


def gains(near: Sequence[Sequence[int]], order: Iterable[int]) -> NDArray[np.bool_]:
    """Whether each found position makes the largest one-to-one matching larger when it joins those before it.

    Parameters
    ----------
    near : m lists
        True positions that each found one may be matched with.
    order : up to m indices
        Found positions in the order in which they join; those left out gain nothing.

    Returns
    -------
    (m,) bool
        The number of pairs among the first k of ``order`` is the number of gains among them.
    """
    result = np.zeros(len(near), dtype=bool)
    found_of: dict[int, int] = {}
    truth_of: dict[int, int] = {}
    for start in order:
        came_from: dict[int, int] = {}  # a true position, and the found one from which the path reached it
        queue = [start]
        for one in queue:
            fresh = [truth for truth in near[one] if truth not in came_from]
            came_from.update(dict.fromkeys(fresh, one))
            free = next((truth for truth in fresh if truth not in found_of), None)
            if free is None:
                queue += [found_of[truth] for truth in fresh]
                continue
            result[start] = True
            while free is not None:  # everyone on the path takes the next true position
                taker = came_from[free]
                left = truth_of.get(taker)
                truth_of[taker], found_of[free] = free, taker
                free = left
            break
    return result


@dataclass(frozen=True)
class Hits:
    """Found particles of one class in one tomogram, each with its value and whether it is a hit.

    A particle that is no hit alone may still be right: it is one too many beside a true one.
    """

    true: int
    """Number of true particles."""
    values: NDArray[np.float64]
    """What is compared with the threshold, (m,) float64; NaN where unknown, which no threshold lets pass."""
    gain: NDArray[np.bool_]
    """Whether the particle adds a pair to those of larger values, (m,) bool."""

    @classmethod
    def of(cls, true: int, values: ArrayLike, near: Sequence[Sequence[int]], keep: ArrayLike | None = None) -> Hits:
        """Hits from the values and neighbours of found particles, of those kept if it says so, (m,) bool."""
        numbers = np.asarray(values, dtype=np.float64)
        order = np.argsort(-np.nan_to_num(numbers, nan=-np.inf), kind="stable")
        chosen = np.ones(len(numbers), dtype=bool) if keep is None else np.asarray(keep, dtype=bool)
        gain = gains(near, order[chosen[order]].tolist())
        return cls(true, numbers[chosen], gain[chosen])

    def at(self, threshold: float | None) -> Score:
        """Counts of what has at least this value; of everything where it is None."""
        kept = np.ones(len(self.values), dtype=bool) if threshold is None else self.values >= threshold
        return Score(self.true, int(kept.sum()), int(self.gain[kept].sum()))


@dataclass(frozen=True)
class Sweep:
    """Counts at every threshold that makes a difference: none at all, then each distinct value."""

    thresholds: tuple[float | None, ...]
    """None (everything is kept), then values, increasing; what equals the threshold is kept."""
    scores: tuple[Score, ...]
    """Counts at each of them."""

    @classmethod
    def of(cls, parts: Sequence[Hits]) -> Sweep:
        """Sweep over the particles of all parts (tomograms) together; n log n in their number."""
        true = sum(part.true for part in parts)
        values = np.concatenate([np.empty(0), *(part.values for part in parts)])
        gain = np.concatenate([np.empty(0, dtype=bool), *(part.gain for part in parts)])
        known = np.flatnonzero(~np.isnan(values))
        order = known[np.argsort(values[known], kind="stable")]
        distinct, first = np.unique(values[order], return_index=True)
        kept = len(order) - first
        hits = np.cumsum(gain[order][::-1])[::-1][first] if len(order) else first
        everything = Score(true, len(values), int(gain.sum()))
        scores = [Score(true, int(n), int(k)) for n, k in zip(kept, hits, strict=True)]
        return cls((None, *distinct.tolist()), (everything, *scores))

    def best(self, beta: float = 1.0) -> int:
        """Index of the threshold of largest F-beta, the smallest of those that share it."""
        ratios = np.nan_to_num([score.f_beta(beta) for score in self.scores])
        return int(np.argmax(ratios >= ratios.max() * (1 - _TIE)))
