"""Training data: tomograms with their targets and particles, checked before anything is learnt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.errors import GeometryError, SettingsError, VoxelSizeError
from deepfinder_dask.particles import ParticleClass, Particles, check_classes, classes_from_dicts
from deepfinder_dask.simulation.config import read_config as read_simulation
from deepfinder_dask.tomograms import Imaging, Normalisation, Region, Tomogram, read_attributes
from deepfinder_dask.training.config import Example, TrainingConfig
from deepfinder_dask.training.counting import WholeTomogram
from deepfinder_dask.training.patches import NEGATIVE, Annotated

TOLERANCE = 0.05
"""Voxel sizes of tomograms trained on together agree within this fraction."""


@dataclass(frozen=True)
class TrainingData:
    """All that is learnt from and judged by."""

    train: tuple[Annotated, ...]
    """Tomograms to learn from."""
    validation: tuple[Annotated, ...]
    """Tomograms to judge by."""
    whole: tuple[WholeTomogram, ...]
    """The same, with the particles to be found in them."""
    classes: tuple[ParticleClass, ...]
    """Classes, labels 1, 2, … without gaps."""
    voxel_size: float
    """Å, of the first tomogram."""
    imaging: Imaging
    """Contrast and axes, the same for all."""
    normalisation: Normalisation
    """How grey values are normalised."""
    provenance: dict[str, Any]
    """Names and sources of the tomograms, and what is held out: JSON values."""


def open_data(config: TrainingConfig, root: Path) -> TrainingData:
    """Open all tomograms, targets and particles of a configuration; reads no voxels where statistics are known.

    Parameters
    ----------
    config : TrainingConfig
    root : Path
        Folder that the paths count from.

    Returns
    -------
    TrainingData

    Raises
    ------
    InputError
        If a file is missing or damaged, shapes, voxel sizes, imaging or classes disagree, a position is outside its
        tomogram, a class has no positions or is nowhere annotated, or a held-out simulation is among the tomograms.
    """
    normalisation = Normalisation(config.normalisation)
    opened = [_Opened.of(example, root, normalisation) for example in (*config.train, *config.validation)]
    first = opened[0]
    for other in opened[1:]:
        _same(first, other)
    labels = [c.label for c in first.classes]
    if labels != list(range(1, len(labels) + 1)):
        raise SettingsError(f"expected classes with labels 1, 2, … without gaps, got {labels}; renumber them")
    learnt = opened[: len(config.train)]
    for one in first.classes:
        there = [o.annotated for o in learnt if o.annotated.known is None or one.label in o.annotated.known]
        if not there:
            raise SettingsError(f"class {one.name!r} is annotated in no training tomogram; drop it, or annotate it")
        if one.kind == "particle" and not any((a.position_labels == one.label).any() for a in there):
            raise SettingsError(f"class {one.name!r} has no positions in any training tomogram; add some or drop it")
    held_out = _held_out(config.held_out, opened)
    return TrainingData(
        train=tuple(o.annotated for o in learnt),
        validation=tuple(o.annotated for o in opened[len(config.train) :]),
        whole=tuple(o.whole() for o in opened[len(config.train) :]),
        classes=first.classes,
        voxel_size=float(np.mean(first.tomogram.voxel_size)),
        imaging=first.tomogram.imaging,
        normalisation=normalisation,
        provenance={
            "train": [o.origin() for o in learnt],
            "validation": [o.origin() for o in opened[len(config.train) :]],
            "held_out": held_out,
        },
    )


@dataclass(frozen=True)
class _Opened:
    """One example, opened."""

    tomogram: Tomogram
    particles: Particles
    annotated: Annotated
    classes: tuple[ParticleClass, ...]
    mask: str | None

    @classmethod
    def of(cls, example: Example, root: Path, normalisation: Normalisation) -> _Opened:
        tomogram = Tomogram.open(root / example.tomogram)
        target = Tomogram.open(root / example.target, voxel_size=tomogram.voxel_size)
        if target.shape != tomogram.shape:
            raise GeometryError(
                f"target and tomogram must have one shape: {example.target} is {target.shape}, "
                f"{example.tomogram} is {tomogram.shape} (z, y, x)"
            )
        if target.dtype.kind not in "iu":
            raise GeometryError(f"a target holds whole numbers (labels), {example.target} holds {target.dtype}")
        particles, positions = _positions(root, example.particles, tomogram)
        facts = read_attributes(str(root / example.target))
        classes = _classes(example, facts, particles.classes)
        known = _known(example, facts, classes)
        labels = particles.table["label"].to_numpy(dtype=np.int64)
        if known is not None:
            listed = np.isin(labels, known)
            particles, positions, labels = particles.where(listed), positions[listed], labels[listed]
        if example.negatives is not None:
            negatives = _positions(root, example.negatives, tomogram)[1]
            positions = np.concatenate([positions, negatives])
            labels = np.concatenate([labels, np.full(len(negatives), NEGATIVE)])
        mask = None if example.mask is None else str(root / example.mask)
        region = None if mask is None else Region.open(mask, shape=tomogram.shape)
        statistics = normalisation.measure(tomogram, None if region is None else region.read)
        annotated = Annotated(
            tomogram.name,
            tomogram.shape,
            tomogram.volume,
            target.volume,
            normalisation.scaling(statistics),
            positions,
            labels,
            known,
        )
        if region is not None:  # what a whole validation tomogram is searched for
            particles = particles.where(region.contains(particles.positions() / np.asarray(tomogram.voxel_size)))
        return cls(tomogram, particles, annotated, classes, mask)

    def origin(self) -> dict[str, Any]:
        """Name, particles and source of the tomogram."""
        source = self.tomogram.source
        kept = source.get("simulation") or {k: source[k] for k in ("file", "format") if k in source}
        facts = {"tomogram": self.tomogram.name, "particles": self.particles.counts(), "source": kept}
        negatives = int((self.annotated.position_labels == NEGATIVE).sum())
        if negatives:
            facts["negatives"] = negatives
        if self.annotated.known is not None:
            facts["annotated"] = list(self.names())
        return facts

    def names(self) -> tuple[str, ...]:
        """Classes that are annotated."""
        known = self.annotated.known
        return tuple(c.name for c in self.classes if known is None or c.label in known)

    def whole(self) -> WholeTomogram:
        """What a count of particles needs."""
        return WholeTomogram(self.tomogram, self.particles, self.names(), self.mask)


def _positions(root: Path, file: str, tomogram: Tomogram) -> tuple[Particles, NDArray[np.float64]]:
    """Particles of a tomogram, and their positions in voxels, (n, 3), z, y, x; each must lie inside."""
    particles = Particles.read(root / file).of_tomogram(tomogram.name)
    positions = particles.positions() / np.asarray(tomogram.voxel_size)
    outside = np.any((positions < -0.5) | (positions > np.asarray(tomogram.shape) - 0.5), axis=1)
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise GeometryError(
            f"a position lies outside its tomogram: row {row} of {file} is at voxel "
            f"{np.round(positions[row], 1).tolist()} of {tomogram.shape} (z, y, x); check the voxel size"
        )
    return particles, positions


def _classes(example: Example, facts: Mapping[str, Any], ours: tuple[ParticleClass, ...]) -> tuple[ParticleClass, ...]:
    """Classes of the particles, and those that the target has beside them, such as membranes from a given map."""
    theirs = classes_from_dicts(facts.get("classes", []))
    mine = {c.label: c.name for c in ours}
    if any(mine.get(c.label, c.name) != c.name for c in theirs):
        raise SettingsError(
            f"target and particles must have the same classes: {example.target} has "
            f"{ {c.label: c.name for c in theirs} }, {example.particles} has {mine}; make the target again"
        )
    return check_classes([*ours, *(c for c in theirs if c.label not in mine)])


def _known(example: Example, facts: Mapping[str, Any], classes: tuple[ParticleClass, ...]) -> tuple[int, ...] | None:
    """Labels annotated in a tomogram, by the configuration or else by the target; None where all are."""
    names = example.annotated
    if names is None and "annotated" in facts:
        names = tuple(str(name) for name in facts["annotated"])
    if names is None:
        return None
    labels = {c.name: c.label for c in classes}
    for name in names:
        if name not in labels:
            raise SettingsError(f"annotated names {name!r}, but the classes of {example.particles} are {list(labels)}")
    known = tuple(sorted(labels[name] for name in names))
    return None if len(known) == len(labels) else known


def _same(first: _Opened, other: _Opened) -> None:
    """Refuse tomograms that cannot be learnt from together."""
    a, b = np.asarray(first.tomogram.voxel_size), np.asarray(other.tomogram.voxel_size)
    if np.any(np.abs(a - b) > TOLERANCE * a):
        raise VoxelSizeError(
            f"all tomograms need one voxel size: {first.tomogram.name} has {a.tolist()} Å, "
            f"{other.tomogram.name} {b.tolist()} Å; resample one of them"
        )
    if first.tomogram.imaging != other.tomogram.imaging:
        raise SettingsError(
            f"all tomograms need the same contrast and axes: {first.tomogram.name} has {first.tomogram.imaging}, "
            f"{other.tomogram.name} {other.tomogram.imaging}; convert one of them again"
        )
    mine, theirs = ({c.label: c.name for c in o.classes} for o in (first, other))
    if mine != theirs:
        raise SettingsError(
            f"all particles need the same classes: {first.tomogram.name} has {mine}, {other.tomogram.name} {theirs}"
        )


def _held_out(names: tuple[str, ...], opened: list[_Opened]) -> list[dict[str, Any]]:
    """Facts of the simulations that must stay unseen, after checking that they are: neither seed nor imaging recurs."""
    facts = []
    for name in names:
        for scene in read_simulation(name).tomograms:
            imaging = asdict(scene.imaging)
            facts.append({"simulation": name, "tomogram": scene.name, "seed": scene.seed, "imaging": imaging})
            for one in opened:
                made = one.tomogram.source.get("simulation", {})
                if made.get("seed") == scene.seed or made.get("imaging") == imaging:
                    raise SettingsError(
                        f"held_out {name!r} must stay unseen, but {one.tomogram.name} has the seed or the imaging "
                        f"of its {scene.name!r}; simulate it with others"
                    )
    return facts
