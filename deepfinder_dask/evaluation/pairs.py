"""Matched pairs as a table, and its file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from deepfinder_dask.errors import SettingsError
from deepfinder_dask.evaluation.outcome import Outcome, rotation_distance
from deepfinder_dask.particles.files import atomic_write, refuse_existing

COLUMNS = (
    "tomogram",
    "rule",
    "truth_row",
    "found_row",
    "truth_class",
    "found_class",
    "distance",
    "angle",
    "score",
)
"""``rule`` is ``class`` for pairs of the same class and ``localisation`` for pairs whatever the classes; rows are those
of the two tables, counted from 0; ``distance`` is in Å, ``angle`` in degrees (NaN where an orientation is unknown),
``score`` that of the found particle."""


def pairs_table(outcomes: Sequence[Outcome], names: Sequence[str]) -> pd.DataFrame:
    """Matched pairs of all tomograms, with the columns of :data:`COLUMNS`.

    Parameters
    ----------
    outcomes
        Tomograms compared.
    names
        Classes by number.
    """
    parts = []
    classes = np.array([*names, ""], dtype=object)
    for one in outcomes:
        for rule, pairs in (("class", one.matches), ("localisation", one.blind)):
            order = np.argsort(one.truth.rows[pairs.truth], kind="stable")
            truth, found = one.truth[pairs.truth[order]], one.found[pairs.found[order]]
            columns = {
                "tomogram": np.full(len(pairs), one.name, dtype=object),
                "rule": np.full(len(pairs), rule, dtype=object),
                "truth_row": truth.rows,
                "found_row": found.rows,
                "truth_class": classes[truth.classes],
                "found_class": classes[found.classes],
                "distance": pairs.distance[order],
                "angle": rotation_distance(truth.angles, found.angles),
                "score": found.scores,
            }
            parts.append(pd.DataFrame(columns))
    filled = [part for part in parts if len(part)] or parts[:1]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame({name: [] for name in COLUMNS})


def check_pairs_path(path: str | Path, *, overwrite: bool = False) -> Path:
    """Path of a file of pairs, which must end in ``.csv`` or ``.parquet``.

    Raises
    ------
    SettingsError
        It ends otherwise.
    OutputExistsError
        It is there and ``overwrite`` is False.
    """
    file = Path(path)
    if file.suffix.lower() not in (".csv", ".parquet"):
        raise SettingsError(f"{file}: pairs are written as .csv or .parquet")
    refuse_existing([file], overwrite)
    return file


def write_pairs(pairs: pd.DataFrame, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write matched pairs as CSV or Parquet, by the suffix, whole or not at all; errors as :func:`check_pairs_path`.

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    file = check_pairs_path(path, overwrite=overwrite)
    with atomic_write(file) as temporary:
        if file.suffix.lower() == ".csv":
            pairs.to_csv(temporary, index=False, lineterminator="\n")
        else:
            pairs.to_parquet(temporary, index=False, compression="zstd")
    return file
