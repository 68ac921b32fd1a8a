"""``locate``: the main job. A tomogram and weights in; particles, exports and pictures out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from deepfinder_dask.campaigns.locating.steps import (
    EXPORTS,
    PARTICLES,
    SEGMENTATION,
    TOMOGRAM,
    Steps,
    finished,
    noted,
)
from deepfinder_dask.campaigns.provenance import hash_metadata, lasting_name, locating_facts
from deepfinder_dask.campaigns.settings import LocateSettings
from deepfinder_dask.errors import DeepFinderError, InputError, OutputExistsError, SettingsError
from deepfinder_dask.execution import hold, options_to_settings
from deepfinder_dask.networks import Weights, load_weights
from deepfinder_dask.particles import ExportSettings, Particles, read_classes
from deepfinder_dask.particles.cards import card, classes_line
from deepfinder_dask.particles.files import atomic_write
from deepfinder_dask.segmentation import Segmentation, SegmentSettings
from deepfinder_dask.segmentation.workers import open_workers
from deepfinder_dask.tomograms import Tomogram
from deepfinder_dask.tomograms.location import (
    base_name,
    exists,
    is_inside,
    is_remote,
    is_zarr,
    normalise,
)
from deepfinder_dask.tomograms.sources import split_dataset
from deepfinder_dask.tomograms.storage import discard

SUMMARY = "summary.json"
"""Written last: a folder with it is finished."""
LARGEST_PICTURE = 4 * 2**20
"""Bytes of a picture that is shown in a notebook, at most."""
STORES = (SEGMENTATION, TOMOGRAM)
"""What finished steps leave, the later step first."""
LOCK = ".locate.lock"
"""Held while a folder is worked in."""
STATE = ".locate.json"
"""What an unfinished folder is being made from."""


@dataclass(frozen=True)
class Located:
    """What :func:`locate` left in its folder."""

    folder: Path
    """The folder."""
    tomogram: Tomogram
    """The converted tomogram."""
    segmentation: Segmentation
    """Label map and probability."""
    particles: Particles
    """The particles found."""
    pictures: tuple[Path, ...]
    """PNG files."""
    summary: Mapping[str, Any]
    """What ``summary.json`` holds."""

    def _repr_html_(self) -> str:
        seconds = ", ".join(f"{step} {taken:g}" for step, taken in self.summary.get("seconds", {}).items())
        facts = [
            ("particles", classes_line(self.particles.classes, self.particles.counts())),
            ("folder", self.folder),
            ("pictures", ", ".join(one.name for one in self.pictures)),
            ("seconds", seconds or None),
        ]
        small = [one for one in self.pictures if one.is_file() and one.stat().st_size < LARGEST_PICTURE]
        return card(f"Located in {self.tomogram.name}", facts, small[0].read_bytes() if small else None)


def locate(
    tomogram: str | Path,
    weights: Weights | str | Path,
    output: str | Path,
    settings: LocateSettings | None = None,
    *,
    progress: bool | None = None,
    **options: Any,
) -> Located:
    """Find the particles in a tomogram: convert, segment, cluster, export, draw.

    Interrupted, the same call goes on after the last step that was finished, and inside a segmentation after the last
    block. The folder holds ``tomogram.zarr``, ``segmentation.zarr``, ``particles.parquet``, the exports
    ``particles.csv``, ``particles.xml`` (original DeepFinder), ``particles.star`` (RELION 5) and ``copick/``, the
    pictures ``slices.png``, ``projection.png`` and ``distributions.png``, and, last of all, ``summary.json``.

    Parameters
    ----------
    tomogram : str or path
        Tomogram in any format that :func:`~deepfinder_dask.convert` reads.
    weights : Weights, str or path
        A weights file, or the name of weights that come with the package (``demo``).
    output : str or path
        Folder to leave everything in.
    settings : LocateSettings, optional
        How; single settings can be given as keyword options instead.
    progress : bool, optional
        Show progress bars; by default on a terminal.
    **options
        Fields of :class:`LocateSettings`.

    Returns
    -------
    Located
        Handles of everything in the folder.

    Raises
    ------
    InputError
        If the tomogram or the weights cannot be read, or do not go together, or another process is at work in the
        folder.
    OutputExistsError
        If the folder holds results, or anything else, and may not be overwritten.
    """
    settings = options_to_settings(LocateSettings, settings, options)
    source, file = normalise(tomogram), split_dataset(tomogram)[0]
    if not exists(file):
        raise InputError(f"{source}: no such file (expected a tomogram)")
    if is_remote(output):
        raise SettingsError(f"everything is left in a local folder, got {output}")
    folder = Path(output)
    if is_inside(file, folder):
        raise SettingsError(f"{source} lies in the output folder {folder}: choose another output")
    if settings.mask is not None and is_inside(split_dataset(settings.mask)[0], folder):
        raise SettingsError(f"the mask {settings.mask} lies in the output folder {folder}: choose another output")
    weights_file = None
    if not isinstance(weights, Weights):
        weights_file, weights = lasting_name(weights), load_weights(weights)
    if settings.classes is not None:
        weights = weights.with_classes(read_classes(settings.classes))
    if folder.exists() and not folder.is_dir():
        raise OutputExistsError(f"{folder} is there and is no folder: choose another output")
    with hold(folder / LOCK, folder):
        return _locate_into(folder, file, source, weights, weights_file, settings, progress)


def _locate_into(
    folder: Path,
    file: str,
    source: str,
    weights: Weights,
    weights_file: str | None,
    settings: LocateSettings,
    progress: bool | None,
) -> Located:
    """All steps that are not done."""
    origin = _origin(file, source, weights, settings)
    resumed = _open_folder(folder, origin, overwrite=settings.overwrite)
    seconds: dict[str, float] = {}
    notes: list[str] = []

    name = settings.tomogram or base_name(file)
    steps = Steps(source, name, folder, settings)
    with _timed(seconds, "convert"):
        if not (resumed and finished(folder / TOMOGRAM)):
            try:
                steps.convert(progress=progress is not False)
            except DeepFinderError:
                _close_empty(folder)
                raise
    converted = Tomogram.open(steps.converted)

    steps.check(weights)
    with open_workers(settings.part(SegmentSettings)) as executor:
        with _timed(seconds, "segment"):
            segmentation = steps.segment(weights, executor, progress=progress)
        with _timed(seconds, "cluster"), noted(notes):
            particles = steps.cluster(executor, progress=progress is not False)
    with _timed(seconds, "export"), noted(notes):
        steps.export(particles)
    with _timed(seconds, "pictures"):
        pictures = steps.draw(particles, weights.classes)

    with _timed(seconds, "hash"):
        facts = locating_facts(
            source,
            name,
            converted,
            segmentation,
            weights,
            settings,
            weights_file=weights_file,
            particles=steps.table,
            notes=notes,
        )
    files = {
        "tomogram": TOMOGRAM,
        "segmentation": SEGMENTATION,
        "particles": steps.table.name,
        "exports": list(EXPORTS),
        "pictures": [p.name for p in pictures],
    }
    summary = facts | _found(particles) | {"files": files, "seconds": dict(seconds)}
    with atomic_write(folder / SUMMARY) as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n")
    (folder / STATE).unlink(missing_ok=True)
    return Located(folder, converted, segmentation, particles, tuple(pictures), summary)


def _open_folder(folder: Path, origin: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Make the folder ready; True if finished steps in it belong to the same work and can be kept.

    What belongs to other work is removed before the folder is declared to hold this work: a kill at any instant leaves
    a folder in which nothing is taken for a step of this work that is none.

    Raises
    ------
    OutputExistsError
        If something is there that may not be replaced.
    """
    state = folder / STATE
    # A kill may have left half a state file, and nothing else, in a new folder.
    ours = (LOCK, f".{STATE}.*.partial")
    held = any(not any(fnmatch(child.name, name) for name in ours) for child in folder.iterdir())
    kept = False
    if held:
        done = (folder / SUMMARY).exists()
        if done and not overwrite:
            raise OutputExistsError(f"{folder} holds the results of an earlier run: pass --overwrite to replace them")
        if not done and not state.exists():
            raise OutputExistsError(f"{folder} holds other files: choose a new or an empty folder")
        kept = not done and not overwrite and _read_state(state) == origin
    if not kept:
        _write_state(state, {})
    for half in folder.glob(".*.partial"):  # what a kill in the middle of writing a small file leaves
        half.unlink()
    if not kept:
        _clear(folder)
        _write_state(state, origin)
    return kept


