"""From particles and settings to what is drawn: everything is checked here, before anything is written."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepfinder_dask.blocks import BlockGrid, Shape3
from deepfinder_dask.errors import GeometryError, InputError, SettingsError
from deepfinder_dask.particles import ParticleClass, Particles, ParticlesWarning, read_particles
from deepfinder_dask.targets.given import TOLERANCE, GivenLabels, open_labels
from deepfinder_dask.targets.objects import Objects, as_the_original, objects_of, rows_outside, touching
from deepfinder_dask.targets.painting import Canvas, Task, halo_of
from deepfinder_dask.targets.planning import plan_blocks
from deepfinder_dask.targets.recipes import Recipe, recipe_of
from deepfinder_dask.targets.settings import TargetSettings
from deepfinder_dask.targets.shapes import Shape, read_shape
from deepfinder_dask.tomograms import Tomogram
from deepfinder_dask.tomograms.regions import Region


class TargetWarning(UserWarning):
    """Something that may not be meant so."""


@dataclass(frozen=True)
class Job:
    """A target that can be painted."""

    recipe: Recipe
    """What to draw."""
    name: str
    """Name of the tomogram."""
    particles: Particles
    """Particles of this tomogram."""
    objects: Objects
    """What they are drawn as."""
    canvas: Canvas
    """What all blocks have in common."""
    grid: BlockGrid
    """The blocks."""
    annotated: tuple[str, ...]
    """Classes that are annotated here, in order of label."""
    masks: tuple[str, ...]
    """Path of the mask, if there is one."""

    def tasks(self) -> list[Task]:
        """All blocks with the particles that may touch them."""
        near = touching(self.objects, self.grid)
        nobody = np.zeros(0, dtype=np.intp)
        return [Task(block, self.objects.take(near.get(block.number, nobody))) for block in self.grid]

    def task_at(self, index: Shape3) -> Task:
        """The block at this position of the grid, with the particles that may touch it."""
        block = self.grid.at(index)
        near = (self.objects.high > block.read.start) & (self.objects.low < block.read.stop)
        return Task(block, self.objects.take(np.flatnonzero(near.all(axis=1))))


@contextmanager
def settled(
    particles: Particles | str | Path, tomogram: Tomogram, settings: TargetSettings, scratch: Path | None
) -> Iterator[Job]:
    """Everything that a target is painted from; good until the context ends, or longer without ``scratch``, a folder
    for temporary copies of compressed files.

    Raises
    ------
    InputError
        Something does not go together: see :func:`~deepfinder_dask.target`.
    """
    source = "the table of particles" if isinstance(particles, Particles) else str(particles)
    table = particles if isinstance(particles, Particles) else _read(particles, tomogram, settings)
    name = settings.name or tomogram.name
    here = _of_tomogram(table, tomogram, settings, source)
    recipe = recipe_of(settings, name, table.classes, source)
    here = _known(here, recipe, source)
    _check_places(here, tomogram, source)
    with ExitStack() as stack:
        known = tuple(one.label for one in recipe.classes)
        given = tuple(stack.enter_context(open_labels(one, tomogram, known, scratch)) for one in recipe.labels)
        masks = () if settings.mask is None else (settings.mask.replace("{tomogram}", name),)
        mask = Region.open(masks[0], shape=tomogram.shape) if masks else None
        annotated = _annotated(recipe, here, given, settings, table)
        shapes = _shapes(recipe, here, tomogram, settings)
        objects = _objects(recipe, here, tomogram, shapes, settings)
        kept = tuple(one.label for one in recipe.classes if one.name in annotated)
        canvas = Canvas(tomogram.voxel_size, shapes, given, mask, settings.ignore_shell, kept)
        halo = halo_of(settings.ignore_shell, tomogram.voxel_size)
        grid = plan_blocks(tomogram.shape, shapes, halo=halo, block=settings.block, memory=settings.memory)
        yield Job(recipe, name, here, objects, canvas, grid, annotated, masks)


def _read(path: str | Path, tomogram: Tomogram, settings: TargetSettings) -> Particles:
    """Particles of any format; what counts in voxels counts in the tomogram's."""
    with warnings.catch_warnings():  # positions outside are refused, once their tomogram is drawn
        warnings.filterwarnings("ignore", ".*lie outside of their tomograms", ParticlesWarning)
        return read_particles(path, classes=settings.classes, voxel_size=tomogram.voxel_size, shape=tomogram.shape)


def _of_tomogram(table: Particles, tomogram: Tomogram, settings: TargetSettings, source: str) -> Particles:
    """The rows of this tomogram: by its name, or all where the table has one tomogram and nobody names it."""
    names = list(table.tomograms)
    name = settings.name or (names[0] if len(names) == 1 else tomogram.name)
    if name not in names:
        listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        raise InputError(
            f"no tomogram {name!r} in {source}, which has {listed or 'none'}: say which it is with --name NAME"
        )
    facts = table.tomograms[name]
    same = facts.voxel_size is None or np.allclose(facts.voxel_size, tomogram.voxel_size, rtol=TOLERANCE)
    if facts.shape is not None and same and facts.shape != tomogram.shape:
        raise GeometryError(
            f"the particles of {name!r} in {source} were found in {facts.shape} voxels (z, y, x), {tomogram.path} has "
            f"{tomogram.shape}: give the tomogram that they belong to"
        )
    return table.of_tomogram(name)


