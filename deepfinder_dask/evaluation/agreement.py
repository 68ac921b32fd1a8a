"""The verb ``consensus``: particles of several methods or annotators brought together, one to one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deepfinder_dask.errors import InputError, SettingsError, VoxelSizeError
from deepfinder_dask.evaluation.agreed import Consensus
from deepfinder_dask.evaluation.gathering import reaches, read_together, rows_by_class, unit_of
from deepfinder_dask.evaluation.grouping import group_positions
from deepfinder_dask.evaluation.reading import Source
from deepfinder_dask.evaluation.settings import ConsensusSettings, Tolerance
from deepfinder_dask.evaluation.shared_classes import share_classes
from deepfinder_dask.execution import options_to_settings
from deepfinder_dask.particles.classes import ParticleClass, read_classes
from deepfinder_dask.particles.facts import TomogramFacts
from deepfinder_dask.particles.formats.names import tidy_name
from deepfinder_dask.particles.settings import ImportSettings
from deepfinder_dask.particles.table import ORIENTATION, Particles


def consensus(
    sources: Sequence[Source] | Mapping[str, Source], settings: ConsensusSettings | None = None, **options: Any
) -> Consensus:
    """Bring sets of particles together, one to one: ``deepfinder consensus``.

    Each two sets are matched one to one, as :func:`evaluate` does, and the matches are joined to groups that hold at
    most one particle of each set, the nearest first (:func:`group_positions`). The order in which sets are given
    changes nothing but the order of columns (Moebel et al. 2021, Supplementary Note 1).

    Parameters
    ----------
    sources
        Two sets or more: tables, or files in any readable format; a mapping names them.
    settings, **options
        :class:`ConsensusSettings`, and single fields of it: ``tolerance``, ``class_blind``, …

    Returns
    -------
    Consensus
        Union, intersection and what only one set has. Each tomogram is compared by itself. Structures are left out.

    Raises
    ------
    InputError
        A file is missing or damaged, or the sets have no tomogram in common.
    SettingsError
        There are not two sets, their names cannot be told apart, or a class has no radius and the tolerance needs it.
    VoxelSizeError
        Voxels are counted, and their size is unknown or differs between the sets.
    """
    chosen = options_to_settings(ConsensusSettings, settings, options)
    named = _named(sources, chosen.names)
    known = read_classes(chosen.classes) if chosen.classes is not None else ()
    reading = ImportSettings(voxel_size=chosen.voxel_size, shape=chosen.shape)
    sets = dict(zip(named, read_together(list(named.values()), known, reading), strict=True))
    tolerance = Tolerance.parse(chosen.tolerance)
    classes, class_names = share_classes(sets, known)
    particles = [one for one in classes if one.kind == "particle"]
    tomograms, notes = _tomograms(sets)
    notes += _left_out(sets, classes, class_names)

    numbers = {one.name: number for number, one in enumerate(particles)}
    own_numbers = {
        name: {own: numbers[shown] for own, shown in class_names[name].items() if shown in numbers} for name in sets
    }
    rows = {
        (name, tomogram): rows_by_class(table, own, own_numbers[name]) if own is not None else {}
        for tomogram, owns in tomograms.items()
        for (name, table), own in zip(sets.items(), owns, strict=True)
    }
    there = sorted({number for one in rows.values() for number in one})
    reach = reaches(tolerance, {particles[n].name: particles[n].radius for n in there})
    parts = []
    for tomogram in sorted(tomograms):
        unit = _unit(tolerance, tomogram, sets, tomograms[tomogram])
        together = [there] if chosen.class_blind and there else [[number] for number in there]
        for joined in together:
            own_rows = {name: _rows(sets[name], rows[name, tomogram], joined) for name in sets}
            points = {name: sets[name].positions()[own] / unit for name, own in own_rows.items()}
            least = min(reach[particles[n].name] for n in joined)
            groups = group_positions(points, least, box=tolerance.unit == "box")
            own = [np.append(own_rows[name], -1) for name in sets]
            members = np.stack([own[n][groups[:, n]] for n in range(len(own))], axis=1)
            parts.append((tomogram, members))
    facts = {tomogram: _facts(sets, owns) for tomogram, owns in tomograms.items()}
    union, members = _joined(sets, parts, own_numbers, particles, facts, best=chosen.position == "best")
    return Consensus(sets, members, union, chosen.tolerance, chosen.class_blind, tuple(notes))


def _named(sources: Sequence[Source] | Mapping[str, Source], names: Sequence[str]) -> dict[str, Source]:
    """Sources by the names of their sets: as told, else those of the files, with their folders where they are alike."""
    listed = list(sources.values()) if isinstance(sources, Mapping) else list(sources)
    if len(listed) < 2:
        raise SettingsError(f"a consensus needs two sets of particles or more, got {len(listed)}")
    if names and len(names) != len(listed):
        raise SettingsError(f"--names: expected {len(listed)} names, one for each set, got {list(names)}")
    if not names and isinstance(sources, Mapping):
        names = list(sources)
    if not names:
        paths = [None if isinstance(one, Particles) else Path(one).absolute() for one in listed]
        stems = [f"set_{n}" if path is None else path.stem for n, path in enumerate(paths, start=1)]
        names = stems
        for depth in range(3):
            if len(set(names)) == len(names):
                break
            names = [
                stem if path is None else "_".join([*path.parts[1:-1][-1 - depth :], stem])
                for path, stem in zip(paths, stems, strict=True)
            ]
    wrong = sorted({name for name in names if list(names).count(name) > 1})
    if wrong:
        raise SettingsError(f"several sets would be named {wrong[0]!r}; give each a name (--names)")
    bad = [name for name in names if not name or not name.isprintable() or set(name) & set("/\\{}")]
    if bad:
        raise SettingsError(f"{bad[0]!r} cannot name a file; give each set a name (--names)")
    return dict(zip(names, listed, strict=True))


def _tomograms(sets: Mapping[str, Particles]) -> tuple[dict[str, list[str | None]], list[str]]:
    """Each tomogram by the name that every set has for it, None where a set does not list it; notes.

    Raises
    ------
    InputError
        No two sets have one in common.
    """
    times = [Counter(tidy_name(name) for name in table.tomograms) for table in sets.values()]
    twice = {plain for one in times for plain, count in one.items() if count > 1}
    grouped: dict[str, list[str | None]] = {}
    for number, table in enumerate(sets.values()):
        for own in table.tomograms:
            key = own if tidy_name(own) in twice else tidy_name(own)
            grouped.setdefault(key, [None] * len(sets))[number] = own
    alike = {key: {own for own in owns if own is not None} for key, owns in grouped.items()}
    every = sorted({name for table in sets.values() for name in table.tomograms})
    if 1 < len(grouped) == len(sets) and all(len(table.tomograms) == 1 for table in sets.values()):
        shown = next(iter(sets[min(sets)].tomograms))
        owns: list[str | None] = [next(iter(table.tomograms)) for table in sets.values()]
        return {shown: owns}, [f"Tomograms {every} are taken for one: each set has but one."]
    result = {min(alike[key]) if len(alike[key]) == 1 else key: grouped[key] for key in sorted(grouped)}
    if not any(len([own for own in owns if own is not None]) > 1 for owns in result.values()):
        lists = {name: list(table.tomograms)[:3] for name, table in sets.items()}
        raise InputError(f"no tomogram in common: the sets have {lists}; rename them on import (--rename OLD=NEW)")
    plain = [f"{' = '.join(sorted(names))}" for names in alike.values() if len(names) > 1]
    notes = [f"{len(plain)} tomograms go by their plain names: {plain[:5]}."] if plain else []
    for number, name in enumerate(sets):
        missing = [tomogram for tomogram, owns in result.items() if owns[number] is None]
        if missing:
            shown = f"{missing[:5]}" + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            notes.append(f"{name} does not list {len(missing)} tomograms, and so found nothing in them: {shown}.")
    return result, notes


def _left_out(
    sets: Mapping[str, Particles], classes: Sequence[ParticleClass], names: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Note on structures that have rows in a set."""
    structures = {one.name for one in classes if one.kind == "structure"}
    counts = {(name, own): n for name, table in sets.items() for own, n in table.counts().items()}
    there = sorted({names[name][own] for (name, own), n in counts.items() if n and names[name][own] in structures})
    return [f"Structures are left out: {there}."] if there else []


