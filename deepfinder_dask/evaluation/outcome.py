"""What matching says about the particles of one tomogram."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.evaluation.matching import Edges, Matches, match_edges
from deepfinder_dask.evaluation.ranking import ranked_hits
from deepfinder_dask.particles.angles import rotation


@dataclass(frozen=True, eq=False)
class Side:
    """Particles of one side in one tomogram, without those that do not count."""

    rows: NDArray[np.int64]
    """Rows in the table of that side, (n,) int64."""
    positions: NDArray[np.float64]
    """Centres, (n, 3) float64, (z, y, x) in Å."""
    classes: NDArray[np.int64]
    """Class numbers, (n,) int64."""
    scores: NDArray[np.float64]
    """Scores, (n,) float64, NaN where unknown."""
    angles: NDArray[np.float64]
    """``rot, tilt, psi`` in degrees, (n, 3) float64, NaN where unknown."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> Side:
        """Some of the particles, by a mask or by indices."""
        return Side(self.rows[keep], self.positions[keep], self.classes[keep], self.scores[keep], self.angles[keep])

    @classmethod
    def empty(cls) -> Side:
        """No particles."""
        none = np.empty(0, dtype=np.int64)
        return cls(none, np.empty((0, 3)), none, np.empty(0), np.empty((0, 3)))


@dataclass(frozen=True, eq=False)
class Outcome:
    """One tomogram compared."""

    name: str
    """Name on the true side."""
    truth: Side
    """True particles."""
    found: Side
    """Found particles."""
    matches: Matches
    """Pairs of the same class; distances in Å."""
    blind: Matches
    """Pairs whatever the classes; distances in Å."""
    hits: NDArray[np.bool_]
    """Which found particles are hits of their class when taken in order of score, (m,) bool: as many as ``matches``,
    though in crowded places not always the same ones."""

    def counts(self, classes: int) -> NDArray[np.int64]:
        """True, found and matched of each class, (classes, 3) int64."""
        of_pairs = self.truth.classes[self.matches.truth]
        columns = (self.truth.classes, self.found.classes, of_pairs)
        return np.stack([np.bincount(one, minlength=classes) for one in columns], axis=1)

    @cached_property
    def angles(self) -> NDArray[np.float64]:
        """Angles between the orientations of ``matches``, degrees, (k,) float64; NaN where one is unknown."""
        return rotation_distance(self.truth.angles[self.matches.truth], self.found.angles[self.matches.found])

    def confusion(self, classes: int) -> NDArray[np.int64]:
        """Class-blind pairs by true and found class, (classes + 1, classes + 1) int64; last: without a partner."""
        result = np.zeros((classes + 1, classes + 1), dtype=np.int64)
        a, b = self.truth.classes, self.found.classes
        np.add.at(result, (a[self.blind.truth], b[self.blind.found]), 1)
        result[:, -1] += np.bincount(np.delete(a, self.blind.truth), minlength=classes + 1)
        result[-1] += np.bincount(np.delete(b, self.blind.found), minlength=classes + 1)
        return result


def compare_sides(name: str, truth: Side, found: Side, edges: Edges) -> Outcome:
    """Match the particles of one tomogram, with and without regard to classes.

    Parameters
    ----------
    name
        Of the tomogram.
    truth, found
        Particles of both sides.
    edges
        Index of the true and of the found particle of each pair near enough to match, whatever the classes.
    """
    same = truth.classes[edges[0]] == found.classes[edges[1]]
    of_class = edges[0][same], edges[1][same]
    known = np.where(np.isnan(found.scores), -np.inf, found.scores)
    return Outcome(
        name,
        truth,
        found,
        match_edges(truth.positions, found.positions, of_class),
        match_edges(truth.positions, found.positions, edges),
        ranked_hits(of_class, known, len(truth)),
    )


def rotation_distance(truth: NDArray[np.float64], found: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angle of the rotation between two orientations, degrees, (n,) float64; NaN where one is unknown.

    Symmetry of the particle is not known here: an orientation that is the same by symmetry counts as different.

    Parameters
    ----------
    truth, found : (n, 3) float64
        ``rot, tilt, psi`` in degrees, NaN where unknown.
    """
    result = np.full(len(truth), np.nan)
    known = ~(np.isnan(truth).any(axis=1) | np.isnan(found).any(axis=1))
    if known.any():
        between = rotation(truth[known]).inv() * rotation(found[known])
        result[known] = np.degrees(between.magnitude())
    return result
