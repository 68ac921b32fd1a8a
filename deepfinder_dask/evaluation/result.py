"""What an evaluation says: counts, and the figures that follow from them.

Light on purpose: nothing here imports more than the standard library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import fsum, isnan, nan
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from deepfinder_dask.evaluation.ranking import Curve

UNMATCHED = "(none)"
"""Row or column of the confusion matrix for particles without a partner."""
Intervals = Mapping[str, tuple[float, float]]
"""Lower and upper end of the confidence interval of each figure, by its name; NaN where undefined."""


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

    def f_beta(self, beta: float) -> float:
        """(1 + beta²) · matched / (beta² · true + found): F1 with recall weighted beta times; NaN where both are 0."""
        whole = beta**2 * self.true + self.found
        return (1 + beta**2) * self.matched / whole if whole else nan

    def __add__(self, other: Score) -> Score:
        return Score(self.true + other.true, self.found + other.found, self.matched + other.matched)

    def to_dict(self) -> dict[str, float | int | None]:
        """Ratios and counts for JSON; undefined ratios are None."""
        ratios = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        counts = {"true": self.true, "found": self.found, "matched": self.matched}
        return {name: none_if_nan(value) for name, value in ratios.items()} | counts


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean, median and root mean square of some values; NaN where there are none."""

    count: int = 0
    """Number of values."""
    mean: float = nan
    """Mean."""
    median: float = nan
    """Median."""
    rms: float = nan
    """Root of the mean square."""

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Spread:
        """Spread of the values (n,) that are not NaN."""
        import numpy as np

        known = np.sort(values[~np.isnan(values)])  # sorted: sums do not depend on the order of rows
        if not len(known):
            return cls()
        return cls(len(known), float(known.mean()), float(np.median(known)), float(np.sqrt(np.mean(known**2))))

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain values for JSON; undefined ones are None."""
        values = {"mean": self.mean, "median": self.median, "rms": self.rms}
        return {"count": self.count, **{name: none_if_nan(value) for name, value in values.items()}}


@dataclass(frozen=True)
class Details:
    """What is known of a class, or of all, beyond its :class:`Score`."""

    f_beta: float = nan
    """F-beta; NaN where undefined."""
    average_precision: float = nan
    """Area under precision against recall; NaN where scores are unknown or there is nothing to find."""
    distance: Spread = Spread()
    """Distances of matched pairs, Å."""
    angle: Spread = Spread()
    """Angles between the orientations of matched pairs, degrees; of pairs where both sides know them."""
    intervals: Intervals = field(default_factory=dict)
    """Confidence intervals of ``precision``, ``recall``, ``f1``, ``f_beta``, ``average_precision``."""
    curve: Curve | None = None
    """Counts at every score threshold; None where scores are unknown."""
    colour: str = "#22252a"
    """``#rrggbb``, for pictures."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; undefined ones are None. The curve is left out."""
        result: dict[str, Any] = {
            "f_beta": none_if_nan(self.f_beta),
            "average_precision": none_if_nan(self.average_precision),
            "distance": self.distance.to_dict(),
        }
        if self.angle.count:
            result["angle"] = self.angle.to_dict()
        if self.curve is not None:
            threshold, f1 = self.curve.best
            result["best_threshold"] = {"score": none_if_nan(threshold), "f1": none_if_nan(f1)}
        if self.intervals:
            result["intervals"] = _intervals_to_dict(self.intervals)
        return result


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How confidence intervals were made."""

    over: Literal["tomograms", "particles"]
    """What was drawn."""
    replicates: int
    """Number of samples."""
    seed: int
    """Seed of the random numbers."""
    confidence: float
    """Part of the samples within an interval."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        names = ("over", "replicates", "seed", "confidence")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class RegionScores:
    """Scores of one region of a mask, as the paper's Supplementary Table 2 lists them."""

    localisation: Score
    """Whatever the classes."""
    overall: Score
    """Class must match."""
    classes: Mapping[str, Score]
    """Class must match; by class name."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; undefined ratios are None."""
        classes = {name: one.to_dict() for name, one in self.classes.items()}
        return {"localisation": self.localisation.to_dict(), "overall": self.overall.to_dict(), "classes": classes}


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
    beta: float = 1.0
    """Weight of recall in F-beta."""
    class_details: Mapping[str, Details] = field(default_factory=dict)
    """By class name: F-beta, average precision, distances, confidence intervals, curve."""
    overall_details: Details = field(default_factory=Details)
    """The same for all classes pooled."""
    localisation_details: Details = field(default_factory=Details)
    """The same whatever the classes."""
    macro: Mapping[str, float] = field(default_factory=dict)
    """Means over the classes where they are defined: ``f1, f_beta, average_precision``."""
    macro_intervals: Intervals = field(default_factory=dict)
    """Confidence intervals of these."""
    tomogram_classes: Mapping[str, Mapping[str, Score]] = field(default_factory=dict)
    """By tomogram, then by class."""
    tomogram_localisation: Mapping[str, Score] = field(default_factory=dict)
    """By tomogram, whatever the classes."""
    bootstrap: Bootstrap | None = None
    """How intervals were made; None without them."""
    czii: float | None = None
    """Score of the CZII challenge, if asked for (see :mod:`deepfinder_dask.evaluation.czii`)."""
    czii_classes: Mapping[str, float] = field(default_factory=dict)
    """F4 of each class in it."""
    regions: Mapping[int, RegionScores] = field(default_factory=dict)
    """By number of the region, where a mask has several. A pair in two regions counts in neither."""
    pairs: pd.DataFrame | None = field(default=None, repr=False, compare=False)
    """Matched pairs (see :func:`~deepfinder_dask.evaluation.write_pairs`)."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """Files among many that could not be read, and why."""

    def _repr_html_(self) -> str:
        from deepfinder_dask.particles.cards import card, table

        scores = {**self.classes, "all classes": self.overall, "whatever the class": self.localisation}
        rows = [
            (name, one.true, one.found, one.matched, *(_ratio(v) for v in (one.precision, one.recall, one.f1)))
            for name, one in scores.items()
        ]
        heads = ("class", "true", "found", "matched", "precision", "recall", "F1")
        facts = [
            ("tolerance", self.tolerance),
            ("tomograms", len(self.tomograms)),
            *(("note", one) for one in self.notes),
            *(("not read", f"{name}: {why}") for name, why in self.failures.items()),
        ]
        return card("Evaluation", facts, more=table(heads, rows))

    def mean_over_tomograms(self) -> dict[str, dict[str, float]]:
        """``precision, recall, f1`` of ``overall`` and ``localisation``, each the mean over the tomograms where it is
        defined, every tomogram counting the same; NaN where it is defined in none.
        """
        sides = {"overall": self.tomograms, "localisation": self.tomogram_localisation}
        result = {}
        for side, scores in sides.items():
            result[side] = {
                name: _mean([getattr(one, name) for one in scores.values()]) for name in ("precision", "recall", "f1")
            }
        return result

    def tomogram_table(self) -> pd.DataFrame:
        """One row for each tomogram and class, then ``overall`` and ``localisation`` of the tomogram.

        Columns: ``tomogram, class, true, found, matched, precision, recall, f1``; undefined ratios are NaN.
        """
        import pandas as pd

        rows = []
        for name, score in self.tomograms.items():
            named = list(self.tomogram_classes.get(name, {}).items())
            named.append(("overall", score))
            named.append(("localisation", self.tomogram_localisation.get(name, Score(0, 0, 0))))
            rows += [{"tomogram": name, "class": key, **one.to_dict()} for key, one in named]
        columns = ["tomogram", "class", "true", "found", "matched", "precision", "recall", "f1"]
        return pd.DataFrame(rows, columns=columns)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: ``localisation``, ``overall`` and ``classes``, each precision, recall, f1, true,
        found, matched and what is known beyond; tomograms, means, the confusion matrix, notes. Undefined is None.
        """
        means = {
            side: {name: none_if_nan(value) for name, value in one.items()}
            for side, one in self.mean_over_tomograms().items()
        }
        result: dict[str, Any] = {
            "localisation": self.localisation.to_dict() | self.localisation_details.to_dict(),
            "overall": self.overall.to_dict() | self.overall_details.to_dict(),
            "classes": {
                name: score.to_dict() | self.class_details.get(name, Details()).to_dict()
                for name, score in self.classes.items()
            },
            "mean_over_classes": {name: none_if_nan(value) for name, value in self.macro.items()}
            | ({"intervals": _intervals_to_dict(self.macro_intervals)} if self.macro_intervals else {}),
            "mean_over_tomograms": means,
            "tomograms": {
                name: score.to_dict()
                | {
                    "localisation": self.tomogram_localisation.get(name, Score(0, 0, 0)).to_dict(),
                    "classes": {key: one.to_dict() for key, one in self.tomogram_classes.get(name, {}).items()},
                }
                for name, score in self.tomograms.items()
            },
            "confusion": {"names": list(self.confusion_names), "counts": [list(row) for row in self.confusion]},
            "tolerance": self.tolerance,
            "beta": self.beta,
            "bootstrap": None if self.bootstrap is None else self.bootstrap.to_dict(),
            "notes": list(self.notes),
        }
        if self.czii is not None:
            result["czii"] = {
                "score": none_if_nan(self.czii),
                "classes": {name: none_if_nan(value) for name, value in self.czii_classes.items()},
            }
        if self.regions:
            result["regions"] = {str(number): one.to_dict() for number, one in self.regions.items()}
        if self.failures:
            result["failures"] = dict(self.failures)
        return result

    def rows(self) -> list[dict[str, Any]]:
        """Table for people: one mapping ``name, true, found, matched, precision, recall, f1, …`` for each class, then
        ``overall`` and ``localisation``; undefined ratios are NaN. Intervals are pairs such as ``f1_interval``.
        """
        named = [(name, one, self.class_details.get(name, Details())) for name, one in self.classes.items()]
        named.append(("overall", self.overall, self.overall_details))
        named.append(("localisation", self.localisation, self.localisation_details))
        return [
            {
                "name": name,
                "true": score.true,
                "found": score.found,
                "matched": score.matched,
                "precision": score.precision,
                "recall": score.recall,
                "f1": score.f1,
                "f_beta": more.f_beta,
                "average_precision": more.average_precision,
                "distance": more.distance.median,
                "f1_interval": more.intervals.get("f1", (nan, nan)),
            }
            for name, score, more in named
        ]


def none_if_nan(value: float) -> float | None:
    """The value; None where it is NaN, which JSON does not know."""
    return None if isnan(value) else value


def _intervals_to_dict(intervals: Intervals) -> dict[str, list[float] | None]:
    """Ends of each interval; None where undefined."""
    return {name: None if isnan(low) else [low, high] for name, (low, high) in intervals.items()}


def _mean(values: list[float]) -> float:
    """Mean of those that are defined, whatever their order."""
    known = [value for value in values if not isnan(value)]
    return fsum(known) / len(known) if known else nan


def _ratio(value: float) -> str:
    """Three decimals, or a dash where it is not defined."""
    return "–" if isnan(value) else f"{value:.3f}"
