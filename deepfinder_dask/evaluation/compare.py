"""Compare found particles with true ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.errors import SettingsError, VoxelSizeError
from deepfinder_dask.evaluation.matching import match
from deepfinder_dask.evaluation.pairing import ClassPair, Source, pair_classes, pair_tomograms, read_both
from deepfinder_dask.evaluation.result import UNMATCHED, Evaluation, Score
from deepfinder_dask.evaluation.settings import EvaluateSettings, Tolerance
from deepfinder_dask.execution import options_to_settings
from deepfinder_dask.particles.classes import read_classes
from deepfinder_dask.particles.table import Particles


def evaluate(truth: Source, found: Source, settings: EvaluateSettings | None = None, **options: Any) -> Evaluation:
    """Compare found particles with true ones, one to one: ``deepfinder evaluate``.

    Parameters
    ----------
    truth
        True particles: a table, or a file in any readable format.
    found
        Found particles: a table, or a file in any readable format.
    settings, **options
        :class:`EvaluateSettings`, and single fields of it: ``tolerance``, ``classes``, …

    Returns
    -------
    Evaluation
        Precision, recall and F1 by class, over all classes, and class-blind. Each tomogram is compared by itself.
        Structures are never counted.

    Raises
    ------
    InputError
        A file is missing or damaged, or the sides have no tomogram in common.
    SettingsError
        The tolerance needs the radius of a class, which is unknown.
    VoxelSizeError
        Voxels are counted, and their size is unknown.
    """
    chosen = options_to_settings(EvaluateSettings, settings, options)
    tolerance = Tolerance.parse(chosen.tolerance)
    known = read_classes(chosen.classes) if chosen.classes is not None else ()
    true, seen = read_both(truth, found, chosen, known)
    every = pair_classes(true, seen, known)
    pairs = [pair for pair in every if pair.kind == "particle"]
    tomograms, notes = pair_tomograms(true, seen)
    left = _by_tomogram(true, {pair.truth: i for i, pair in enumerate(pairs) if pair.truth is not None})
    right = _by_tomogram(seen, {pair.found: i for i, pair in enumerate(pairs) if pair.found is not None})
    _check_radii(tolerance, pairs, [left[name][1] for name, _ in tomograms])

    counts = np.zeros((len(pairs), 3), dtype=np.int64)
    blind = Score(0, 0, 0)
    confusion = np.zeros((len(pairs) + 1, len(pairs) + 1), dtype=np.int64)
    by_tomogram = {}
    for name, other in tomograms:
        (a, of_a), (b, of_b) = left[name], right[other] if other is not None else (np.empty((0, 3)), np.empty(0, int))
        scale = _scale(tolerance, true, name, seen, other)
        a, b = a / scale, b / scale
        reach = _reach(tolerance, pairs)
        here = np.zeros_like(counts)
        for index in range(len(pairs)):
            mine, yours = of_a == index, of_b == index
            hits = match(a[mine], b[yours], reach[index], box=tolerance.unit == "box")
            here[index] = mine.sum(), yours.sum(), len(hits)
        counts += here
        by_tomogram[name] = _score(here.sum(axis=0))
        hits = match(a, b, reach[of_a], box=tolerance.unit == "box")
        blind += Score(len(a), len(b), len(hits))
        partners_a, partners_b = np.full(len(a), len(pairs)), np.full(len(b), len(pairs))
        partners_a[hits.truth], partners_b[hits.found] = of_b[hits.found], of_a[hits.truth]
        np.add.at(confusion, (of_a, partners_a), 1)
        alone = partners_b == len(pairs)
        np.add.at(confusion, (partners_b[alone], of_b[alone]), 1)

    listed = [i for i, pair in enumerate(pairs) if pair.truth is not None or counts[i].any()]
    shown = [*listed, len(pairs)]
    return Evaluation(
        localisation=blind,
        overall=_score(counts.sum(axis=0)),
        classes={pairs[i].name: _score(counts[i]) for i in listed},
        tomograms=by_tomogram,
        confusion_names=(*(pairs[i].name for i in listed), UNMATCHED),
        confusion=tuple(tuple(int(n) for n in row) for row in confusion[np.ix_(shown, shown)]),
        tolerance=chosen.tolerance,
        notes=tuple(notes + _left_out(true, seen, [pair for pair in every if pair.kind == "structure"])),
    )


def _score(counts: NDArray[np.int64]) -> Score:
    true, found, matched = (int(n) for n in counts)
    return Score(true, found, matched)


def _by_tomogram(
    particles: Particles, numbers: Mapping[str, int]
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """Positions (n, 3), (z, y, x) in Å, and class numbers (n,) of each tomogram, without classes that do not count."""
    positions = particles.positions()
    classes = np.array([numbers.get(str(name), -1) for name in particles.table["class"].tolist()], dtype=np.int64)
    groups = {str(name): np.asarray(rows) for name, rows in particles.table.groupby("tomogram").indices.items()}
    result = {}
    for name in particles.tomograms:
        rows = groups.get(name, np.empty(0, dtype=np.int64))
        rows = rows[classes[rows] >= 0]
        result[name] = positions[rows], classes[rows]
    return result


def _check_radii(tolerance: Tolerance, pairs: Sequence[ClassPair], of_truth: Sequence[NDArray[np.int64]]) -> None:
    """Refuse a tolerance in radii where a class with true particles has none."""
    if not tolerance.by_radius or not of_truth:
        return
    without = sorted({pairs[i].name for i in np.unique(np.concatenate(of_truth)) if pairs[i].radius is None})
    if without:
        raise SettingsError(
            f"the tolerance needs the radius of each class, and {without} have none; "
            "give --classes with radii, or a tolerance like 40A or 3vox"
        )


def _reach(tolerance: Tolerance, pairs: Sequence[ClassPair]) -> NDArray[np.float64]:
    """How far a match may be, by class number; in Å, or voxels where the tolerance is in voxels."""
    if not tolerance.by_radius:
        return np.full(len(pairs), tolerance.amount)
    return np.array([tolerance.amount * (pair.radius or 0.0) for pair in pairs], dtype=np.float64)


def _scale(
    tolerance: Tolerance, truth: Particles, name: str, found: Particles, other: str | None
) -> NDArray[np.float64]:
    """Å per unit of the tolerance along z, y, x."""
    if tolerance.unit != "vox":
        return np.ones(3)
    size = truth.tomograms[name].voxel_size
    if size is None and other is not None:
        size = found.tomograms[other].voxel_size
    if size is None:
        raise VoxelSizeError(f"tomogram {name!r}: its voxel size is unknown; give --voxel-size, or a tolerance in Å")
    return np.asarray(size)


def _left_out(truth: Particles, found: Particles, structures: Sequence[ClassPair]) -> list[str]:
    """Note on structures that have rows in a table."""
    rows = truth.counts(), found.counts()
    names = [p.name for p in structures if rows[0].get(p.truth or "", 0) or rows[1].get(p.found or "", 0)]
    return [f"Structures are not counted: {names}."] if names else []
