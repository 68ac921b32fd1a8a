"""Who is compared with whom: files, classes and tomograms of the true and the found side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deepfinder_dask.errors import GeometryError, InputError, VoxelSizeError
from deepfinder_dask.evaluation.settings import EvaluateSettings
from deepfinder_dask.particles.classes import ParticleClass
from deepfinder_dask.particles.formats import read_particles
from deepfinder_dask.particles.settings import ImportSettings
from deepfinder_dask.particles.table import Particles

Source = Particles | str | Path


@dataclass(frozen=True)
class ClassPair:
    """One class as each side knows it."""

    name: str
    """Name to show: the one that says more than the label."""
    label: int
    """Label on the true side where it is known there."""
    truth: str | None
    """Name on the true side, None where it is unknown there."""
    found: str | None
    """Name on the found side, None where it is unknown there."""
    radius: float | None
    """Radius in Å: from the classes given, else the true side, else the found side."""
    kind: str
    """``structure`` if any side says so, else ``particle``."""


def read_both(
    truth: Source, found: Source, settings: EvaluateSettings, classes: Sequence[ParticleClass]
) -> tuple[Particles, Particles]:
    """Both tables; a file that lacks voxel size or shape takes them from the other side, if that has but one.

    Raises
    ------
    InputError
        A file is missing or damaged, or facts are missing that neither side has.
    """
    sources = {"truth": truth, "found": found}
    tables: dict[str, Particles] = {}
    failed: dict[str, InputError] = {}
    given = ImportSettings(voxel_size=settings.voxel_size, shape=settings.shape)
    for side, source in sources.items():
        try:
            tables[side] = read_particles(source, classes=classes, settings=given)
        except (VoxelSizeError, GeometryError) as error:
            failed[side] = error
    for side, problem in failed.items():
        facts = {one for table in tables.values() for one in table.tomograms.values()}
        if len(facts) != 1:
            raise problem
        one = facts.pop()
        completed = ImportSettings(
            voxel_size=one.voxel_size if settings.voxel_size is None else settings.voxel_size,
            shape=one.shape if settings.shape is None else settings.shape,
        )
        tables[side] = read_particles(sources[side], classes=classes, settings=completed)
    return tables["truth"], tables["found"]


def pair_classes(truth: Particles, found: Particles, given: Iterable[ParticleClass]) -> list[ClassPair]:
    """Classes of both sides, in order of label.

    Classes are the same when their names are. A name that says no more than the label (``class_3``) is the same as
    whatever the other side calls that label.
    """
    theirs = {one.name: one for one in found.classes}
    own_names = {one.name for one in truth.classes}
    pairs: list[tuple[ParticleClass | None, ParticleClass | None]] = []
    for one in truth.classes:
        partner = theirs.get(one.name)
        if partner is None:
            free = (other for other in theirs.values() if other.label == one.label and other.name not in own_names)
            partner = next((other for other in free if other.unnamed or one.unnamed), None)
        if partner is not None:
            del theirs[partner.name]
        pairs.append((one, partner))
    pairs += [(None, one) for one in theirs.values()]
    told = {one.name: one for one in given}
    told_labels = {one.label: one for one in told.values()}
    result = []
    for left, right in pairs:
        sides = [one for one in (left, right) if one is not None]
        shown = next((one for one in sides if not one.unnamed), sides[0])
        own = told.get(shown.name) or (told_labels.get(shown.label) if shown.unnamed else None)
        known = [] if own is None else [own]
        shown = own or shown
        radius = next((one.radius for one in (*known, *sides) if one.radius is not None), None)
        kind = "structure" if any(one.kind == "structure" for one in (*known, *sides)) else "particle"
        names = (None if left is None else left.name, None if right is None else right.name)
        result.append(ClassPair(shown.name, sides[0].label, *names, radius, kind))
    return sorted(result, key=lambda pair: (pair.label, pair.truth is None, pair.name))


def pair_tomograms(truth: Particles, found: Particles) -> tuple[list[tuple[str, str | None]], list[str]]:
    """Tomograms to compare, (true side, found side), and notes on what is matched or left out.

    A true tomogram that the found side does not list counts as missed; a found one that the true side does not list
    is left out, since nobody said what is in it.

    Raises
    ------
    InputError
        The sides have no tomogram in common.
    """
    left, right = list(truth.tomograms), list(found.tomograms)
    shared = [name for name in left if name in set(right)]
    if len(left) == len(right) == 1 and not shared:
        note = f"Tomogram {left[0]!r} of the truth is compared with {right[0]!r}: each side has but one."
        return [(left[0], right[0])], [note]
    if not left or (right and not shared):
        raise InputError(f"no tomogram in common: the truth has {_some(left)}, the found particles {_some(right)}")
    notes = []
    missed = [name for name in left if name not in shared]
    if missed:
        notes.append(
            f"{len(missed)} tomograms of the truth have no found particles and count as missed: {_some(missed)}."
        )
    extra = [name for name in right if name not in shared]
    if extra:
        notes.append(f"{len(extra)} tomograms are left out, as the truth does not list them: {_some(extra)}.")
    return [(name, name if name in shared else None) for name in left], notes


def _some(names: Sequence[str]) -> str:
    """The first few names."""
    return repr(list(names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
