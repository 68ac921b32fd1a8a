"""What makes a data frame a table of particles: columns, types, and values that make sense."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from deepfinder_dask.errors import InputError
from deepfinder_dask.particles.classes import ParticleClass, check_classes
from deepfinder_dask.particles.columns import measure_in
from deepfinder_dask.particles.facts import TomogramFacts

_NEEDED = ("tomogram", "class", "label", "x", "y", "z")
_ANGLES = ("rot", "tilt", "psi")


def checked_table(
    table: pd.DataFrame, tomograms: Mapping[str, TomogramFacts], classes: Sequence[ParticleClass]
) -> tuple[pd.DataFrame, dict[str, TomogramFacts], tuple[ParticleClass, ...]]:
    """Table with its columns in order and of the right types; every tomogram and class of the table listed.

    Raises
    ------
    InputError
        A column is missing or has values that make no sense; the message names the first such row, counted from 0.
    """
    twice = list(dict.fromkeys(table.columns[table.columns.duplicated()].tolist()))
    if twice:
        raise InputError(f"column {twice[0]!r} stands there twice; each needs a name of its own")
    missing = [name for name in _NEEDED if name not in table.columns]
    if missing:
        raise InputError(f"a table of particles needs the columns {list(_NEEDED)}; {missing} missing")
    angles = [name for name in _ANGLES if name in table.columns]
    if angles and len(angles) < 3:
        raise InputError(f"an orientation needs the columns {list(_ANGLES)} together, found {angles} only")
    table = table.reset_index(drop=True)
    columns: dict[str, pd.Series] = {
        "tomogram": _text(table, "tomogram"),
        "class": _text(table, "class"),
        "label": whole_numbers(table, "label").astype("int64"),
    }
    for name in ("x", "y", "z"):
        columns[name] = _finite(table, name)
    columns["score"] = _numbers(table, "score") if "score" in table.columns else _constant(table, np.nan)
    if "size_voxels" in table.columns:
        columns["size_voxels"] = whole_numbers(table, "size_voxels", allow_missing=True)
    else:
        columns["size_voxels"] = pd.Series(pd.array([pd.NA] * len(table), dtype="Int64"))
    for name in angles:
        columns[name] = _numbers(table, name)
    if angles:
        _check_angles(columns)
    columns.update({str(name): _typed(table, name) for name in table.columns if name not in columns})
    result = pd.DataFrame(columns)
    listed = check_classes(classes) if classes else _classes_of(result)
    _check_known(result, listed)
    known = {str(name): facts for name, facts in tomograms.items()}
    for name in result["tomogram"].unique():
        known.setdefault(str(name), TomogramFacts())
    return result, known, listed


def _constant(table: pd.DataFrame, value: float) -> pd.Series:
    return pd.Series(np.full(len(table), value, dtype=np.float64))


def _text(table: pd.DataFrame, name: str) -> pd.Series:
    """Column as text: whole numbers become text, anything else is refused (a float has lost its leading zeros)."""
    values = table[name].tolist()
    for row, value in enumerate(values):
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not (whole or (isinstance(value, str) and value.strip() and value.isprintable())):
            raise InputError(f"column {name!r}: expected a printable name, row {row} holds {value!r}")
    return pd.Series([str(value) for value in values], dtype=str)


def _numbers(table: pd.DataFrame, name: str) -> pd.Series:
    """Column as float64, NaN where missing."""
    try:
        column = table[name]
        if isinstance(column.dtype, np.dtype) and column.dtype.kind in "fiu":
            values = column.to_numpy(dtype=np.float64)
        else:
            values = pd.to_numeric(column).astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise InputError(f"column {name!r}: expected numbers: {error}") from error
    infinite = np.flatnonzero(np.isinf(values))
    if infinite.size:
        raise InputError(f"column {name!r}: row {infinite[0]} is infinite ({infinite.size} such rows)")
    return pd.Series(values)


def _finite(table: pd.DataFrame, name: str) -> pd.Series:
    values = _numbers(table, name)
    empty = np.flatnonzero(values.isna().to_numpy())
    if empty.size:
        raise InputError(f"column {name!r}: row {empty[0]} has no position (NaN; {empty.size} such rows)")
    return values


def whole_numbers(table: pd.DataFrame, name: str, allow_missing: bool = False) -> pd.Series:
    """Column as nullable integers; an InputError where it holds anything else."""
    values = _numbers(table, name)
    numbers = values.to_numpy()
    wrong = np.flatnonzero(numbers != np.round(numbers) if not allow_missing else numbers % 1 > 0)
    if wrong.size:
        raise InputError(f"column {name!r}: expected whole numbers, row {wrong[0]} holds {numbers[wrong[0]]}")
    return values.round().astype("Int64")


def _typed(table: pd.DataFrame, name: str) -> pd.Series:
    """Column of a measure in its type; any other as it is."""
    measure = measure_in(str(name))
    if measure is None:
        return table[name]
    if measure.dtype == "float64":
        return _numbers(table, name)
    return whole_numbers(table, name, allow_missing=True) if measure.dtype == "Int64" else _truths(table, name)


def _truths(table: pd.DataFrame, name: str) -> pd.Series:
    """Column of True, False and missing values, also as text."""
    known = {"true": True, "1": True, "false": False, "0": False}
    values: list[bool | None] = []
    for row, value in enumerate(table[name].tolist()):
        missing = bool(pd.isna(value)) or value == ""
        if not missing and str(value).lower() not in known:
            raise InputError(f"column {name!r}: expected True or False, row {row} holds {value!r}")
        values.append(None if missing else known[str(value).lower()])
    return pd.Series(pd.array(values, dtype="boolean"))


def _check_angles(columns: Mapping[str, pd.Series]) -> None:
    known = np.stack([columns[name].notna().to_numpy() for name in _ANGLES])
    partly = np.flatnonzero(known.any(0) & ~known.all(0))
    if partly.size:
        raise InputError(f"row {partly[0]} has some of {list(_ANGLES)} only; give all three or none")


def _pairs(table: pd.DataFrame) -> list[tuple[str, int]]:
    """Different (class, label) pairs in the table."""
    pairs = table[["class", "label"]].drop_duplicates()
    return [(str(name), int(label)) for name, label in zip(pairs["class"], pairs["label"], strict=True)]


def _classes_of(table: pd.DataFrame) -> tuple[ParticleClass, ...]:
    """Classes as the table itself names them."""
    return check_classes(ParticleClass(name, label) for name, label in _pairs(table))


def _check_known(table: pd.DataFrame, classes: Sequence[ParticleClass]) -> None:
    """Refuse rows whose class is not listed, or listed with another label."""
    labels = {one.name: one.label for one in classes}
    for name, label in _pairs(table):
        if name not in labels:
            raise InputError(f"class {name!r} (label {label}) is none of the known classes {labels}")
        if labels[name] != label:
            raise InputError(f"class {name!r} has label {labels[name]}, but the table says {label}")
