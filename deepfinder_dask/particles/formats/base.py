"""What every file format of particle lists offers, and what they share."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deepfinder_dask.errors import SettingsError, VoxelSizeError
from deepfinder_dask.particles.checks import whole_numbers
from deepfinder_dask.particles.classes import MAX_LABEL, ParticleClass, check_classes, placeholder_name
from deepfinder_dask.particles.facts import TomogramFacts, VoxelSize, as_voxel_size
from deepfinder_dask.particles.settings import ExportSettings, ImportSettings
from deepfinder_dask.particles.table import Particles


class ParticlesWarning(UserWarning):
    """Something a format cannot say, or that had to be taken for granted."""


@dataclass(frozen=True)
class Hints:
    """What the reader is told beside the file."""

    settings: ImportSettings
    """Settings of the import."""
    classes: tuple[ParticleClass, ...] = ()
    """Known classes; a file's own names and labels are completed from them."""
    tomogram: str | None = None
    """Tomogram of a file that names none, as the name of the file says."""
    class_name: str | None = None
    """Class of a file that names none, as the name of the file says."""

    @property
    def facts(self) -> TomogramFacts:
        """Voxel size and shape as told, for every tomogram of the file."""
        return TomogramFacts(as_voxel_size(self.settings.voxel_size), self.settings.shape)


class ParticleFormat(Protocol):
    """One file format: its name, what it can hold, reading and writing."""

    name: str
    """Name in settings and on the command line."""
    suffixes: tuple[str, ...]
    """File suffixes, lower case, the usual one first; none for folders."""
    carries: frozenset[str]
    """Which of ``tomogram``, ``class`` (names), ``score``, ``size_voxels``, ``orientation``, ``extra``, ``empty``
    (tomograms without particles) and ``facts`` a file holds; the rest is lost, or told again by hints."""
    layout: str
    """Where files lie in a folder if one holds a single tomogram: ``{tomogram}.mod``; empty if one holds many."""

    def recognises(self, path: Path, head: str) -> bool:
        """Whether a file that begins with this text, or a folder (``head`` is empty), is of this format."""
        ...

    def read(self, path: Path, hints: Hints) -> Particles:
        """Read a file or folder.

        Raises
        ------
        FormatError
            It is damaged, or not of this format.
        VoxelSizeError
            It counts in voxels and nobody says how large they are.
        """
        ...

    def outputs(self, particles: Particles, path: Path, settings: ExportSettings) -> list[Path]:
        """Files that :meth:`write` would write."""
        ...

    def write(self, particles: Particles, path: Path, settings: ExportSettings) -> list[Path]:
        """Write, each file whole or not at all; files that are there are replaced. Return what was written.

        Raises
        ------
        StorageError
            A file cannot be written.
        VoxelSizeError, GeometryError
            The format needs a voxel size or shape that is unknown.
        """
        ...


def complete(
    frame: pd.DataFrame,
    hints: Hints,
    tomograms: Mapping[str, TomogramFacts] | None = None,
    names: Iterable[ParticleClass] = (),
) -> Particles:
    """Table from the columns that a file has, its classes completed from the hints.

    Parameters
    ----------
    frame
        ``tomogram``, ``x``, ``y``, ``z`` in Å; ``class`` or ``label`` or both or none; any other column.
    hints
        Known classes, facts for all tomograms. A class that the hints name keeps the hints' label and radius; one that
        only the hints have, with a label that the file gives to another, is left out.
    tomograms
        Facts that the file itself holds; what they leave unknown comes from the hints.
    names
        Classes that the file itself declares, with or without particles.
    """
    frame = frame.copy()
    known = {one.name: one for one in hints.classes}
    if "label" in frame.columns:
        frame["label"] = whole_numbers(frame, "label").astype("int64")
    if hints.class_name is not None and "class" not in frame.columns and "label" not in frame.columns:
        frame["class"] = hints.class_name
        names = [*names, *number_names({hints.class_name} - set(known), known.values())]
    elif "class" not in frame.columns and "label" not in frame.columns:
        only = hints.classes[0] if len(hints.classes) == 1 else ParticleClass(placeholder_name(1), 1)
        frame["class"] = only.name
        known.setdefault(only.name, only)
    elif "class" not in frame.columns:
        by_label = {one.label: one.name for one in hints.classes}
        frame["class"] = [by_label.get(n, placeholder_name(n)) for n in frame["label"].tolist()]
    declared = {one.name: one for one in names}
    if "label" in frame.columns:
        pairs = frame[["class", "label"]].drop_duplicates()
        for name, label in zip(pairs["class"], pairs["label"], strict=True):
            declared.setdefault(str(name), ParticleClass(str(name), int(label)))
    used = {str(name) for name in frame["class"]} | set(declared)
    for name, one in declared.items():
        if name not in known:
            known = {other: it for other, it in known.items() if it.label != one.label or other in used}
            known[name] = one
    known.update({one.name: one for one in number_names(used - set(known), known.values())})
    frame["label"] = [known[str(name)].label for name in frame["class"].tolist()]
    facts = {str(name): hints.facts for name in frame["tomogram"].unique()}
    facts.update({name: one.merged(hints.facts) for name, one in (tomograms or {}).items()})
    return Particles(frame, facts, check_classes(known.values()))