def _known(particles: Particles, recipe: Recipe, source: str) -> Particles:
    """Particles under the names of the recipe's classes, by name or, where they have none, by label."""
    by_name = {one.name: one for one in recipe.classes}
    by_label = {one.label: one for one in recipe.classes}
    renamed: dict[str, ParticleClass] = {}
    for one in particles.classes:
        count = particles.counts()[one.name]
        found = by_name.get(one.name) or (by_label.get(one.label) if one.unnamed else None)
        if found is None and count:
            raise InputError(
                f"{source} has {count} particles of class {one.name!r} (label {one.label}), which is none of the "
                f"classes in {recipe.source}, {recipe.names()}: add it there, or drop them"
            )
        if found is not None:
            renamed[one.name] = found
    columns: dict[str, Any] = {
        "class": [renamed[name].name for name in particles.table["class"]],
        "label": [renamed[name].label for name in particles.table["class"]],
    }
    frame = particles.table.assign(**columns)
    return Particles(frame, particles.tomograms, recipe.classes)


def _check_places(particles: Particles, tomogram: Tomogram, source: str) -> None:
    centres = particles.positions() / np.asarray(tomogram.voxel_size)
    outside = rows_outside(centres, tomogram.shape)
    if outside.size:
        row = int(outside[0])
        more = f" (and {outside.size - 1} more)" if outside.size > 1 else ""
        raise GeometryError(
            f"a position is outside its tomogram: particle {row} of {source} in {tomogram.name}{more} is at voxel "
            f"{np.round(centres[row], 1).tolist()} of {list(tomogram.shape)} (z, y, x); check the voxel size, "
            f"{list(tomogram.voxel_size)} Å, and the tomogram"
        )


def _annotated(
    recipe: Recipe, here: Particles, given: Sequence[GivenLabels], settings: TargetSettings, table: Particles
) -> tuple[str, ...]:
    """Classes that are annotated in this tomogram; a particle class needs positions, or a map that is given for it."""
    for name in settings.annotated:
        recipe.class_named(name, "--annotated")
    if settings.annotated:
        return tuple(name for name in recipe.names() if name in settings.annotated)
    counts, elsewhere = here.counts(), table.counts()
    mapped = {one.label for one in given}
    found = []
    for one in recipe.classes:
        has_some = counts[one.name] > 0 or one.label in mapped or (None in mapped and one.kind == "structure")
        if not has_some and one.kind == "particle":
            if not elsewhere.get(one.name):
                raise InputError(
                    f"class {one.name!r} is a particle without positions: add some, make it a structure, or name the "
                    f"classes that are annotated in this tomogram with --annotated"
                )
            warnings.warn(
                f"class {one.name!r} has no positions in this tomogram, but {elsewhere[one.name]} in others: taken as "
                "annotated, with none here; name the annotated classes with --annotated if that is not so",
                TargetWarning,
                stacklevel=2,
            )
            has_some = True
        if has_some:
            found.append(one.name)
    return tuple(found)


def _shapes(recipe: Recipe, here: Particles, tomogram: Tomogram, settings: TargetSettings) -> tuple[Shape, ...]:
    """Shapes of the classes that have particles."""
    counts = here.counts()
    return tuple(
        read_shape(one.name, recipe.shapes[one.name], one.radius, tomogram.voxel_size, as_it_is=settings.compat)
        for one in recipe.classes
        if one.name in recipe.shapes and counts[one.name]
    )


def _objects(
    recipe: Recipe, here: Particles, tomogram: Tomogram, shapes: tuple[Shape, ...], settings: TargetSettings
) -> Objects:
    """What is drawn for each particle; refuses those of which nobody knows how."""
    angles = here.orientations()
    names = here.table["class"].tolist()
    for one in recipe.classes:
        rows = np.array([name == one.name for name in names], dtype=bool)
        if not rows.any():
            continue
        turned = one.name in recipe.shapes
        if not turned and one.radius is None:
            raise SettingsError(
                f"class {one.name!r} has no radius and no shape to draw its {int(rows.sum())} particles from: give "
                f"radius (Å) or target.shape in {recipe.source}, or --shapes {one.name}=FILE"
            )
        unknown = int(np.isnan(angles[rows]).any(axis=1).sum())
        if turned and unknown and one.radius is None:
            raise SettingsError(
                f"class {one.name!r} has a shape, but {unknown} of its {int(rows.sum())} particles have no angles to "
                f"turn it by (rot, tilt, psi), and no radius for spheres instead: give one in {recipe.source}"
            )
        if turned and unknown:
            warnings.warn(
                f"{unknown} of {int(rows.sum())} particles of class {one.name!r} have no angles (rot, tilt, psi): "
                f"they are drawn as spheres of {one.radius:g} Å",
                TargetWarning,
                stacklevel=2,
            )
    classes = {one.name: one for one in recipe.classes}
    centres = here.positions() / np.asarray(tomogram.voxel_size)
    objects = objects_of(centres, angles, names, classes, shapes, tomogram.voxel_size)
    if not settings.compat:
        return objects
    if len(set(tomogram.voxel_size)) > 1:
        raise SettingsError(f"compat needs cubic voxels, {tomogram.path} has {tomogram.voxel_size} Å (z, y, x)")
    return as_the_original(objects, shapes, tomogram.voxel_size)