def _clear(folder: Path) -> None:
    """Remove what an earlier run left, and nothing else."""
    (folder / SUMMARY).unlink(missing_ok=True)
    for store in STORES:
        discard(folder / store)
    for name in (PARTICLES, *EXPORTS):
        if (folder / name).is_file():
            (folder / name).unlink()
    # Files of other classes would stay beside the new ones.
    ours = ExportSettings()
    for picks in folder.glob(f"copick/ExperimentRuns/*/Picks/{ours.user}_{ours.session}_*.json"):
        picks.unlink()


def _write_state(state: Path, origin: Mapping[str, Any]) -> None:
    with atomic_write(state) as temporary:
        temporary.write_text(json.dumps(origin, indent=2) + "\n")


def _close_empty(folder: Path) -> None:
    """Leave a folder empty in which nothing was made."""
    if {child.name for child in folder.iterdir()} == {LOCK, STATE}:
        (folder / STATE).unlink()


def _read_state(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        return None


def _origin(file: str, source: str, weights: Weights, settings: LocateSettings) -> dict[str, Any]:
    """What the results follow from: steps finished from the same origin need not be done again."""
    facts: dict[str, Any] = {"tomogram": source, "weights": weights.sha256}
    facts["classes"] = [c.to_dict() for c in weights.classes]
    if is_zarr(file):
        facts["metadata"] = hash_metadata(file)
    facts |= _stamp(file)
    if settings.mask is not None:
        facts["mask"] = _stamp(split_dataset(settings.mask)[0])
    irrelevant = ("overwrite", "workers", "scheduler", "memory", "block")
    facts["settings"] = {k: v for k, v in asdict(settings).items() if k not in irrelevant}
    plain: dict[str, Any] = json.loads(json.dumps(facts))
    return plain


def _stamp(file: str) -> dict[str, Any]:
    """What tells that a file, or the store at a path, has been replaced; nothing for URLs."""
    if is_remote(file) or not Path(file).exists():
        return {}
    root = Path(file, "zarr.json")
    status = (root if root.is_file() else Path(file)).stat()
    return {"file": str(Path(file).resolve()), "bytes": status.st_size, "modified": status.st_mtime_ns}


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[step] = round(time.perf_counter() - started, 2)


def _found(particles: Particles) -> dict[str, Any]:
    """How many particles there are, and of which sizes and scores."""
    table = particles.table
    classes = {}
    for one in particles.classes:
        rows = table[table["label"] == one.label]
        classes[one.name] = {
            "label": one.label,
            "found": len(rows),
            "mean_size_voxels": None if rows.empty else round(float(rows["size_voxels"].mean()), 1),
            "mean_score": None if rows.empty else round(float(rows["score"].mean()), 4),
        }
    return {"particles": len(particles), "classes": classes}
