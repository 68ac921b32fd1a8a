"""What a consensus says: the particles of several sets brought together, and who found which."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.particles.files import atomic_write, refuse_existing
from deepfinder_dask.particles.table import Particles

SUMMARY = "summary.json"


@dataclass(frozen=True)
class Shares:
    """How many particles which sets have."""

    sets: Mapping[str, int]
    """Particles of each set."""
    combinations: Mapping[tuple[str, ...], int]
    """Particles that exactly these sets have; the combinations that occur, those of fewest sets first."""

    @property
    def union(self) -> int:
        """Particles that any set has."""
        return sum(self.combinations.values())

    @property
    def intersection(self) -> int:
        """Particles that all sets have."""
        return self.combinations.get(tuple(self.sets), 0)

    @property
    def agreement(self) -> float:
        """Intersection over union; NaN for no particles."""
        return self.intersection / self.union if self.union else nan

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "sets": dict(self.sets),
            "union": self.union,
            "intersection": self.intersection,
            "agreement": None if isnan(self.agreement) else self.agreement,
            "combinations": [{"sets": list(names), "count": n} for names, n in self.combinations.items()],
        }


@dataclass(frozen=True)
class Consensus:
    """Particles of several sets, brought together one to one."""

    sets: Mapping[str, Particles]
    """The sets as they were read, by name, in the order given."""
    members: NDArray[np.int64]
    """Rows of ``union`` in each set, (n, sets) int64; -1 where a set does not have the particle."""
    union: Particles
    """Every particle once: ``score`` is the mean of the known scores; ``sets`` (how many have it), ``confidence``
    (which part of all sets), ``found_by`` (their names), ``spread`` (the largest distance between two of its positions,
    Å) and ``row_NAME`` (its row in each set, from 0) are added. Size and orientation are those of the best score."""
    tolerance: str
    """Tolerance as it was asked for."""
    class_blind: bool
    """Whether particles were joined whatever their classes."""
    notes: tuple[str, ...]
    """What a reader of the numbers should know, one sentence each."""

    @property
    def intersection(self) -> Particles:
        """Rows of the union that all sets have."""
        return self.union.where((self.members >= 0).all(axis=1))

    def only(self, name: str) -> Particles:
        """Rows of one set that no other set has, as they were read."""
        column = list(self.sets).index(name)
        alone = (self.members[:, column] >= 0) & ((self.members >= 0).sum(axis=1) == 1)
        keep = np.zeros(len(self.sets[name]), dtype=bool)
        keep[self.members[alone, column]] = True
        return self.sets[name].where(keep)

    def shares(self, *, class_name: str | None = None, tomogram: str | None = None) -> Shares:
        """Who has how many particles: of all, or of one class (that of the union) or tomogram."""
        rows = np.ones(len(self.union), dtype=bool)
        for column, value in (("class", class_name), ("tomogram", tomogram)):
            if value is not None:
                rows &= (self.union.table[column] == value).to_numpy()
        there = self.members[rows] >= 0
        names = tuple(self.sets)
        found, times = np.unique(there, axis=0, return_counts=True)
        chosen = [(tuple(np.flatnonzero(row).tolist()), int(n)) for row, n in zip(found, times, strict=True)]
        counts = {
            tuple(names[n] for n in numbers): n_rows
            for numbers, n_rows in sorted(chosen, key=lambda one: (len(one[0]), one[0]))
        }
        return Shares({name: int(there[:, n].sum()) for n, name in enumerate(names)}, counts)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: ``overall``, ``classes``, ``tomograms`` and each two sets."""
        names, there = list(self.sets), self.members >= 0
        pairs = []
        for a, b in combinations(range(len(names)), 2):
            both, total = int((there[:, a] & there[:, b]).sum()), int(there[:, a].sum() + there[:, b].sum())
            pairs.append({"sets": [names[a], names[b]], "both": both, "f1": 2 * both / total if total else None})
        counts = self.union.counts()
        return {
            "sets": names,
            "tolerance": self.tolerance,
            "class_blind": self.class_blind,
            "overall": self.shares().to_dict(),
            "classes": {name: self.shares(class_name=name).to_dict() for name, n in counts.items() if n},
            "tomograms": {name: self.shares(tomogram=name).to_dict() for name in self.union.tomograms},
            "pairs": pairs,
            "notes": list(self.notes),
        }

    def write(self, folder: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write ``union.parquet``, ``intersection.parquet``, ``only_NAME.parquet`` of each set and ``summary.json``.

        Raises
        ------
        OutputExistsError
            One is there and ``overwrite`` is False.
        StorageError
            One cannot be written.
        """
        folder = Path(folder)
        tables = {"union": self.union, "intersection": self.intersection}
        tables |= {f"only_{name}": self.only(name) for name in self.sets}
        paths = {folder / f"{name}.parquet": table for name, table in tables.items()}
        summary = folder / SUMMARY
        refuse_existing([*paths, summary], overwrite)
        if summary.is_file():  # what an earlier run says of sets that are not among these
            with suppress(OSError, ValueError, KeyError, TypeError):
                for name in json.loads(summary.read_text(encoding="utf-8"))["sets"]:
                    if (old := folder / f"only_{name}.parquet") not in paths:
                        old.unlink(missing_ok=True)
        for path, table in paths.items():
            table.write(path)
        with atomic_write(summary) as temporary:
            text = json.dumps(self.to_dict(), ensure_ascii=False, indent=2, allow_nan=False)
            temporary.write_text(f"{text}\n", encoding="utf-8")
        return [*paths, summary]
