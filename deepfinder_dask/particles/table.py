"""The table of particles: one row per particle, of any number of tomograms, with what is needed to export them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from deepfinder_dask.errors import InputError, VoxelSizeError
from deepfinder_dask.particles.checks import checked_table
from deepfinder_dask.particles.classes import ParticleClass, check_classes
from deepfinder_dask.particles.facts import TomogramFacts

POSITION = ["x", "y", "z"]
"""Columns of the particle's centre, Å; the centre of voxel ``i`` is at ``i * voxel_size``."""
ORIENTATION = ["rot", "tilt", "psi"]
"""Columns of the orientation, degrees: RELION's intrinsic ZYZ (see :mod:`deepfinder_dask.particles.angles`)."""
COLUMNS = ["tomogram", "class", "label", *POSITION, "score", "size_voxels"]
"""Columns that every table has, in this order; the orientation and any others follow."""


@dataclass(frozen=True, eq=False)
class Particles:
    """Particles of any number of tomograms.

    Positions are centres in Å in the columns ``x``, ``y``, ``z``; arrays of positions are (z, y, x) as everywhere else.

    Raises
    ------
    InputError
        A column is missing, a position is not finite, a class is unknown, …: one line that names the row.
    """

    table: pd.DataFrame
    """``tomogram`` (text), ``class`` (text), ``label`` (int64), ``x``, ``y``, ``z`` (Å, float64), ``score`` (float64,
    NaN where unknown), ``size_voxels`` (Int64, missing where unknown); if known ``rot``, ``tilt``, ``psi`` (degrees,
    float64, NaN where unknown); then what else is known: measures in their types (see
    :mod:`~deepfinder_dask.particles.columns`), others as they are. ``score`` and ``size_voxels`` may be left out."""
    tomograms: Mapping[str, TomogramFacts] = field(default_factory=dict)
    """Voxel size and shape by tomogram name, also of tomograms without particles; names in the table are added."""
    classes: tuple[ParticleClass, ...] = ()
    """Classes in order of label; left empty, they are taken from the table."""

    def __post_init__(self) -> None:
        table, tomograms, classes = checked_table(self.table, self.tomograms, self.classes)
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "tomograms", tomograms)
        object.__setattr__(self, "classes", classes)

    # --- making -------------------------------------------------------------------------------------------------

    @classmethod
    def empty(
        cls, tomograms: Mapping[str, TomogramFacts] | None = None, classes: Iterable[ParticleClass] = ()
    ) -> Particles:
        """Table without particles, of these tomograms and classes."""
        return cls(pd.DataFrame({name: [] for name in COLUMNS}), tomograms or {}, tuple(classes))

    @classmethod
    def from_voxels(
        cls,
        positions: ArrayLike,
        *,
        tomogram: str,
        facts: TomogramFacts,
        labels: ArrayLike,
        classes: Iterable[ParticleClass],
        scores: ArrayLike | None = None,
        sizes: ArrayLike | None = None,
        orientations: ArrayLike | None = None,
        extra: Mapping[str, ArrayLike] | None = None,
    ) -> Particles:
        """Particles of one tomogram from voxel positions.

        Parameters
        ----------
        positions : (n, 3) float
            Centres (z, y, x) in voxels, 0-based; the centre of voxel ``i`` is ``i``.
        tomogram
            Its name.
        facts
            Its voxel size (needed) and shape.
        labels : (n,) int
            Class of each particle.
        classes
            What the labels mean.
        scores : (n,) float, optional
            Mean pseudo-probability of the particle's own class, 0 to 1.
        sizes : (n,) int, optional
            Size in voxels.
        orientations : (n, 3) float, optional
            ``rot, tilt, psi`` in degrees.
        extra
            More columns by name, (n,) each.

        Raises
        ------
        VoxelSizeError
            The facts hold no voxel size.
        InputError
            Shapes disagree, or a label has no class.
        """
        voxels = np.asarray(positions, dtype=np.float64).reshape(-1, 3)
        if facts.voxel_size is None:
            raise VoxelSizeError(f"tomogram {tomogram!r}: its voxel size is unknown, so voxels cannot become Å")
        zyx = voxels * np.asarray(facts.voxel_size)
        label_column = np.asarray(labels, dtype=np.int64)
        names = {one.label: one.name for one in classes}
        unknown = sorted(set(label_column.tolist()) - set(names))
        if unknown:
            raise InputError(f"label {unknown[0]} belongs to none of the classes {names}")
        columns: dict[str, Any] = {
            "tomogram": [tomogram] * len(zyx),
            "class": [names[int(n)] for n in label_column],
            "label": label_column,
            "x": zyx[:, 2],
            "y": zyx[:, 1],
            "z": zyx[:, 0],
        }
        if scores is not None:
            columns["score"] = np.asarray(scores, dtype=np.float64)
        if sizes is not None:
            columns["size_voxels"] = np.asarray(sizes)
        if orientations is not None:
            columns.update(zip(ORIENTATION, np.asarray(orientations, dtype=np.float64).reshape(-1, 3).T, strict=True))
        columns.update({name: np.asarray(values) for name, values in (extra or {}).items()})
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise InputError(f"tomogram {tomogram!r}: {len(zyx)} positions, but columns of lengths {lengths}")
        return cls(pd.DataFrame(columns), {tomogram: facts}, tuple(classes))

    @classmethod
    def concat(cls, parts: Sequence[Particles]) -> Particles:
        """One table of several, rows in the order given.

        Raises
        ------
        InputError
            Two parts give one tomogram different facts, or disagree on what a label means.
        """
        tomograms: dict[str, TomogramFacts] = {}
        classes: dict[str, ParticleClass] = {}
        for part in parts:
            for name, facts in part.tomograms.items():
                both = tomograms.get(name, facts).merged(facts)
                if both != facts.merged(both):
                    raise InputError(f"tomogram {name!r} has two shapes or voxel sizes: {both} and {facts}")
                tomograms[name] = both
            for one in part.classes:
                classes.setdefault(one.name, one)
        merged = check_classes(classes.values())
        tables = [part.table for part in parts if len(part)] or [part.table for part in parts[:1]]
        if not tables:
            return cls.empty(tomograms, merged)
        return cls(pd.concat(tables, ignore_index=True), tomograms, merged)

    # --- looking ------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        per_class = {name: n for name, n in self.counts().items() if n}
        return f"Particles({len(self)} in {len(self.tomograms)} tomograms: {per_class})"

    def _repr_html_(self) -> str:
        from deepfinder_dask.particles.cards import card, classes_line

        names = ", ".join(list(self.tomograms)[:5]) + (" …" if len(self.tomograms) > 5 else "")
        facts = [
            ("particles", len(self)),
            ("classes", classes_line(self.classes, self.counts())),
            ("tomograms", f"{len(self.tomograms)}: {names}"),
            ("orientations", "known" if self.oriented else "unknown"),
        ]
        first = self.table.head(5).to_html(index=False, border=0, float_format="{:.2f}".format)
        return card("Particles", facts, more=first if len(self) else "")

    @property
    def oriented(self) -> bool:
        """Whether any particle has an orientation."""
        return "rot" in self.table.columns and bool(self.table["rot"].notna().any())

    def counts(self) -> dict[str, int]:
        """Number of particles of each class, by name in order of label; 0 where there are none."""
        found = self.table["class"].value_counts()
        return {one.name: int(found.get(one.name, 0)) for one in self.classes}

    def class_named(self, name: str) -> ParticleClass:
        """Class of this name.

        Raises
        ------
        InputError
            There is none.
        """
        for one in self.classes:
            if one.name == name:
                return one
        raise InputError(f"no class {name!r}; the classes are {[one.name for one in self.classes]}")

    def of_tomogram(self, name: str) -> Particles:
        """Particles of one tomogram.

        Raises
        ------
        InputError
            The tomogram is not among ``tomograms``.
        """
        if name not in self.tomograms:
            raise InputError(f"no tomogram {name!r}; the tomograms are {list(self.tomograms)}")
        rows = np.flatnonzero(self.table["tomogram"] == name)
        return self._part(rows, {name: self.tomograms[name]})

    def of_class(self, name: str) -> Particles:
        """Particles of one class (an InputError when there is no such class)."""
        self.class_named(name)
        return self.where(self.table["class"] == name)

    def where(self, keep: ArrayLike) -> Particles:
        """Rows for which ``keep``, (n,) bool, is True; tomograms and classes stay."""
        return self._part(np.flatnonzero(np.asarray(keep, dtype=bool)), self.tomograms)

    def groups(self) -> dict[tuple[str, str], Particles]:
        """Particles of each tomogram and class that has any, by (tomogram, class); rows keep their order."""
        numbers = self.table.groupby(["tomogram", "class"], sort=False).ngroup().to_numpy()
        parts = [
            self._part(np.flatnonzero(numbers == n), self.tomograms) for n in range(int(numbers.max(initial=-1)) + 1)
        ]
        return {(str(one.table["tomogram"].iloc[0]), str(one.table["class"].iloc[0])): one for one in parts}

    def _part(self, rows: NDArray[np.intp], tomograms: Mapping[str, TomogramFacts]) -> Particles:
        """Some rows of a table that was checked already, so not checked again."""
        part = object.__new__(Particles)
        object.__setattr__(part, "table", self.table.iloc[rows].reset_index(drop=True))
        object.__setattr__(part, "tomograms", dict(tomograms))
        object.__setattr__(part, "classes", self.classes)
        return part

    def with_table(self, table: pd.DataFrame) -> Particles:
        """Another table for the same tomograms and classes."""
        return Particles(table, self.tomograms, self.classes)

    def with_columns(self, columns: Mapping[str, ArrayLike]) -> Particles:
        """The same particles with more columns, or others in place of such.

        Parameters
        ----------
        columns
            Values by name, (n,) each, such as measures (:mod:`~deepfinder_dask.particles.columns`).

        Raises
        ------
        InputError
            A column has another length than the table, or is one that every table has.
        """
        table = self.table.copy()
        for name, values in columns.items():
            if name in (*COLUMNS, *ORIENTATION):
                raise InputError(f"{name!r} is a column of every table; columns are added under other names")
            if np.shape(values) != (len(table),):
                raise InputError(f"column {name!r}: expected {len(table)} values, got an array {np.shape(values)}")
            column: Any = values.array if isinstance(values, pd.Series) else values
            table[name] = column
        return self.with_table(table)

    def positions(self) -> NDArray[np.float64]:
        """Centres, (n, 3) float64, (z, y, x) in Å."""
        return self.table[["z", "y", "x"]].to_numpy(dtype=np.float64)

    def orientations(self) -> NDArray[np.float64]:
        """Euler angles, (n, 3) float64, ``rot, tilt, psi`` in degrees; NaN where unknown."""
        if "rot" not in self.table.columns:
            return np.full((len(self), 3), np.nan)
        return self.table[ORIENTATION].to_numpy(dtype=np.float64)

    def voxel_size(self, tomogram: str) -> tuple[float, float, float]:
        """Å per voxel (z, y, x) of a tomogram.

        Raises
        ------
        VoxelSizeError
            It is unknown.
        InputError
            The tomogram is not among ``tomograms``.
        """
        if tomogram not in self.tomograms:
            raise InputError(f"no tomogram {tomogram!r}; the tomograms are {list(self.tomograms)}")
        size = self.tomograms[tomogram].voxel_size
        if size is None:
            raise VoxelSizeError(f"tomogram {tomogram!r}: its voxel size is unknown; give it with --voxel-size")
        return size

    def voxel_positions(self, tomogram: str) -> NDArray[np.float64]:
        """Centres of the particles of one tomogram in voxels, (n, 3) float64, (z, y, x), 0-based."""
        size = np.asarray(self.voxel_size(tomogram))
        rows = self.table["tomogram"] == tomogram
        return cast("NDArray[np.float64]", self.positions()[rows.to_numpy()] / size)

    # --- keeping ------------------------------------------------------------------------------------------------

    @classmethod
    def read(cls, path: str | Path) -> Particles:
        """Read a Parquet file of particles.

        Raises
        ------
        InputError
            There is no such file.
        FormatError
            It is not Parquet, or not a table of particles.
        """
        from deepfinder_dask.particles.parquet import read_parquet

        return read_parquet(path)

    def write(self, path: str | Path) -> None:
        """Write as Parquet, whole or not at all; a file that is there is replaced.

        Raises
        ------
        StorageError
            The file cannot be written.
        """
        from deepfinder_dask.particles.parquet import write_parquet

        write_parquet(self, path)
