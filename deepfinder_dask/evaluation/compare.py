"""Compare found particles with true ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.errors import SettingsError, VoxelSizeError
from deepfinder_dask.evaluation.czii import czii_score
from deepfinder_dask.evaluation.inside import keep_inside, numbers_in, region_of
from deepfinder_dask.evaluation.matching import Edges, within_reach
from deepfinder_dask.evaluation.occupancy import hits_by_voxel
from deepfinder_dask.evaluation.outcome import Outcome, Side, compare_sides
from deepfinder_dask.evaluation.pairing import ClassPair, pair_classes, pair_tomograms
from deepfinder_dask.evaluation.reading import Source, read_sides
from deepfinder_dask.evaluation.result import Evaluation
from deepfinder_dask.evaluation.settings import EvaluateSettings, Tolerance
from deepfinder_dask.evaluation.summary import region_scores, summarised
from deepfinder_dask.execution import options_to_settings
from deepfinder_dask.particles.classes import read_classes
from deepfinder_dask.particles.table import Particles


def evaluate(truth: Source, found: Source, settings: EvaluateSettings | None = None, **options: Any) -> Evaluation:
    """Compare found particles with true ones, one to one: ``deepfinder evaluate``.

    Parameters
    ----------
    truth
        True particles: a table; or a file in any readable format, a folder of them, or a pattern such as
        ``truth/*.star`` or ``picks/{tomogram}.csv``.
    found
        Found particles, in the same ways.
    settings, **options
        :class:`EvaluateSettings`, and single fields of it: ``tolerance``, ``classes``, …

    Returns
    -------
    Evaluation
        Precision, recall, F1 and F-beta by class, over all classes, and class-blind, with average precision, distances
        and confidence intervals. Each tomogram is compared by itself. Structures are never counted.

    Raises
    ------
    InputError
        A file is missing or damaged, or the sides have no tomogram in common. A damaged one of many is named in
        ``failures``.
    SettingsError
        The tolerance needs the radius of a class, which is unknown.
    VoxelSizeError
        Voxels are counted, or a mask is given, and their size is unknown.
    GeometryError
        A mask has another shape than its tomogram.
    """
    chosen = options_to_settings(EvaluateSettings, settings, options)
    tolerance = Tolerance.parse(chosen.tolerance)
    known = read_classes(chosen.classes) if chosen.classes is not None else ()
    read_truth, read_found = read_sides(truth, found, chosen, known)
    true, seen = read_truth.particles, read_found.particles
    every = pair_classes(true, seen, known)
    pairs = [pair for pair in every if pair.kind == "particle"]
    tomograms, notes = pair_tomograms(
        true, seen, read_found.lost(), whole=not (read_truth.failures or read_found.failures)
    )
    left = _by_tomogram(true, {pair.truth: i for i, pair in enumerate(pairs) if pair.truth is not None})
    right = _by_tomogram(seen, {pair.found: i for i, pair in enumerate(pairs) if pair.found is not None})
    sides = [(name, other, left[name], right[other] if other else Side.empty()) for name, other in tomograms]
    _check_templates(chosen, len(tomograms))
    if chosen.truth_volume is None:
        _check_radii(tolerance, pairs, [a.classes for _, _, a, _ in sides])

    outcomes: list[Outcome] = []
    regions: dict[int, list[Outcome]] = {}
    outside = np.zeros(3, dtype=np.int64)
    for name, other, a, b in sides:
        if chosen.truth_volume is not None:
            edges = _by_volume(chosen.truth_volume, true, name, a, b)
        else:
            scale = _scale(tolerance, true, name, seen, other)
            reach = _reach(tolerance, pairs)[a.classes]
            edges = within_reach(a.positions / scale, b.positions / scale, reach, box=tolerance.unit == "box")
        if chosen.mask is None and chosen.border is None:
            outcomes.append(compare_sides(name, a, b, edges))
            continue
        own = [true.tomograms[name], *([] if other is None else [seen.tomograms[other]])]
        whole = (one for one in own if None not in (one.voxel_size, one.shape))  # not shape and voxels of two binnings
        facts = next(whole, own[0].merged(own[-1]))
        region = region_of(chosen.mask, chosen.border, name, facts.shape, facts.voxel_size)
        of_a, of_b = (numbers_in(region, side.positions / np.asarray(facts.voxel_size)) for side in (a, b))
        kept = keep_inside(a, b, edges, of_a != 0, of_b != 0)
        outside += (*kept.outside, kept.across)
        outcomes.append(compare_sides(name, kept.truth, kept.found, kept.edges))
        for number in sorted({*of_a.tolist(), *of_b.tolist()} - {0}):
            part = keep_inside(a, b, edges, of_a == number, of_b == number)
            regions.setdefault(number, []).append(compare_sides(name, part.truth, part.found, part.edges))
    structures = [pair for pair in every if pair.kind == "structure"]
    notes += _unread(read_truth.failures, "true") + _unread(read_found.failures, "found")
    notes += _left_out(true, seen, structures)
    if chosen.mask is not None or chosen.border is not None:
        notes.append(
            f"{outside[0]} true and {outside[1]} found particles lie outside and do not count, nor do {outside[2]} "
            "pairs of one inside and one outside."
        )
    result = summarised(outcomes, pairs, chosen, notes)
    if regions and set(regions) != {1}:
        result = replace(result, regions={n: region_scores(regions[n], pairs) for n in sorted(regions)})
    if chosen.czii or chosen.class_weights:
        score, by_class = czii_score(outcomes, pairs, chosen.weights())
        result = replace(result, czii=score, czii_classes=by_class)
    return replace(result, failures=read_truth.failures | read_found.failures)


def _check_templates(settings: EvaluateSettings, tomograms: int) -> None:
    """Refuse one volume for several tomograms."""
    for option, path in (("--truth-volume", settings.truth_volume), ("--mask", settings.mask)):
        if path is not None and tomograms > 1 and "{tomogram}" not in path:
            raise SettingsError(
                f"{tomograms} tomograms need a volume each: give {option} with {{tomogram}} in the place of the name, "
                f"got {path!r}"
            )


def _by_tomogram(particles: Particles, numbers: Mapping[str, int]) -> dict[str, Side]:
    """Particles of each tomogram, without classes that do not count."""
    positions, angles = particles.positions(), particles.orientations()
    scores = particles.table["score"].to_numpy(dtype=np.float64)
    classes = np.array([numbers.get(str(name), -1) for name in particles.table["class"].tolist()], dtype=np.int64)
    groups = {str(name): np.asarray(rows) for name, rows in particles.table.groupby("tomogram").indices.items()}
    result = {}
    for name in particles.tomograms:
        rows = groups.get(name, np.empty(0, dtype=np.int64)).astype(np.int64)
        rows = rows[classes[rows] >= 0]
        # Sorted by what they say: of matchings that are equally good, the order of rows must not choose.
        keys = (*np.nan_to_num(angles[rows]).T, np.nan_to_num(scores[rows], nan=-np.inf), classes[rows])
        rows = rows[np.lexsort((*keys, *positions[rows].T[::-1]))]
        result[name] = Side(rows, positions[rows], classes[rows], scores[rows], angles[rows])
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


def _by_volume(template: str, truth: Particles, name: str, a: Side, b: Side) -> Edges:
    """Pairs by the voxel that a found position lies on; particles are numbered by ``instance_id``, else by row."""
    all_rows = np.flatnonzero((truth.table["tomogram"] == name).to_numpy())
    numbers = np.arange(1, len(all_rows) + 1)
    if "instance_id" in truth.table.columns:
        told = truth.table["instance_id"].to_numpy()[all_rows]
        if np.issubdtype(told.dtype, np.number) and len(set(told.tolist())) == len(told) and (told > 0).all():
            numbers = told.astype(np.int64)
    return hits_by_voxel(
        template,
        name,
        voxel_size=truth.tomograms[name].voxel_size,
        found=b.positions,
        numbers=numbers[np.searchsorted(all_rows, a.rows)],
        centres=a.positions,
    )


def _unread(failures: Mapping[str, str], side: str) -> list[str]:
    """Note on files of many that could not be read."""
    if not failures:
        return []
    return [f"{len(failures)} files of {side} particles cannot be read and are left out: {list(failures.values())}."]


def _left_out(truth: Particles, found: Particles, structures: Sequence[ClassPair]) -> list[str]:
    """Note on structures that have rows in a table."""
    rows = truth.counts(), found.counts()
    names = [p.name for p in structures if rows[0].get(p.truth or "", 0) or rows[1].get(p.found or "", 0)]
    return [f"Structures are not counted: {names}."] if names else []
