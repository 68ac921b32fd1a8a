"""One list of classes for several tables, whatever each calls them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from deepfinder_dask.particles.classes import ParticleClass, check_classes
from deepfinder_dask.particles.formats.base import number_names
from deepfinder_dask.particles.table import Particles


def share_classes(
    sets: Mapping[str, Particles], given: Sequence[ParticleClass]
) -> tuple[tuple[ParticleClass, ...], dict[str, dict[str, str]]]:
    """Classes of all sets, and the name that each set's own classes have among them.

    Classes are the same when their names are. A name that says no more than the label (``class_3``) is the same as what
    another set, the first by name, calls that label. Radii are those given, else the smallest of the sets; a class is a
    structure if any says so. Where two classes have one label, the second by name of its set takes a free one.

    Parameters
    ----------
    sets
        Tables by name; their order changes nothing.
    given
        Classes that are known beforehand; those that no set has are left out.

    Returns
    -------
    classes : tuple of ParticleClass
        In order of label.
    names : dict
        By set, the name here of each of its own classes.
    """
    told = {one.name: one for one in given}
    named: dict[str, ParticleClass] = dict(told)
    for name in sorted(sets):
        for one in sets[name].classes:
            if not one.unnamed:
                named.setdefault(one.name, one)
    names: dict[str, dict[str, str]] = {}
    alike: dict[str, list[ParticleClass]] = {}
    for name in sorted(sets):
        own = {one.name for one in sets[name].classes}
        names[name] = {}
        for one in sets[name].classes:
            free = (other.name for other in named.values() if other.label == one.label and other.name not in own)
            shown = next(free, one.name) if one.unnamed else one.name
            own.add(shown)
            names[name][one.name] = shown
            alike.setdefault(shown, []).append(one)
    labels: dict[str, int] = {}
    for shown, ones in alike.items():
        label = told[shown].label if shown in told else ones[0].label
        if label not in labels.values():
            labels[shown] = label
    taken = [ParticleClass(shown, label) for shown, label in labels.items()]
    labels |= {one.name: one.label for one in number_names(set(alike) - set(labels), taken)}
    result = []
    for shown, ones in alike.items():
        first = told.get(shown, ones[0])
        radii = [one.radius for one in ones if one.radius is not None]
        radius = first.radius if shown in told and first.radius is not None else min(radii, default=None)
        kind = first.kind if first.kind == "structure" else max(one.kind for one in ones)  # particle < structure
        result.append(replace(first, name=shown, label=labels[shown], radius=radius, kind=kind))
    return check_classes(result), {name: names[name] for name in sets}
