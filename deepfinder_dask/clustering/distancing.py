"""The verb ``distance``: how far particles are from a structure, such as a membrane."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from deepfinder_dask.clustering.nearest_voxel import DistanceJob, distances_to
from deepfinder_dask.clustering.planning import plan_blocks
from deepfinder_dask.clustering.settings import DistanceSettings
from deepfinder_dask.clustering.sources import LabelMap, open_label_map
from deepfinder_dask.clustering.verb import checked_output
from deepfinder_dask.errors import InputError, SettingsError, VoxelSizeError
from deepfinder_dask.execution import Executor, open_executor, options_to_settings
from deepfinder_dask.particles import MAX_LABEL, ParticleClass, Particles, read_classes, read_particles
from deepfinder_dask.tomograms import VoxelSize, as_voxel_size
from deepfinder_dask.tomograms.location import AnyPath


def distance(
    particles: Particles | str | Path,
    segmentation: AnyPath | Sequence[AnyPath],
    output: AnyPath | None = None,
    settings: DistanceSettings | None = None,
    *,
    executor: Executor | None = None,
    progress: bool = True,
    **options: Any,
) -> Particles:
    """Measure how far particles are from the nearest voxel of a structure, exact for any blocks, and filter by it.

    The distance is that between the particle's position and the centre of the nearest voxel that has the label of the
    structure, in Å, with no limit unless one is given; voxels may be anisotropic. In Moebel et al. (2021) ribosomes
    within 273.6 Å of the membrane count as bound to it (Extended Data Fig. 8c).

    Parameters
    ----------
    particles : Particles, str or path
        A table, or a file in any known format that says its voxel sizes itself.
    segmentation : str, path, or several of them
        Label maps as for :func:`cluster`, each with its tomogram's name; one alone may belong to particles of one
        tomogram whatever it is called.
    output : str or path, optional
        Parquet file to write.
    settings : DistanceSettings, optional
        How; default the defaults.
    executor : Executor, optional
        Where block tasks run; by default as the settings say.
    progress : bool
        Show a bar where standard error is a terminal.
    **options
        Single fields of the settings, such as ``structure="membrane"``, ``within=273.6``.

    Returns
    -------
    Particles
        With a column ``distance_<structure>`` in Å (missing where there is no structure, or none within the maximum);
        of those that the filter keeps, in the same order.

    Raises
    ------
    InputError
        Particles or label maps cannot be read, or a tomogram with particles has no label map, or several.
    VoxelSizeError
        The voxel size of a label map is unknown.
    SettingsError
        An option is unknown or cannot work, or there is no such structure.
    OutputExistsError, StorageError
        The output is there and may not be replaced, or cannot be written.
    """
    chosen = options_to_settings(DistanceSettings, settings, options)
    target = checked_output(output, chosen.overwrite)
    scratch = Path.cwd() if target is None else target.absolute().parent
    measured, structure = measure_distances(
        particles, segmentation, chosen, scratch=scratch, executor=executor, progress=progress
    )
    result = filter_by_distance(measured, structure, within=chosen.within, beyond=chosen.beyond)
    if target is not None:
        result.write(target)
    return result


def measure_distances(
    particles: Particles | str | Path,
    segmentation: AnyPath | Sequence[AnyPath],
    settings: DistanceSettings,
    *,
    scratch: Path | None = None,
    executor: Executor | None = None,
    progress: bool = True,
) -> tuple[Particles, str]:
    """As :func:`distance`, but all particles stay.

    Parameters
    ----------
    particles, segmentation, settings, executor, progress
        As for :func:`distance`.
    scratch : Path, optional
        Folder for the temporary copy of a gzip or bzip2 file; default the current one.

    Returns
    -------
    particles : Particles
        With the column ``distance_<structure>``.
    structure : str
        Name of the structure.
    """
    table = read_particles(particles, voxel_size=settings.voxel_size)
    paths: list[AnyPath] = [segmentation] if isinstance(segmentation, str | PathLike) else list(segmentation)
    known = None if settings.classes is None else tuple(read_classes(settings.classes))
    values = np.full(len(table), np.nan)
    with ExitStack() as stack:
        opened = [stack.enter_context(open_label_map(path, scratch or Path.cwd())) for path in paths]
        sources = _by_tomogram(table, opened)
        structures = {name: structure_of(source, known, settings.structure) for name, source in sources.items()}
        structure = _one_name(structures)
        sizes = {name: _voxel_size(source, table, name, settings) for name, source in sources.items()}
        place = nullcontext(executor) if executor else open_executor(settings.workers, settings.scheduler)
        where = stack.enter_context(place)
        for name, source in sources.items():
            rows = np.flatnonzero(table.table["tomogram"].to_numpy() == name)
            job = DistanceJob(source.labels, structures[name].label, sizes[name])
            grid = plan_blocks(source.shape, source.unit, source.itemsize, block=settings.block, memory=settings.memory)
            positions = table.positions()[rows]
            values[rows] = distances_to(
                job, positions, grid, where, maximum=settings.maximum, name=name, progress=progress
            )
    return table.with_columns({f"distance_{structure}": values}), structure


def filter_by_distance(
    particles: Particles, structure: str, *, within: float | None = None, beyond: float | None = None
) -> Particles:
    """Particles no farther than ``within`` Å and farther than ``beyond`` Å; a missing distance is beyond every one."""
    values = particles.table[f"distance_{structure}"].to_numpy(dtype=np.float64)
    keep = np.ones(len(values), bool)
    if within is not None:
        keep &= values <= within
    if beyond is not None:
        keep &= ~(values <= beyond)
    return particles.where(keep)


def structure_of(source: LabelMap, known: tuple[ParticleClass, ...] | None, name: str | None) -> ParticleClass:
    """The class that is meant: by its name or label, or the only structure.

    Raises
    ------
    SettingsError
        There is no such class, or it is not clear which is meant.
    """
    classes = source.classes if known is None else known
    listed = ", ".join(f"{one.name} ({one.label})" for one in classes or ())
    if name is None:
        structures = [one for one in classes or () if one.kind == "structure"]
        if len(structures) != 1:
            raise SettingsError(
                f"{source.path} has {len(structures)} classes of kind structure ({listed or 'none named'}): "
                "say which with --structure NAME, or its label"
            )
        return structures[0]
    name = str(name)
    for one in classes or ():
        if name in (one.name, str(one.label)):
            return one
    if name.isdigit() and classes is None and 0 < int(name) <= MAX_LABEL:
        return ParticleClass(f"class_{int(name)}", int(name), kind="structure")
    what = f"its classes are {listed}" if classes else "it does not name its labels: give the label, or --classes"
    raise SettingsError(f"no structure {name!r} in {source.path}: {what}")


def _by_tomogram(particles: Particles, sources: list[LabelMap]) -> dict[str, LabelMap]:
    """The label map of each tomogram with particles."""
    names = [str(name) for name in dict.fromkeys(particles.table["tomogram"])] or list(particles.tomograms)
    if len(sources) == 1 and len(names) <= 1:
        return {names[0] if names else sources[0].name: sources[0]}
    found: dict[str, LabelMap] = {}
    for source in sources:
        if source.name in found:
            raise InputError(f"{source.path} and {found[source.name].path} are both of tomogram {source.name!r}")
        found[source.name] = source
    missing = [name for name in names if name not in found]
    if missing:
        raise InputError(
            f"no segmentation of tomogram {missing[0]!r} ({len(missing)} of {len(names)} tomograms have none); "
            f"those given are of {list(found)}"
        )
    return {name: found[name] for name in names}


def _voxel_size(source: LabelMap, particles: Particles, name: str, settings: DistanceSettings) -> VoxelSize:
    """Å per voxel of a label map, refused where it and the particles cannot be of the same tomogram.

    A binned label map differs in both, shape and voxel size; one that differs in one of them is another's.
    """
    size, facts = _said_voxel_size(source, particles, name, settings), particles.tomograms.get(name)
    if facts is not None and facts.shape is not None and facts.voxel_size is not None:
        alike = bool(np.allclose(size, facts.voxel_size, rtol=0.01))
        if alike != (tuple(facts.shape) == tuple(source.shape)):
            raise InputError(
                f"{source.path} has {tuple(source.shape)} voxels (z, y, x) of {size} Å, but the particles of {name!r} "
                f"are from {tuple(facts.shape)} voxels of {facts.voxel_size} Å: it is another tomogram, or a voxel "
                "size is wrong"
            )
    return size


def _said_voxel_size(source: LabelMap, particles: Particles, name: str, settings: DistanceSettings) -> VoxelSize:
    if settings.voxel_size is not None:
        return as_voxel_size(settings.voxel_size)
    facts = particles.tomograms.get(name)
    size = source.voxel_size
    if size is None and facts is not None and facts.shape in (None, source.shape):
        size = facts.voxel_size
    if size is None:
        raise VoxelSizeError(f"{source.path} does not say its voxel size: give it with --voxel-size Å")
    return size


def _one_name(structures: dict[str, ParticleClass]) -> str:
    names = sorted({one.name for one in structures.values()})
    if len(names) > 1:
        raise SettingsError(f"the segmentations name the structure differently ({', '.join(names)}): give its name")
    return names[0]
