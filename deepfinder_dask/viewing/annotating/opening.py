"""Opening a session: begin, or go on; refuse what does not belong together."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from deepfinder_dask.errors import InputError, OutputExistsError, SettingsError
from deepfinder_dask.execution import hold, options_to_settings
from deepfinder_dask.particles import ParticleClass, Particles, read_classes
from deepfinder_dask.tomograms import Tomogram
from deepfinder_dask.tomograms.location import is_inside
from deepfinder_dask.viewing.annotating import journal as journals
from deepfinder_dask.viewing.annotating.journal import Journal
from deepfinder_dask.viewing.annotating.session import Session
from deepfinder_dask.viewing.annotating.settings import AnnotateSettings
from deepfinder_dask.viewing.annotating.tables import check_classes_kept, check_same_volume, empty_start, read_start


def open_session(
    tomogram: Tomogram | str | Path, output: str | Path, settings: AnnotateSettings | None = None, **options: Any
) -> Session:
    """Begin to annotate a tomogram, or go on where the last session stopped, however that ended.

    Parameters
    ----------
    tomogram : Tomogram, str or path
        As ``convert`` made it, or any Zarr volume (z, y, x) whose voxel size is known.
    output : str or path
        Table of particles to write, .parquet. Its journal is beside it, and goes before it.
    settings : AnnotateSettings, optional
        How; single settings can be given as keyword options instead.
    **options
        Fields of :class:`AnnotateSettings`.

    Raises
    ------
    InputError
        Another process annotates this output, it belongs to another tomogram or other classes, or was changed since.
    SettingsError
        There are no classes to annotate with, or an option cannot work.
    OutputExistsError
        There is an output, and particles to start from are given as well.
    FormatError, GeometryError, VoxelSizeError
        A file is damaged, or belongs to another volume.
    StorageError
        The output cannot be written.
    """
    chosen = options_to_settings(AnnotateSettings, settings, options)
    if not isinstance(tomogram, Tomogram):
        tomogram = Tomogram.open(tomogram, chosen.voxel_size)
    path = Path(output)
    _check_names(path, chosen, tomogram)
    classes = read_classes(chosen.classes) if chosen.classes is not None else ()
    folder = journals.folder_of(path)
    with ExitStack() as stack:
        stack.enter_context(hold(path.with_name(f".{path.name}.lock"), path))
        if not journals.exists(folder):
            _begin(tomogram, path, classes, chosen)
        journal = Journal(folder)
        stack.callback(journal.close)
        known = _classes_of(journal, path, classes, chosen)
        _check_files(journal, path, chosen)
        _check_tomogram(journal, tomogram, path, chosen)
        session = Session(tomogram, path, known, journal, chosen)
        # What the last session could not, such as edits just before it was killed.
        session.save()
        session.hold(stack.pop_all())
    return session


def _check_names(path: Path, settings: AnnotateSettings, tomogram: Tomogram) -> None:
    """Refuse places that cannot work."""
    if "://" in str(path) or path.suffix != ".parquet":
        raise SettingsError(f"annotations are written to a local table, NAME.parquet, got {path}")
    if is_inside(path, tomogram.path):
        raise SettingsError(f"the output {path} is inside the tomogram {tomogram.path}: choose another output")
    for other in (settings.found, settings.negatives):
        if other is not None and Path(other).absolute() == path.absolute():
            raise SettingsError(f"{path} is the output as well: choose another output")


def _begin(tomogram: Tomogram, path: Path, classes: tuple[ParticleClass, ...], settings: AnnotateSettings) -> None:
    """Make a journal: from the output that is there, from given particles, or from nothing."""
    facts: dict[str, Any] = {"store": tomogram.name}
    if path.exists():
        if settings.found is not None:
            raise OutputExistsError(f"{path} exists already: leave out --from to go on with it, or choose another name")
        name = settings.name or tomogram.name
        old = Particles.read(path)
        if list(old.tomograms) != [name]:
            raise InputError(
                f"{path} holds particles of {', '.join(old.tomograms) or 'no tomogram'}, expected {name} only: "
                f"choose another output, or say which it is with --name"
            )
        if classes:
            check_classes_kept(old.classes, classes, str(path), str(settings.classes))
        start = read_start(path, tomogram, name, classes or old.classes, None)
        facts["output"] = journals.digest(path)
    elif settings.found is not None:
        start = read_start(settings.found, tomogram, settings.name, classes, settings.classes)
        facts["found"] = journals.digest(Path(settings.found))
    else:
        start = empty_start(tomogram, settings.name, classes)
    _check_any_class(start.classes)
    journals.begin(journals.folder_of(path), start, facts)


def _check_any_class(classes: tuple[ParticleClass, ...]) -> None:
    if not any(one.kind == "particle" for one in classes):
        raise SettingsError("expected classes of particles to annotate, found none: give --classes FILE.toml")


def _classes_of(
    journal: Journal, path: Path, classes: tuple[ParticleClass, ...], settings: AnnotateSettings
) -> tuple[ParticleClass, ...]:
    """Classes given, if they hold all those known so far; those known if none are given."""
    known = Particles.read(path).classes if path.exists() else journal.start.classes
    if not classes:
        return known
    check_classes_kept(known, classes, str(path), str(settings.classes))
    return classes


def _check_files(journal: Journal, path: Path, settings: AnnotateSettings) -> None:
    """Refuse to write over what others wrote, and particles to start from that are not those of the beginning."""
    begun = journal.facts.get("found")
    if settings.found is not None and begun is None:
        raise InputError(f"{path} was begun without --from: leave it out, or choose another output")
    if settings.found is not None and journals.digest(Path(settings.found)) != begun:
        raise InputError(f"{path} was begun from other particles than {settings.found}: leave out --from to go on")
    ours = {line["saved"] for line in journal.lines if "saved" in line} | {journal.facts.get("output")}
    if path.exists() and journals.digest(path) not in ours:
        raise InputError(
            f"{path} was changed since it was annotated: to go on with it as it is now, move {journal.folder} away; "
            f"to go on with the annotations, move {path} away"
        )
    if settings.negatives is not None:
        place = Path(settings.negatives)
        written = {line.get("negatives") for line in journal.lines if "saved" in line}
        if place.exists() and journals.digest(place) not in written:
            raise OutputExistsError(f"{place} exists already: choose another name for the negatives")


def _check_tomogram(journal: Journal, tomogram: Tomogram, path: Path, settings: AnnotateSettings) -> None:
    """Refuse another tomogram than that of the beginning."""
    ((name, facts),) = journal.start.tomograms.items()
    if settings.name not in (None, name):
        raise InputError(f"{path} was begun for the tomogram {name!r}, got --name {settings.name}: leave it out")
    if journal.facts.get("store") != tomogram.name:
        raise InputError(
            f"{path} was begun in the tomogram {journal.facts.get('store')}, this is {tomogram.name}: "
            f"choose another output"
        )
    check_same_volume(facts, tomogram, str(path))