def number_names(names: Collection[str], known: Iterable[ParticleClass]) -> list[ParticleClass]:
    """Classes for names without labels: the number in ``class_3``, else the first that is free, in order of names.

    Raises
    ------
    SettingsError
        There are more names than labels.
    """
    free = sorted(set(range(1, MAX_LABEL + 1)) - {one.label for one in known})
    own = {placeholder_name(label): label for label in free}
    labels = {name: own[name] for name in sorted(names) if name in own}
    rest = iter(label for label in free if label not in labels.values())
    for name in sorted(set(names) - set(labels)):
        label = next(rest, None)
        if label is None:
            raise SettingsError(f"no label from 1 to {MAX_LABEL} is left for class {name!r}")
        labels[name] = label
    return [ParticleClass(name, label) for name, label in labels.items()]


def one_tomogram(path: Path, hints: Hints) -> str:
    """Name of the tomogram of a file that names none: the one told, else by the file's own name."""
    if hints.tomogram is not None:
        return hints.tomogram
    return hints.settings.tomograms[0] if hints.settings.tomograms else path.stem


def needed_voxel_size(path: Path, told: VoxelSize | None) -> VoxelSize:
    """Å per voxel (z, y, x) for a file whose positions are in voxels.

    Raises
    ------
    VoxelSizeError
        It is unknown.
    """
    if told is None:
        raise VoxelSizeError(f"{path}: positions are in voxels; give the voxel size of the tomogram (--voxel-size)")
    return told


def compare_sizes(path: Path, told: VoxelSize | None, found: float | None) -> None:
    """Warn when the told voxel size is not the one that a file has (Å); the told one counts."""
    if told is not None and found is not None and max(abs(size - found) for size in told) > 0.01 * found:
        warnings.warn(
            f"{path}: has voxels of {found:g} Å, but {told} Å (z, y, x) is told and taken",
            ParticlesWarning,
            stacklevel=4,
        )


def warn_of_unknown(path: Path, names: Iterable[str], what: str, done: str = "passed over") -> None:
    """Warn of columns or the like that a format does not know, counted and named; nothing for none."""
    unknown = sorted({str(name) for name in names})
    if unknown:
        words = f"1 unknown {what} is" if len(unknown) == 1 else f"{len(unknown)} unknown {what}s are"
        shown = f"{unknown[:8]}" + (f" and {len(unknown) - 8} more" if len(unknown) > 8 else "")
        warnings.warn(f"{path}: {words} {done}: {shown}", ParticlesWarning, stacklevel=4)


def in_voxels(particles: Particles) -> NDArray[np.float64]:
    """Positions of all particles in voxels of their own tomograms, (n, 3) float64, (x, y, z), counted from 0.

    Raises
    ------
    VoxelSizeError
        The voxel size of a tomogram with particles is unknown.
    """
    names = particles.table["tomogram"].tolist()
    sizes = {name: particles.voxel_size(str(name)) for name in dict.fromkeys(names)}
    zyx: NDArray[np.float64] = particles.positions() / np.array([sizes[name] for name in names]).reshape(-1, 3)
    return zyx[:, ::-1]
