"""``view``: put the layers together and open the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from deepfinder_dask.errors import InputError
from deepfinder_dask.execution import options_to_settings
from deepfinder_dask.particles import ParticleClass, read_classes
from deepfinder_dask.tomograms import Tomogram
from deepfinder_dask.tomograms.location import is_remote, is_zarr, normalise
from deepfinder_dask.viewing.browser.contents import (
    LabelMap,
    Table,
    compared,
    open_instances,
    open_labels,
    read_sets,
    read_table,
)
from deepfinder_dask.viewing.browser.handle import View
from deepfinder_dask.viewing.browser.serving import PageServer
from deepfinder_dask.viewing.browser.settings import ViewSettings
from deepfinder_dask.viewing.browser.states import full_state

Sets = Table | Sequence[Table] | Mapping[str, Table]


def view(
    tomogram: str | Path | Tomogram,
    particles: Sets | None = None,
    *,
    truth: Table | None = None,
    found: Table | None = None,
    settings: ViewSettings | None = None,
    **options: Any,
) -> View:
    """Look at a tomogram in the browser, with its labels, scores and particles: ``deepfinder view``.

    The page reads the stores block by block, at the resolution of the screen: nothing is loaded here.

    Parameters
    ----------
    tomogram
        OME-Zarr or plain Zarr, also a URL; or the folder that ``locate`` left, with its segmentation and particles.
    particles
        Tables or files of particles in any readable format: one, several, or by the names they are shown under.
    truth, found
        Two more, compared as ``evaluate`` does: true particles that were found are green, found ones blue, missed
        ones yellow.
    settings, **options
        :class:`ViewSettings`, and single fields of it: ``labels``, ``instances``, ``scores``, ``port``, …

    Returns
    -------
    View
        Its ``url`` opens in any browser on this machine; a notebook shows the page itself. ``close()`` ends it.

    Raises
    ------
    FormatError
        The tomogram is no Zarr store (convert it first), or what should go with it is something else.
    GeometryError
        Labels or scores have another shape than the tomogram.
    InputError
        Particles cannot be read, or only one of ``truth`` and ``found`` is given.
    """
    chosen = options_to_settings(ViewSettings, settings, options)
    if not isinstance(tomogram, Tomogram):
        tomogram, chosen, particles = _located(tomogram, chosen, particles)
        tomogram = Tomogram.open(tomogram, chosen.voxel_size)
    if (truth is None) != (found is None):
        raise InputError("a comparison needs both the true particles and the found ones")
    classes = read_classes(chosen.classes) if chosen.classes is not None else ()
    maps = _label_maps(tomogram, chosen, classes)
    known = classes or next((one.classes for one in maps if one.classes), ())
    sets = read_sets(particles, tomogram, chosen, known)
    if truth is not None and found is not None:
        both = [read_table(one, tomogram, chosen, known) for one in (truth, found)]
        sets += compared(both[0], both[1], chosen.tolerance)
    maps = [one.with_classes(next((s.particles.classes for s in sets), ())) for one in maps]
    server = PageServer.start(chosen.port)
    with ExitStack() as undo:
        undo.callback(server.close)
        page = server.open_page(full_state(server, tomogram, maps, sets, chosen.scores))
        undo.pop_all()
    return View(server, page)


def _located(
    path: str | Path, settings: ViewSettings, particles: Sets | None
) -> tuple[str | Path, ViewSettings, Sets | None]:
    """A folder that ``locate`` left stands for what is in it."""
    folder = Path(normalise(path))
    if is_remote(path) or is_zarr(path) or not (folder / "tomogram.zarr").is_dir():
        return path, settings, particles
    if settings.labels is None and is_zarr(folder / "segmentation.zarr"):
        settings = replace(settings, labels=str(folder / "segmentation.zarr"))
    if particles is None and (folder / "particles.parquet").is_file():
        particles = folder / "particles.parquet"
    return folder / "tomogram.zarr", settings, particles


def _label_maps(tomogram: Tomogram, settings: ViewSettings, classes: Sequence[ParticleClass]) -> list[LabelMap]:
    if settings.labels is None:
        if settings.instances:
            raise InputError("an instance map lies in a segmentation: name that with --labels SEG.zarr")
        return []
    maps = [open_labels(settings.labels, tomogram, classes)]
    if settings.instances:
        maps.append(open_instances(settings.labels, tomogram))
    return maps
