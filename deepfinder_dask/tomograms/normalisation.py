"""How grey values are normalised for a network: one way, named, stored with its weights, in training and segmenting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.errors import InputError, SettingsError
from deepfinder_dask.tomograms.statistics import Inside, robust_of, statistics_of
from deepfinder_dask.tomograms.tomogram import Statistics, Tomogram
from deepfinder_dask.tomograms.value_counts import CLIPPED

NORMALISATIONS = ("mean-std", "robust")
"""Names of the ways there are."""
LIMIT = 10.0
"""Deviations from the mean beyond which a robust normalisation clips: gold beads are dark, but no darker than that."""


@dataclass(frozen=True)
class Scaling:
    """What a grey value becomes: ``(value - mean) / std``, clipped to ``-limit`` and ``limit``."""

    mean: float
    """Grey value that becomes 0."""
    std: float
    """Difference of grey values that becomes 1; above 0."""
    limit: float = inf
    """Largest normalised value, and the smallest but for its sign."""

    def apply(
        self, values: NDArray[Any], *, invert: bool = False, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Normalised grey values.

        Parameters
        ----------
        values : ndarray
            Grey values, any shape, any real dtype.
        invert : bool
            Turn the contrast over.
        out : ndarray, optional
            float32 of the same shape, written and returned.
        """
        normal = np.empty(values.shape, np.float32) if out is None else out
        np.subtract(values, np.float32(self.mean), out=normal, dtype=np.float32, casting="unsafe")
        normal /= np.float32(-self.std if invert else self.std)
        if isfinite(self.limit):
            np.clip(normal, -self.limit, self.limit, out=normal)
        return normal


@dataclass(frozen=True)
class Normalisation:
    """A way to normalise grey values.

    ``mean-std`` takes mean and standard deviation of all voxels, as the original program does to find particles.
    ``robust`` takes those of the voxels that are no padding (one value far more frequent than those next to it), after
    clipping to the percentiles 1 and 99, and clips what is normalised to ``limit``.
    """

    name: str = "mean-std"
    """One of ``NORMALISATIONS``."""
    limit: float = LIMIT
    """Of a robust one: deviations from the mean beyond which values are clipped."""

    def __post_init__(self) -> None:
        if self.name not in NORMALISATIONS:
            raise SettingsError(f"expected normalisation {' or '.join(NORMALISATIONS)}, got {self.name!r}")
        if not self.limit > 0:
            raise SettingsError(f"expected a limit above 0 standard deviations, got {self.limit}")

    @property
    def robust(self) -> bool:
        """Whether it needs robust statistics."""
        return self.name == "robust"

    def __str__(self) -> str:
        return self.name

    def to_dict(self) -> dict[str, Any]:
        """Name and parameters, for JSON."""
        if not self.robust:
            return {"name": self.name}
        return {"name": self.name, "percentiles": list(CLIPPED), "limit": self.limit}

    @classmethod
    def from_value(cls, value: str | Mapping[str, Any]) -> Normalisation:
        """The inverse of :meth:`to_dict`; a name alone will do, also ``meanstd``, as older weights have it.

        Raises
        ------
        SettingsError
            If it is unknown, or has parameters that this version does not compute.
        """
        facts = {"name": value} if isinstance(value, str) else dict(value)
        name = "mean-std" if facts.get("name") == "meanstd" else str(facts.get("name"))
        found = cls(name, float(facts.get("limit", LIMIT)))
        if found.robust and list(facts.get("percentiles", CLIPPED)) != list(CLIPPED):
            raise SettingsError(
                f"expected a robust normalisation with percentiles {list(CLIPPED)}, got {facts['percentiles']}: "
                "another version of deepfinder_dask made it"
            )
        return found

    def measure(self, tomogram: Tomogram, inside: Inside | None = None) -> Statistics:
        """Statistics of a tomogram with all that this needs; reads all voxels where its store does not hold them.

        Parameters
        ----------
        tomogram : Tomogram
        inside : callable, optional
            Which voxels of a box count for the robust mean and deviation, (z, y, x) bool, such as those of a mask.

        Raises
        ------
        InputError
            If all grey values are equal.
        """
        statistics = tomogram.statistics
        if statistics is None or (self.robust and statistics.robust is None):
            statistics = statistics_of(tomogram.volume)
        if not statistics.std > 0:
            raise InputError(
                f"{tomogram.path} is constant ({statistics.mean}): there is nothing to find, and nothing to learn"
            )
        if self.robust and inside is not None:
            statistics = replace(statistics, robust=robust_of(tomogram.volume, inside) or statistics.robust)
        return statistics

    def scaling(self, statistics: Statistics) -> Scaling:
        """What the grey values of a tomogram become.

        Raises
        ------
        SettingsError
            If it is robust, and these statistics are not (:meth:`measure` gives such).
        """
        if not self.robust:
            return Scaling(statistics.mean, statistics.std)
        if statistics.robust is None:
            raise SettingsError("expected statistics with a robust mean and deviation, got older ones: measure again")
        return Scaling(statistics.robust.mean, statistics.robust.std, self.limit)
