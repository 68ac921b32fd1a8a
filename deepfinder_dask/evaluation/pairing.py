"""Who is compared with whom: classes and tomograms of the true and the found side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from deepfinder_dask.errors import InputError
from deepfinder_dask.evaluation.reading import Source, read_both
from deepfinder_dask.particles.classes import ParticleClass
from deepfinder_dask.particles.formats.names import tidy_name
from deepfinder_dask.particles.table import Particles

__all__ = ["ClassPair", "Source", "pair_classes", "pair_tomograms", "read_both"]


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
    colour: str
    """``#rrggbb``, as the side says whose name is shown."""


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
        result.append(ClassPair(shown.name, sides[0].label, *names, radius, kind, shown.colour))
    return sorted(result, key=lambda pair: (pair.label, pair.truth is None, pair.name))


def pair_tomograms(
    truth: Particles, found: Particles, lost: Collection[str] = (), *, whole: bool = True
) -> tuple[list[tuple[str, str | None]], list[str]]:
    """Tomograms to compare, (true side, found side), and notes on what is matched or left out.

    Names that differ only in what formats add to them (folder, suffix, ``rec_``) are the same; leading zeros count. A
    true tomogram that the found side does not list counts as missed, unless it is among ``lost``, whose files could
    not be read; a found one that the true side does not list is left out, since nobody said what is in it.

    Raises
    ------
    InputError
        The sides have no tomogram in common.
    """
    left, right = list(truth.tomograms), list(found.tomograms)
    partner = {name: name for name in left if name in set(right)}
    tidied = _tidy_partners([n for n in left if n not in partner], [n for n in right if n not in partner])
    partner |= tidied
    if whole and len(left) == len(right) == 1 and not partner:
        note = f"Tomogram {left[0]!r} of the truth is compared with {right[0]!r}: each side has but one."
        return [(left[0], right[0])], [note]
    if not left or (right and not partner):
        raise InputError(f"no tomogram in common: the truth has {_some(left)}, the found particles {_some(right)}")
    notes = []
    if tidied:
        same = _some([f"{a} = {b}" for a, b in tidied.items()])
        notes.append(f"{len(tidied)} tomograms go by their plain names: {same}.")
    unread = [name for name in left if tidy_name(name) in lost]
    missed = [name for name in left if name not in partner and name not in unread]
    if missed:
        notes.append(
            f"{len(missed)} tomograms of the truth have no found particles and count as missed: {_some(missed)}."
        )
    if unread:
        notes.append(f"{len(unread)} tomograms are left out, as their files cannot be read: {_some(unread)}.")
    extra = [name for name in right if name not in set(partner.values())]
    if extra:
        notes.append(f"{len(extra)} tomograms are left out, as the truth does not list them: {_some(extra)}.")
    return [(name, partner.get(name)) for name in left if name not in unread], notes


def _tidy_partners(left: Sequence[str], right: Sequence[str]) -> dict[str, str]:
    """Names of the right side by names of the left that are the same when made plain, where that is unambiguous."""
    plain = {tidy_name(name): name for name in right}
    times = Counter(tidy_name(name) for name in left), Counter(tidy_name(name) for name in right)
    return {name: plain[key] for name in left if times[0][key := tidy_name(name)] == 1 and times[1][key] == 1}


def _some(names: Sequence[str]) -> str:
    """The first few names."""
    return repr(list(names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
