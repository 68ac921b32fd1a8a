"""Reading the true and the found particles: a file, a folder, or many files by a pattern."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deepfinder_dask.errors import FormatError, GeometryError, InputError, VoxelSizeError
from deepfinder_dask.evaluation.settings import EvaluateSettings
from deepfinder_dask.particles.classes import ParticleClass
from deepfinder_dask.particles.formats import format_of_file, read_particles
from deepfinder_dask.particles.formats.names import tidy_name
from deepfinder_dask.particles.formats.templates import is_template
from deepfinder_dask.particles.settings import ImportSettings
from deepfinder_dask.particles.table import Particles

Source = Particles | str | Path


@dataclass(frozen=True)
class Read:
    """Particles of one side."""

    particles: Particles
    """All of them."""
    failures: dict[str, str] = field(default_factory=dict)
    """Files among many that could not be read, and why."""

    def lost(self) -> set[str]:
        """Tomograms that the names of these files stand for."""
        paths = [Path(path) for path in self.failures]
        return {tidy_name(name) for path in paths for name in (path.stem, *path.parts[:-1])}


def read_both(
    truth: Source, found: Source, settings: EvaluateSettings, classes: Sequence[ParticleClass]
) -> tuple[Particles, Particles]:
    """Both tables, as :func:`read_sides` reads them, and no file of them damaged (a FormatError)."""
    sides = read_sides(truth, found, settings, classes)
    for problem in [problem for side in sides for problem in side.failures.values()]:
        raise FormatError(problem)
    return sides[0].particles, sides[1].particles


def read_sides(
    truth: Source, found: Source, settings: EvaluateSettings, classes: Sequence[ParticleClass]
) -> tuple[Read, Read]:
    """Both sides; a file that lacks voxel size or shape takes them from the other side, if that has but one.

    Raises
    ------
    InputError
        A file is missing or damaged, or facts are missing that neither side has. One damaged file of many is set aside.
    """
    sources = {"truth": truth, "found": found}
    sides: dict[str, Read] = {}
    failed: dict[str, InputError] = {}
    given = ImportSettings(voxel_size=settings.voxel_size, shape=settings.shape)
    for side, source in sources.items():
        try:
            sides[side] = read_source(source, classes, given)
        except (VoxelSizeError, GeometryError) as error:
            failed[side] = error
    for side, problem in failed.items():
        facts = {one for read in sides.values() for one in read.particles.tomograms.values()}
        if len(facts) != 1:
            raise problem
        one = facts.pop()
        completed = ImportSettings(
            voxel_size=one.voxel_size if settings.voxel_size is None else settings.voxel_size,
            shape=one.shape if settings.shape is None else settings.shape,
        )
        sides[side] = read_source(sources[side], classes, completed)
    return sides["truth"], sides["found"]


def read_source(source: Source, classes: Sequence[ParticleClass], settings: ImportSettings) -> Read:
    """Particles of a file, folder or pattern.

    Parameters
    ----------
    source
        A table; a file in any format; a pattern such as ``found/*.star`` or ``picks/{tomogram}.csv``; a folder of one
        format (copick), of files, or of folders of ``locate``.
    classes
        Known classes.
    settings
        What the files do not say themselves.

    Raises
    ------
    InputError
        There is nothing, or none of the files can be read.
    """
    if isinstance(source, Particles):
        return Read(source)
    path = Path(source)
    files = _files_of(path)
    if files is None:
        return Read(read_particles(path, classes=classes, settings=settings))
    parts: list[Particles] = []
    failures: dict[str, str] = {}
    first: FormatError | None = None
    known = tuple(classes)
    names: dict[str, Path] = {}
    for file in files:
        try:
            part = read_particles(file, classes=known, settings=settings)
        except FormatError as error:
            failures[str(file)] = str(error)
            first = first or error
            continue
        for name in part.tomograms:
            other = names.setdefault(name, file)
            if other != file and file.with_suffix("") == other.with_suffix(""):
                raise InputError(f"{other} and {file} list one tomogram, {name!r}, twice; name one of them")
            if other != file and name == file.stem == other.stem:
                raise InputError(
                    f"{other} and {file} name no tomogram and have one name; say where it is, as in "
                    f"'{path.parent}/{{tomogram}}/{file.name}'"
                )
        parts.append(part)
        known = tuple({one.name: one for one in (*known, *part.classes)}.values())
    if first is not None and not parts:
        raise first
    return Read(Particles.concat(parts), failures)


def _files_of(path: Path) -> list[Path] | None:
    """Files that a pattern or a folder stands for; None where it is one source of its own.

    Raises
    ------
    InputError
        There is none.
    """
    if is_template(path):
        return None
    if path.is_dir():
        try:
            format_of_file(path)
        except FormatError:
            inside = sorted(one for one in path.iterdir() if not one.name.startswith("."))
            files = [one for one in inside if _is_list(one)]
            if not files:
                raise InputError(f"{path}: no lists of particles in this folder") from None
            return files
        return None
    if path.exists() or not glob.has_magic(str(path)):
        return None
    files = [Path(one) for one in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207  # absolute patterns too
    if not files:
        raise InputError(f"{path}: no such files (expected lists of particles)")
    return files


def _is_list(path: Path) -> bool:
    """Whether a file, or a folder of ``locate``, is a list of particles."""
    try:
        return format_of_file(path).name != "copick" or path.is_dir()
    except FormatError:
        return False
