"""Tables before and after a session: what it starts from, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deepfinder_dask.errors import GeometryError, InputError, VoxelSizeError
from deepfinder_dask.particles import ParticleClass, Particles, TomogramFacts, read_particles
from deepfinder_dask.tomograms import Tomogram
from deepfinder_dask.viewing.annotating.edits import Annotation

TOLERANCE = 1e-3
"""Relative difference between voxel sizes that headers of one tomogram may have."""
ACCEPTED = "accepted"
"""Column of tables that were reviewed: True where a person accepted, moved or added the particle, else missing."""


def facts_of(tomogram: Tomogram) -> TomogramFacts:
    """Voxel size and shape, as a table of particles keeps them."""
    return TomogramFacts(tomogram.voxel_size, tomogram.shape)


def empty_start(tomogram: Tomogram, name: str | None, classes: Sequence[ParticleClass]) -> Particles:
    """A start without particles."""
    return Particles.empty({name or tomogram.name: facts_of(tomogram)}, classes)


def read_start(
    path: str | Path, tomogram: Tomogram, name: str | None, classes: Sequence[ParticleClass], classes_file: str | None
) -> Particles:
    """Particles of one tomogram to start from, under its voxel size and shape, and under the classes if there are any.

    Parameters
    ----------
    path : str or path
        Particles in any format.
    tomogram : Tomogram
        What they are in.
    name : str, optional
        Which of the tomograms in the file; by default the only one, or that of the tomogram's name.
    classes : sequence of ParticleClass
        Classes to bring them under, by name; empty to take theirs.
    classes_file : str, optional
        Where these come from.

    Raises
    ------
    InputError
        There is no such tomogram or class.
    GeometryError, VoxelSizeError
        They were found in another volume.
    """
    table = read_particles(path, classes=classes_file, voxel_size=tomogram.voxel_size, shape=tomogram.shape)
    names = list(table.tomograms)
    which = names[0] if len(names) == 1 else name or tomogram.name
    if which not in names:
        raise InputError(f"no tomogram {which!r} in {path}, which has {', '.join(names) or 'none'}: give its --name")
    here = table.of_tomogram(which)
    check_same_volume(here.tomograms[which], tomogram, str(path))
    chosen = tuple(classes) or here.classes
    frame = _under_classes(here, chosen, str(path)).assign(tomogram=name or which)
    start = Particles(frame, {name or which: facts_of(tomogram)}, chosen)
    voxels = start.positions() / np.asarray(tomogram.voxel_size)
    outside = np.flatnonzero(((voxels < -0.5) | (voxels > np.asarray(tomogram.shape) - 0.5)).any(axis=1))
    if outside.size:
        raise GeometryError(
            f"{outside.size} particles of {path} are outside of {tomogram.path}, {tomogram.shape} voxels (z, y, x); "
            f"the first, row {outside[0]}, is at voxel {np.round(voxels[outside[0]], 1).tolist()}: check the voxel size"
        )
    return start


def _under_classes(particles: Particles, classes: Sequence[ParticleClass], source: str) -> pd.DataFrame:
    """The rows under other classes of the same names; a class without a name of its own goes by its label."""
    names = {one.name: one for one in classes}
    labels = {one.label: one for one in classes}
    counts = particles.counts()
    became: dict[str, ParticleClass] = {}
    for one in particles.classes:
        known = names.get(one.name) or (labels.get(one.label) if one.unnamed else None)
        if counts[one.name] and (known is None or known.kind != "particle"):
            raise InputError(
                f"{source} has {counts[one.name]} particles of class {one.name!r} (label {one.label}), which is none "
                f"of the classes to annotate with, {[c.name for c in classes if c.kind == 'particle']}: add it there"
            )
        if known is not None:
            became[one.name] = known
    kept = particles.table["class"].tolist()
    columns: dict[str, Any] = {
        "class": pd.Series([became[name].name for name in kept], dtype=str),
        "label": np.array([became[name].label for name in kept], dtype=np.int64),
    }
    return particles.table.assign(**columns)


def check_same_volume(facts: TomogramFacts, tomogram: Tomogram, where: str) -> None:
    """Refuse particles of another volume than the tomogram.

    Raises
    ------
    VoxelSizeError, GeometryError
        Voxel sizes or shapes differ.
    """
    if facts.voxel_size is not None and not np.allclose(facts.voxel_size, tomogram.voxel_size, rtol=TOLERANCE):
        raise VoxelSizeError(
            f"{where} was made for voxels of {list(facts.voxel_size)} Å, {tomogram.path} has "
            f"{list(tomogram.voxel_size)} (z, y, x): give the tomogram that it belongs to"
        )
    if facts.shape is not None and facts.shape != tomogram.shape:
        raise GeometryError(
            f"{where} was made for {facts.shape} voxels (z, y, x), {tomogram.path} has {tomogram.shape}: "
            f"give the tomogram that it belongs to"
        )


def check_classes_kept(
    old: Sequence[ParticleClass], new: Sequence[ParticleClass], where: str, classes_file: str
) -> None:
    """Refuse classes that do not hold all those an output was begun with; more classes are welcome.

    Raises
    ------
    InputError
        A class is missing, or has another label.
    """
    labels = {one.name: one.label for one in new}
    for one in old:
        if labels.get(one.name) != one.label:
            found = f"label {labels[one.name]}" if one.name in labels else f"not among {list(labels)}"
            raise InputError(
                f"{where} was begun with the class {one.name!r} (label {one.label}), which is {found} in "
                f"{classes_file}: give its classes file, or choose another output"
            )


def annotations_of(start: Particles) -> dict[int, Annotation]:
    """Particles of the start by number, as nobody has judged them yet; those with ``accepted`` have been."""
    frame = start.table
    accepted = frame[ACCEPTED].tolist() if ACCEPTED in frame.columns else [None] * len(frame)
    rows = zip(frame["label"].tolist(), frame[["z", "y", "x"]].to_numpy().tolist(), accepted, strict=True)
    return {
        number: Annotation(int(label), (z, y, x), "accepted" if known is True else "open")
        for number, (label, (z, y, x), known) in enumerate(rows)
    }


def table_of(start: Particles, classes: Sequence[ParticleClass], annotations: Mapping[int, Annotation]) -> Particles:
    """Particles as they stand, in order of number.

    Scores, sizes and what else the start knows of a particle stay with it; its score goes when its class is changed,
    since it was the probability of another one.
    """
    numbers = sorted(annotations)
    chosen = [annotations[number] for number in numbers]
    frame = start.table
    count = len(frame)
    rows = frame.reindex([number if number < count else -1 for number in numbers]).reset_index(drop=True)
    before = rows["label"].to_numpy(dtype=np.float64, na_value=np.nan)
    labels = np.array([one.label for one in chosen], dtype=np.int64)
    names = {one.label: one.name for one in classes}
    (name,) = start.tomograms
    columns: dict[str, Any] = {
        "tomogram": pd.Series([name] * len(chosen), dtype=str),
        "class": pd.Series([names[one.label] for one in chosen], dtype=str),
        "label": labels,
        **{axis: np.array([one.position[2 - n] for one in chosen], dtype=np.float64) for n, axis in enumerate("xyz")},
        "score": np.where(before == labels, rows["score"].to_numpy(dtype=np.float64), np.nan),
    }
    rows = rows.assign(**columns)
    if count:
        judged = [True if one.verdict == "accepted" else pd.NA for one in chosen]
        rows[ACCEPTED] = pd.Series(pd.array(judged, dtype="boolean"))
    return Particles(rows, start.tomograms, tuple(classes))