def _unit(
    tolerance: Tolerance, tomogram: str, sets: Mapping[str, Particles], owns: Sequence[str | None]
) -> NDArray[np.float64]:
    """Å per unit of the tolerance along z, y, x."""
    sides = [(sets[name], own) for name, own in zip(sets, owns, strict=True) if own is not None]
    if tolerance.unit == "vox":
        sizes = {size for table, own in sides if (size := table.tomograms[own].voxel_size) is not None}
        if len(sizes) > 1:
            raise VoxelSizeError(
                f"tomogram {tomogram!r} has voxels of {sorted(sizes)} Å (z, y, x); give a tolerance in Å"
            )
    return unit_of(tolerance, tomogram, sides)


def _facts(sets: Mapping[str, Particles], owns: Sequence[str | None]) -> TomogramFacts:
    """Voxel size and shape of one tomogram, by the first set that knows them, in order of names."""
    known = {name: sets[name].tomograms[own] for name, own in zip(sets, owns, strict=True) if own is not None}
    return next((known[name] for name in sorted(known) if known[name].voxel_size is not None), TomogramFacts())


def _rows(table: Particles, by_class: Mapping[int, NDArray[np.intp]], classes: Sequence[int]) -> NDArray[np.intp]:
    """Rows of these classes, sorted by what they say, so that the order of rows decides nothing."""
    rows = np.concatenate([np.empty(0, dtype=np.intp), *(by_class.get(number, []) for number in classes)])
    rows = rows.astype(np.intp)
    z, y, x = table.positions()[rows].T
    score = np.nan_to_num(table.table["score"].to_numpy(dtype=np.float64)[rows], nan=-np.inf)
    label = table.table["label"].to_numpy()[rows]
    return rows[np.lexsort((label, -score, x, y, z))]


