"""Found particles in the order of their scores: which are hits, and what follows from that at every threshold."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfinder_dask.evaluation.matching import Edges


def ranked_hits(edges: Edges, scores: ArrayLike, truths: int) -> NDArray[np.bool_]:
    """Which found particles are hits when they are taken in order of score, the highest first.

    A found particle is a hit if the largest one-to-one matching grows by it (by an augmenting path: earlier ones may
    move to another truth within their reach). So the hits among those above any threshold are as many as a matching
    of just these would have, which is what :func:`~deepfinder_dask.evaluation.evaluate` reports for them.

    Parameters
    ----------
    edges
        Index of the true and of the found particle of each pair within reach.
    scores : (m,) float
        Scores of the found particles, none NaN.
    truths
        Number of true particles.

    Returns
    -------
    (m,) bool
        In the order of the found particles. Which of several with the same score is the hit depends on that order;
        how many of them are does not.
    """
    values = np.asarray(scores, dtype=np.float64)
    hits = np.zeros(len(values), dtype=bool)
    rows, columns = edges
    if not len(rows):
        return hits
    order = np.argsort(columns, kind="stable")
    near = np.split(rows[order], np.searchsorted(columns[order], np.arange(1, len(values))))
    options = [one.tolist() for one in near]
    owner = [-1] * truths
    for found in np.argsort(-values, kind="stable").tolist():
        if options[found]:
            hits[found] = _augment(found, options, owner)
    return hits


def _augment(found: int, options: list[list[int]], owner: list[int]) -> bool:
    """Give a found particle a truth, moving others to another one where that helps; whether it got one."""
    for truth in options[found]:
        if owner[truth] < 0:
            owner[truth] = found
            return True
    came_from: dict[int, int] = {}
    queue = [found]
    for one in queue:
        for truth in options[one]:
            if truth in came_from:
                continue
            came_from[truth] = one
            if owner[truth] >= 0:
                queue.append(owner[truth])
                continue
            while truth >= 0:
                mover = came_from[truth]
                previous = next((t for t in options[mover] if owner[t] == mover), -1)
                owner[truth] = mover
                truth = previous if mover != found else -1
            return True
    return False


@dataclass(frozen=True, eq=False)
class Curve:
    """Counts at every score threshold: what is left when found particles below it are dropped."""

    true: int
    """Number of true particles."""
    thresholds: NDArray[np.float64]
    """Different scores, (k,) float64, decreasing."""
    found: NDArray[np.int64]
    """Found particles of at least this score, (k,) int64."""
    matched: NDArray[np.int64]
    """Hits among them, (k,) int64."""

    @classmethod
    def of(cls, scores: ArrayLike, hits: ArrayLike, true: int) -> Curve:
        """Curve from the scores (m,) of found particles, none NaN, whether each is a hit, and the number of truths."""
        values = np.asarray(scores, dtype=np.float64)
        order = np.argsort(-values, kind="stable")
        values = values[order]
        last = np.flatnonzero(np.append(values[1:] != values[:-1], True)) if len(values) else np.empty(0, np.int64)
        matched = np.cumsum(np.asarray(hits, dtype=np.int64)[order])
        return cls(true, values[last], (last + 1).astype(np.int64), matched[last].astype(np.int64))

    @property
    def precision(self) -> NDArray[np.float64]:
        """Matched of found, (k,)."""
        return np.asarray(self.matched / self.found, dtype=np.float64)

    @property
    def recall(self) -> NDArray[np.float64]:
        """Matched of true, (k,); NaN where there is nothing to find."""
        return np.asarray(self.matched / self.true if self.true else np.full(len(self.matched), nan), dtype=np.float64)

    @property
    def f1(self) -> NDArray[np.float64]:
        """2 · matched / (true + found), (k,)."""
        return np.asarray(2 * self.matched / (self.true + self.found), dtype=np.float64)

    @property
    def average_precision(self) -> float:
        """Area under precision against recall, as steps: the sum of precision × rise in recall, not interpolated.

        As ``sklearn.metrics.average_precision_score``, but truths that nothing was found for count too: recall ends
        where the found particles end. 0 where nothing was found, NaN where there is nothing to find.
        """
        if not self.true:
            return nan
        return float(np.sum(self.precision * np.diff(self.matched, prepend=0)) / self.true)

    @property
    def best(self) -> tuple[float, float]:
        """Threshold of the highest F1 (the highest such threshold), and that F1; NaN where nothing was found."""
        if not len(self.thresholds):
            return nan, nan
        at = int(np.argmax(self.f1))
        return float(self.thresholds[at]), float(self.f1[at])
