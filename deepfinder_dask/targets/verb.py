"""``target``: particles in, the label map that a network is trained on out."""

from __future__ import annotations

import tempfile
import warnings
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import triple
from deepfinder_dask.errors import SettingsError
from deepfinder_dask.execution import Executor, Progress, hold, open_executor, options_to_settings
from deepfinder_dask.particles import Particles, classes_to_dicts
from deepfinder_dask.targets.job import Job, TargetWarning, settled
from deepfinder_dask.targets.painting import LABELS, PaintBlock, Tally, paint
from deepfinder_dask.targets.settings import TargetSettings
from deepfinder_dask.targets.store import (
    KIND,
    Target,
    as_attributes,
    create_target,
    finish_target,
    names_of,
    overlaps_of,
)
from deepfinder_dask.tomograms import Tomogram
from deepfinder_dask.tomograms.location import AnyPath, is_inside, is_remote, normalise
from deepfinder_dask.tomograms.storage import check_output

if TYPE_CHECKING:
    import dask.array


@overload
def target(
    particles: Particles | str | Path,
    tomogram: Tomogram | str | Path,
    output: AnyPath,
    settings: TargetSettings | None = None,
    *,
    compute: Literal[True] = True,
    executor: Executor | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Target: ...


@overload
def target(
    particles: Particles | str | Path,
    tomogram: Tomogram | str | Path,
    output: None = None,
    settings: TargetSettings | None = None,
    *,
    compute: Literal[False],
    **options: Any,
) -> dask.array.Array: ...


def target(
    particles: Particles | str | Path,
    tomogram: Tomogram | str | Path,
    output: AnyPath | None = None,
    settings: TargetSettings | None = None,
    *,
    compute: bool = True,
    executor: Executor | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Target | dask.array.Array:
    """Draw the label map of a tomogram from the positions of its particles (Moebel et al. 2021, Methods).

    A class is drawn as spheres of its radius or, where it has a shape (a density map or a mask) and its particles have
    angles, as that shape, turned; structures such as membranes come from given label maps. A voxel belongs to a
    particle where its centre is within the sphere or the shape.

    No voxel is silently overwritten. Where particles overlap, the nearer centre gets the voxel, at the same distance
    the smaller label; particles go over given maps, and of several maps the smallest label counts. Voxels claimed
    twice are counted by pair of classes. Neither the order of particles nor blocks or workers change a voxel.

    Parameters
    ----------
    particles : Particles, str or path
        A table, or its file in any format; rows of other tomograms are passed over.
    tomogram : Tomogram, str or path
        The tomogram, or any Zarr volume (z, y, x) whose voxel size is known: gives shape and voxel size.
    output : str or path
        Store to make; its layout is in :mod:`deepfinder_dask.targets.store`. None for ``compute=False``.
    settings : TargetSettings, optional
        How; single settings can be given as keyword options instead.
    compute : bool
        False writes nothing, and returns the label map as a lazy Dask array whose chunks are the blocks.
    executor : Executor, optional
        Where blocks are drawn; by default as the settings say.
    progress : bool, optional
        Show a progress bar; by default on a terminal.
    **options
        Fields of :class:`TargetSettings`.

    Returns
    -------
    Target
        Handle of the label map, (z, y, x) uint8, with 0 for background and 255 for *ignore*, and what was counted; a
        dask.array.Array for ``compute=False``.

    Raises
    ------
    InputError
        The table has no such tomogram or other classes, or a particle class has no positions.
    GeometryError
        A position is outside the tomogram, a shape is not cubic, or a given map has another shape than the tomogram.
    VoxelSizeError
        The voxel size of a shape is unknown, or that of a given map differs.
    FormatError
        A file cannot be read, or holds labels of no class.
    SettingsError
        A class has neither radius nor shape, an option cannot work, or a block does not fit the memory.
    OutputExistsError, StorageError
        The output is there and may not be replaced, or cannot be written.
    """
    chosen = options_to_settings(TargetSettings, settings, options)
    tomogram = tomogram if isinstance(tomogram, Tomogram) else Tomogram.open(tomogram)
    if not compute:
        if output is not None:
            raise SettingsError("compute=False writes nothing: leave out the output")
        return _lazily(particles, tomogram, chosen)
    if output is None:
        raise SettingsError("expected an output, a store to make: give one, or compute=False")
    path = normalise(output)
    if is_inside(tomogram.path, path) or any(is_inside(str(level), path) for level in tomogram.levels):
        raise SettingsError(f"the output {path} would replace the tomogram {tomogram.path}: choose another output")
    check_output(path, kind=KIND, overwrite=chosen.overwrite)
    scratch = Path(tempfile.gettempdir() if is_remote(path) else Path(path).parent)
    with settled(particles, tomogram, chosen, scratch) as job, _held(path):
        _check_inputs(job, path)
        place = nullcontext(executor) if executor else open_executor(chosen.workers, chosen.scheduler)
        with place as where:
            first = {"tomogram": job.name, "classes": classes_to_dicts(job.recipe.classes)}
            volume = create_target(
                path,
                tomogram.shape,
                tomogram.voxel_size,
                job.grid.core,
                overwrite=chosen.overwrite,
                attributes=first,
            )
            sums = _Sums(len(job.particles))
            tasks = job.tasks()
            with Progress(f"target {job.name}", len(tasks), enabled=progress) as bar:
                for _, tally in where.run(PaintBlock(job.canvas, volume), tasks, label=f"target-{job.name}"):
                    sums.add(tally)
                    bar.advance()
            _warn_of_nothing(job, sums)
            facts = _facts(job, tomogram, chosen, sums, particles)
            finish_target(path, job.recipe.classes, where, facts)
    return Target.open(path)


class _Sums:
    """What was counted in all blocks: integers, so that their order does not matter."""

    def __init__(self, particles: int) -> None:
        self.voxels = np.zeros(LABELS, dtype=np.int64)
        self.won = np.zeros(particles, dtype=np.int64)
        self.lost: Counter[tuple[int, int]] = Counter()

    def add(self, tally: Tally) -> None:
        """Count one more block."""
        self.voxels += tally.voxels
        self.won[tally.rows] += tally.won
        self.lost.update(tally.lost)


def _held(path: str) -> AbstractContextManager[None]:
    """Keep other processes out of the output; URLs have no locks."""
    return nullcontext() if is_remote(path) else hold(Path(path).with_name(f".{Path(path).name}.lock"), path)


def _check_inputs(job: Job, path: str) -> None:
    """Refuse an output that would replace what it is made from."""
    used = [one.path for one in job.recipe.labels] + [one.path for one in job.recipe.shapes.values()]
    for one in (*used, *job.masks):
        if is_inside(one, path):
            raise SettingsError(f"the output {path} would replace {one}, which it is made from: choose another output")


def _warn_of_nothing(job: Job, sums: _Sums) -> None:
    """Name the classes of particles that no voxel is left of."""
    names = job.particles.table["class"].to_numpy()[sums.won == 0]
    if names.size:
        counts = ", ".join(f"{count} of {name!r}" for name, count in sorted(Counter(names.tolist()).items()))
        warnings.warn(
            f"particles without a voxel in {job.name}: {counts}; they lie behind nearer ones, or between voxels",
            TargetWarning,
            stacklevel=3,
        )


def _facts(
    job: Job, tomogram: Tomogram, settings: TargetSettings, sums: _Sums, source: Particles | str | Path
) -> dict[str, Any]:
    """Attributes of the store."""
    from deepfinder_dask import __version__

    names = names_of(job.recipe.classes)
    return {
        "tomogram_path": tomogram.path,
        "particles_path": None if isinstance(source, Particles) else str(source),
        "annotated": list(job.annotated),
        "particles": job.particles.counts(),
        "voxels": {name: int(sums.voxels[label]) for label, name in names.items()},
        "overlaps": as_attributes(overlaps_of(sums.lost, names)),
        "policy": "later particle" if settings.compat else "nearer centre, then smaller label; particles over maps",
        "shapes": {
            one.name: {"file": one.path, "threshold": one.threshold, "volume": one.volume} for one in job.canvas.shapes
        },
        "label_maps": [asdict(one) for one in job.recipe.labels],
        "settings": asdict(settings),
        "version": __version__,
    }


def _lazily(particles: Particles | str | Path, tomogram: Tomogram, settings: TargetSettings) -> dask.array.Array:
    """The label map as a lazy array: one task a block, no edges between blocks."""
    import dask.array
    from dask.base import tokenize
    from dask.delayed import delayed

    with settled(particles, tomogram, settings, None) as job:
        grid = job.grid
    token = tokenize(tomogram.volume, asdict(settings), job.particles.table, job.name)
    chunks = tuple(
        tuple(min(c, n - start) for start in range(0, n, c)) for n, c in zip(grid.shape, grid.core, strict=True)
    )
    lazy: dask.array.Array = dask.array.map_blocks(
        _painted,
        delayed(job, name=f"target-job-{token}", traverse=False),
        chunks=chunks,
        dtype=np.uint8,
        meta=np.empty((0, 0, 0), np.uint8),
        name=f"target {job.name}-{token}",
    )
    return lazy


def _painted(job: Job, block_info: Any = None) -> NDArray[np.uint8]:
    """One block of a lazy target."""
    index = block_info[None]["chunk-location"]
    return paint(job.canvas, job.task_at(triple(index)))[0]