def _joined(
    sets: Mapping[str, Particles],
    parts: Sequence[tuple[str, NDArray[np.int64]]],
    own_numbers: Mapping[str, Mapping[str, int]],
    classes: Sequence[ParticleClass],
    facts: Mapping[str, TomogramFacts],
    *,
    best: bool,
) -> tuple[Particles, NDArray[np.int64]]:
    """The union, sorted by tomogram, class and position, and its rows in the sets."""
    names = list(sets)
    members = np.concatenate([np.empty((0, len(names)), dtype=np.int64), *(one for _, one in parts)])
    tomogram = np.repeat([name for name, _ in parts], [len(one) for _, one in parts]).astype(object)
    there = members >= 0
    spots = _stack(members, [table.positions() for table in sets.values()])
    scores = _stack(members, [table.table["score"].to_numpy(np.float64) for table in sets.values()])
    by_name = [names.index(name) for name in sorted(names)]  # sums in one order, whatever that of the sets
    position = _mean(spots[:, by_name])
    away = np.round(np.linalg.norm(spots - position[:, None], axis=2), 6)
    # The best score decides, then the place nearest to the mean, then the name of the set.
    keys = np.nan_to_num(away, nan=np.inf), -np.nan_to_num(scores, nan=-np.inf)
    first = np.asarray(by_name)[np.lexsort([key[:, by_name] for key in keys])[:, 0]]
    every = np.arange(len(members))
    if best:
        position = spots[every, first]
    spread = np.zeros(len(members))
    for a, b in combinations(range(len(names)), 2):
        spread = np.fmax(spread, np.linalg.norm(spots[:, a] - spots[:, b], axis=1))
    number = _voted(sets, members, own_numbers, len(classes))
    columns: dict[str, Any] = {
        "tomogram": tomogram,
        "class": np.array([one.name for one in classes], dtype=object)[number],
        "label": np.array([one.label for one in classes], dtype=np.int64)[number],
        **dict(zip(("z", "y", "x"), position.T, strict=True)),
        "score": _mean(scores[:, by_name]),
        "size_voxels": _stack(
            members, [one.table["size_voxels"].to_numpy(np.float64, na_value=np.nan) for one in sets.values()]
        )[every, first],
    }
    if any(table.oriented for table in sets.values()):
        turns = _stack(members, [table.orientations() for table in sets.values()])[every, first]
        columns.update(zip(ORIENTATION, turns.T, strict=True))
    frame = pd.DataFrame(columns)
    frame["sets"] = there.sum(axis=1)
    frame["confidence"] = there.sum(axis=1) / len(names)
    frame["found_by"] = [", ".join(name for name, has in zip(names, row, strict=True) if has) for row in there.tolist()]
    frame["spread"] = spread
    for n, name in enumerate(names):
        frame[f"row_{name}"] = pd.array(members[:, n], dtype="Int64")
        frame.loc[~there[:, n], f"row_{name}"] = pd.NA
    order = np.lexsort((*position.T[::-1], frame["label"].to_numpy(), tomogram.astype(str)))
    frame = frame.iloc[order].reset_index(drop=True)
    return Particles(frame, {name: facts[name] for name in sorted(facts)}, tuple(classes)), members[order]


def _stack(members: NDArray[np.int64], values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Values of each member, (n, sets, …), from those of each set; NaN where a set has none."""
    padded = [np.concatenate([one, np.full((1, *one.shape[1:]), np.nan)]) for one in values]
    return np.stack([one[members[:, n]] for n, one in enumerate(padded)], axis=1)


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the second axis of what is not NaN; NaN where nothing is."""
    known = ~np.isnan(values)
    total, count = np.where(known, values, 0.0).sum(axis=1), known.sum(axis=1)
    mean: NDArray[np.float64] = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean


def _voted(
    sets: Mapping[str, Particles],
    members: NDArray[np.int64],
    own_numbers: Mapping[str, Mapping[str, int]],
    classes: int,
) -> NDArray[np.int64]:
    """Number of the class that most sets say, the first on a tie."""
    votes = np.zeros((len(members), max(1, classes)), dtype=np.int64)
    for n, name in enumerate(sets):
        own = np.array([own_numbers[name].get(str(one), -1) for one in sets[name].table["class"]], dtype=np.int64)
        here = np.flatnonzero(members[:, n] >= 0)
        votes[here, own[members[here, n]]] += 1
    most: NDArray[np.int64] = votes.argmax(axis=1)
    return most
