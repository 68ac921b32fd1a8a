"""The verb ``tune``: thresholds of size and score that make F-beta largest on annotated tomograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.errors import InputError, SettingsError
from deepfinder_dask.evaluation.gathering import reaches, read_together, rows_by_class, unit_of
from deepfinder_dask.evaluation.pairing import ClassPair, pair_classes, pair_tomograms
from deepfinder_dask.evaluation.reading import Source
from deepfinder_dask.evaluation.result import Score
from deepfinder_dask.evaluation.settings import Tolerance, TuneSettings
from deepfinder_dask.evaluation.sweeping import Hits, Sweep, near_truths
from deepfinder_dask.evaluation.tuned import Choice, TunedClass, Tuning
from deepfinder_dask.execution import options_to_settings
from deepfinder_dask.particles.classes import ParticleClass, check_classes, read_classes
from deepfinder_dask.particles.settings import ImportSettings
from deepfinder_dask.particles.table import Particles

_CUTS = 100
_TIE = 1e-12
_NOTHING = Score(0, 0, 0)


def tune(truth: Source, found: Source, settings: TuneSettings | None = None, **options: Any) -> Tuning:
    """Choose the size, and the score, below which particles are dropped: ``deepfinder tune``.

    For each class every distinct value is tried as the threshold; at each, the particles that are left are matched anew
    with the true ones, one to one, as :func:`evaluate` does. That of the largest F-beta is chosen, the smallest on a
    tie (Moebel et al. 2021, Extended Data Fig. 6).

    Parameters
    ----------
    truth
        True particles of one or more tomograms: a table, or files in any readable format.
    found
        Found particles, clustered without minimum sizes.
    settings, **options
        :class:`TuneSettings`, and single fields of it: ``tolerance``, ``beta``, …

    Returns
    -------
    Tuning
        Thresholds and counts by class. With more than one tomogram, each is also judged with the thresholds that the
        others choose.

    Raises
    ------
    InputError
        A file is missing or damaged, the sides have no tomogram in common, or particles have neither size nor score.
    SettingsError
        The tolerance needs the radius of a class, which is unknown; a tomogram to hold out is none of these.
    VoxelSizeError
        Voxels are counted, and their size is unknown.
    """
    chosen = options_to_settings(TuneSettings, settings, options)
    known = read_classes(chosen.classes) if chosen.classes is not None else ()
    reading = ImportSettings(voxel_size=chosen.voxel_size, shape=chosen.shape)
    true, seen = read_together([truth, found], known, reading)
    every = pair_classes(true, seen, known)
    pairs = [pair for pair in every if pair.kind == "particle"]
    tomograms, notes = pair_tomograms(true, seen)
    names = [name for name, _ in tomograms]
    wrong = sorted(set(chosen.held_out) - set(names))
    tuned_on = [name for name in names if name not in chosen.held_out]
    if wrong or not tuned_on:
        problem = f"{wrong} are none of them" if wrong else "nothing is left to tune on"
        raise SettingsError(f"--held-out: the tomograms are {names}, and {problem}")
    listed = _base_classes(known or seen.classes, every)
    results = []
    for layers in _gather(true, seen, pairs, tomograms, listed, chosen):
        results.append(_tuned(layers, tuned_on, chosen))
    judged = chosen.held_out or (tuple(names) if len(names) > 1 else ())
    kinds = [kind for kind in ("size", "score", "joint") if any(kind in one.choices for one, _ in results)]
    return Tuning(
        classes=tuple(one for one, _ in results),
        overall={kind: _pooled(kind, results, bool(judged)) for kind in kinds},
        before=sum((one.before for one, _ in results), _NOTHING),
        beta=float(chosen.beta),
        tolerance=chosen.tolerance,
        tomograms=tuple(tuned_on),
        judged=tuple(judged),
        particle_classes=_filled(listed, pairs, [one for one, _ in results], _clustered_with(seen)),
        notes=tuple(notes + _remarks(seen, pairs, [one for one, _ in results], bool(judged))),
    )


@dataclass(frozen=True)
class _Layers:
    """Hits of one class by what is compared, and by tomogram."""

    pair: ClassPair
    hits: Mapping[str, Sequence[tuple[float | None, Mapping[str, Hits]]]]
    """By kind: hits of those whose score is at least the first value, for each such value that is tried."""
    everything: Mapping[str, Score]
    """Counts without thresholds, by tomogram."""


def _gather(
    true: Particles,
    seen: Particles,
    pairs: Sequence[ClassPair],
    tomograms: Sequence[tuple[str, str | None]],
    listed: Sequence[ParticleClass],
    settings: TuneSettings,
) -> list[_Layers]:
    """Hits of all classes in all tomograms."""
    tolerance = Tolerance.parse(settings.tolerance)
    columns = {
        "size": seen.table["size_voxels"].to_numpy(dtype=np.float64, na_value=np.nan),
        "score": seen.table["score"].to_numpy(dtype=np.float64),
    }
    known = {name: values for name, values in columns.items() if np.isfinite(values).any() or not len(seen)}
    if not known:
        raise InputError("the found particles have neither sizes nor scores, so there is nothing to tune")
    if settings.joint and len(known) < 2:
        raise InputError(f"a joint choice needs sizes and scores; the found particles have {list(known)} only")
    rows_a = {name: rows_by_class(true, name, _numbers(pairs, "truth")) for name, _ in tomograms}
    rows_b = {
        name: rows_by_class(seen, other, _numbers(pairs, "found")) if other is not None else {}
        for name, other in tomograms
    }
    there = {n for rows in rows_a.values() for n in rows}
    reach = reaches(tolerance, {pairs[n].name: pairs[n].radius for n in sorted(there)})
    a, b = true.positions(), seen.positions()
    empty = np.empty(0, dtype=np.intp)
    result = []
    for number, pair in enumerate(pairs):
        limit = next((one.max_size for one in listed if _is(one, pair)), None)
        near: dict[str, list[list[int]]] = {}
        rows: dict[str, NDArray[np.intp]] = {}
        count = {name: len(rows_a[name].get(number, empty)) for name, _ in tomograms}
        for name, other in tomograms:
            mine = rows_b[name].get(number, empty)
            rows[name] = mine if limit is None else mine[~(columns["size"][mine] > limit)]
            sides = [(true, name)] if other is None else [(true, name), (seen, other)]
            unit = unit_of(tolerance, name, sides)
            truths = a[rows_a[name].get(number, empty)] / unit
            amount = reach.get(pair.name, 0.0)
            near[name] = near_truths(truths, b[rows[name]] / unit, amount, box=tolerance.unit == "box")
        hits: dict[str, list[tuple[float | None, Mapping[str, Hits]]]] = {}
        for kind, values in known.items():
            hits[kind] = [(None, {n: Hits.of(count[n], values[rows[n]], near[n]) for n in near})]
        if settings.joint and len(known) == 2:
            hits["joint"] = []
            for cut in _cuts(np.concatenate([empty.astype(float), *(known["score"][rows[n]] for n in near)])):
                kept = {n: cut is None or known["score"][rows[n]] >= cut for n in near}
                keep = {n: np.broadcast_to(kept[n], len(rows[n])) for n in near}
                hits["joint"].append(
                    (cut, {n: Hits.of(count[n], known["size"][rows[n]], near[n], keep[n]) for n in near})
                )
        first = next(iter(hits.values()), [])
        everything = {n: one.at(None) for _, parts in first for n, one in parts.items()}
        result.append(_Layers(pair, hits, everything or {n: Score(count[n], 0, 0) for n in near}))
    return result


def _cuts(scores: NDArray[np.float64]) -> list[float | None]:
    """Scores to try with every size: none, and all distinct ones, or so many of them at even steps of rank."""
    distinct = np.unique(scores[np.isfinite(scores)])
    if len(distinct) > _CUTS:
        distinct = np.unique(np.quantile(distinct, np.linspace(0, 1, _CUTS), method="nearest"))
    return [None, *distinct.tolist()]


def _tuned(layers: _Layers, names: Sequence[str], settings: TuneSettings) -> tuple[TunedClass, Score]:
    """Choices of one class, and the counts without thresholds on the tomograms that are judged apart."""
    choices, sweeps = {}, {}
    judged = settings.held_out or (tuple(names) if len(names) > 1 else ())
    true = sum(layers.everything[name].true for name in names)
    for kind, parts in layers.hits.items():
        if kind != "joint":
            sweeps[kind] = Sweep.of([parts[0][1][name] for name in names])
        if not true:
            continue
        number, threshold, score = _choose(parts, names, settings.beta)
        apart = None
        if judged:
            apart = _NOTHING
            for name in judged:
                others = names if settings.held_out else [one for one in names if one != name]
                layer, value, _ = _choose(parts, others, settings.beta)
                apart += parts[layer][1][name].at(value)
        cut = parts[number][0] if kind == "joint" else threshold if kind == "score" else None
        size = None if kind == "score" or threshold is None else int(np.ceil(threshold))
        choices[kind] = Choice(size, cut, score, apart)
    before = sum((layers.everything[name] for name in names), _NOTHING)
    aside = sum((layers.everything[name] for name in judged), _NOTHING)
    return TunedClass(layers.pair.name, layers.pair.label, before, choices, sweeps), aside


def _choose(
    parts: Sequence[tuple[float | None, Mapping[str, Hits]]], names: Sequence[str], beta: float
) -> tuple[int, float | None, Score]:
    """Layer and threshold of the largest F-beta, the first layer and the smallest threshold on a tie; the counts."""
    best: tuple[int, float | None, Score] = (0, None, _NOTHING)
    value = -1.0
    for number, (_, hits) in enumerate(parts):
        sweep = Sweep.of([hits[name] for name in names])
        index = sweep.best(beta)
        here = float(np.nan_to_num(sweep.scores[index].f_beta(beta)))
        if here > value + _TIE:
            best, value = (number, sweep.thresholds[index], sweep.scores[index]), here
    return best


def _pooled(kind: str, results: Sequence[tuple[TunedClass, Score]], judged: bool) -> Choice:
    """All classes together, those without a threshold as they were found."""
    tuned = apart = _NOTHING
    for one, aside in results:
        choice = one.choices.get(kind)
        tuned += one.before if choice is None else choice.tuned
        apart += aside if choice is None or choice.held_out is None else choice.held_out
    return Choice(None, None, tuned, apart if judged else None)


def _numbers(pairs: Sequence[ClassPair], side: str) -> dict[str, int]:
    names = [(getattr(pair, side), number) for number, pair in enumerate(pairs)]
    return {name: number for name, number in names if name is not None}


def _is(one: ParticleClass, pair: ClassPair) -> bool:
    """Whether a listed class is the one of this pair."""
    return one.name in (pair.name, pair.found, pair.truth)


def _base_classes(listed: Sequence[ParticleClass], pairs: Sequence[ClassPair]) -> tuple[ParticleClass, ...]:
    """Classes to fill in: those given or those of the found particles, and those that only the truth has."""
    result = list(listed)
    for pair in pairs:
        if any(_is(one, pair) for one in result) or any(one.label == pair.label for one in result):
            continue
        kind = "structure" if pair.kind == "structure" else "particle"
        result.append(ParticleClass(pair.name, pair.label, kind=kind))  # type: ignore[arg-type]  # a Literal
    radii = {id(one): next((pair.radius for pair in pairs if _is(one, pair)), None) for one in result}
    return check_classes(one if one.radius is not None else replace(one, radius=radii[id(one)]) for one in result)


def _filled(
    listed: Sequence[ParticleClass],
    pairs: Sequence[ClassPair],
    tuned: Sequence[TunedClass],
    clustered: Mapping[str, int],
) -> tuple[ParticleClass, ...]:
    """Classes with the minimum sizes that were chosen; those without a choice stay as they are."""
    result = []
    for one in listed:
        own = [(n, tuned[n].choices) for n, pair in enumerate(pairs) if _is(one, pair) and "size" in tuned[n].choices]
        if own:  # where none is best, sizes that clustering had dropped stay dropped: they could not be tried
            size = own[0][1]["size"].size
            one = replace(one, min_size=clustered.get(pairs[own[0][0]].found or "") if size is None else size)
        result.append(one)
    return tuple(result)


def _clustered_with(seen: Particles) -> dict[str, int]:
    """Minimum sizes that the found particles keep to, by class."""
    names, sizes = seen.table["class"], seen.table["size_voxels"]
    limits = {one.name: one.min_size for one in seen.classes if one.min_size}
    return {name: least for name, least in limits.items() if not bool((sizes[names == name] < least).any())}


def _remarks(seen: Particles, pairs: Sequence[ClassPair], tuned: Sequence[TunedClass], judged: bool) -> list[str]:
    """What a reader of the thresholds should know."""
    notes = []
    without = [one.name for one in tuned if not one.choices]
    if without:
        notes.append(f"No true particles, so no threshold: {without}.")
    cut = _clustered_with(seen)
    if cut:
        notes.append(
            f"The found particles were clustered with minimum sizes {cut}: smaller ones could not be tried "
            "(deepfinder cluster --min-size 0)."
        )
    missing = int(seen.table["size_voxels"].isna().sum())
    if missing:
        notes.append(f"{missing} of {len(seen)} found particles have no size; any minimum size drops them.")
    if not judged:
        notes.append(
            "Tuned and judged on the same tomogram, which flatters the thresholds: give more tomograms to have each "
            "judged with what the others choose."
        )
    return notes
