"""What an evaluation says: counts, and the ratios that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isnan, nan
from typing import Any

UNMATCHED = "(none)"
"""Row or column of the confusion matrix for particles without a partner."""


@dataclass(frozen=True, slots=True)
class Score:
    """Counts of a comparison. A ratio of nothing to nothing is NaN (null in JSON), never 0 or 1."""

    true: int
    """Number of true particles."""
    found: int
    """Number of found particles."""
    matched: int
    """Number of one-to-one pairs."""

    @property
    def precision(self) -> float:
        """Matched of found; NaN where nothing was found."""
        return self.matched / self.found if self.found else nan

    @property
    def recall(self) -> float:
        """Matched of true; NaN where there is nothing to find."""
        return self.matched / self.true if self.true else nan

    @property
    def f1(self) -> float:
        """2 · matched / (true + found), the harmonic mean of the two; NaN where both counts are 0."""
        return 2 * self.matched / (self.true + self.found) if self.true + self.found else nan

    def __add__(self, other: Score) -> Score:
        return Score(self.true + other.true, self.found + other.found, self.matched + other.matched)

    def to_dict(self) -> dict[str, float | int | None]:
        """Ratios and counts for JSON; undefined ratios are None."""
        ratios = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        counts = {"true": self.true, "found": self.found, "matched": self.matched}
        return {name: None if isnan(value) else value for name, value in ratios.items()} | counts


@dataclass(frozen=True)
class Evaluation:
    """Found particles compared with true ones."""

    localisation: Score
    """Whatever the classes: was something found where a particle is?"""
    overall: Score
    """Class must match; counts of all classes pooled."""
    classes: Mapping[str, Score]
    """Class must match; by class name, in order of label."""
    tomograms: Mapping[str, Score]
    """Class must match; by tomogram name (the truth's)."""
    confusion_names: tuple[str, ...]
    """Rows and columns of ``confusion``: the classes, then :data:`UNMATCHED`."""
    confusion: tuple[tuple[int, ...], ...]
    """Counts of class-blind pairs: ``confusion[true class][found class]``; the last column holds true particles that
    were missed, the last row found ones that are none."""
    tolerance: str
    """Tolerance as it was asked for."""
    notes: tuple[str, ...] = field(default=())
    """What a reader of the numbers should know, one sentence each: tomograms left out, names matched by position, …"""

    def to_dict(self) -> dict[str, Any]:
        """``localisation``, ``overall`` and ``classes``, each precision, recall, f1, true, found, matched: for JSON."""
        return {
            "localisation": self.localisation.to_dict(),
            "overall": self.overall.to_dict(),
            "classes": {name: score.to_dict() for name, score in self.classes.items()},
        }

    def rows(self) -> list[dict[str, Any]]:
        """Table for people: one mapping ``name, true, found, matched, precision, recall, f1`` for each class, then
        ``overall`` and ``localisation``; undefined ratios are NaN.
        """
        named = [*self.classes.items(), ("overall", self.overall), ("localisation", self.localisation)]
        return [
            {
                "name": name,
                "true": score.true,
                "found": score.found,
                "matched": score.matched,
                "precision": score.precision,
                "recall": score.recall,
                "f1": score.f1,
            }
            for name, score in named
        ]
