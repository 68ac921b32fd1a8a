"""Reading and writing particles in any format: which format it is, and which module does it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from deepfinder_dask.errors import FormatError, InputError, SettingsError
from deepfinder_dask.execution import options_to_settings
from deepfinder_dask.particles.classes import ParticleClass, check_classes, read_classes
from deepfinder_dask.particles.files import refuse_existing
from deepfinder_dask.particles.formats.base import Hints, ParticleFormat
from deepfinder_dask.particles.formats.copick import CopickFormat
from deepfinder_dask.particles.formats.csv import CsvFormat
from deepfinder_dask.particles.formats.deepfinder_txt import DeepFinderTxtFormat
from deepfinder_dask.particles.formats.deepfinder_xml import DeepFinderXmlFormat
from deepfinder_dask.particles.formats.dynamo import DynamoFormat
from deepfinder_dask.particles.formats.eman2 import Eman2Format
from deepfinder_dask.particles.formats.imod import ImodFormat
from deepfinder_dask.particles.formats.names import renamed
from deepfinder_dask.particles.formats.oddities import warn_of_oddities
from deepfinder_dask.particles.formats.parquet import ParquetFormat
from deepfinder_dask.particles.formats.portal import PortalFormat
from deepfinder_dask.particles.formats.relion4 import Relion4Format
from deepfinder_dask.particles.formats.relion5 import Relion5Format
from deepfinder_dask.particles.formats.stopgap import StopgapFormat
from deepfinder_dask.particles.formats.templates import OneFile, is_template, matching_files, parts_for
from deepfinder_dask.particles.formats.warp import WarpFormat
from deepfinder_dask.particles.settings import ExportSettings, ImportSettings
from deepfinder_dask.particles.table import Particles

FORMATS: tuple[ParticleFormat, ...] = (
    ParquetFormat(),
    DeepFinderXmlFormat(),
    ImodFormat(),
    PortalFormat(),
    Eman2Format(),
    CopickFormat(),
    StopgapFormat(),
    WarpFormat(),
    Relion4Format(),
    Relion5Format(),
    DynamoFormat(),
    DeepFinderTxtFormat(),
    CsvFormat(),
)
"""All formats, in the order in which they are asked whether a file is theirs."""
_HEAD = 4096


def format_named(name: str) -> ParticleFormat:
    """Format by its name.

    Raises
    ------
    SettingsError
        There is none.
    """
    for one in FORMATS:
        if one.name == name.replace("-", "_"):
            return one
    raise SettingsError(f"no particle format {name!r}; the formats are {[one.name for one in FORMATS]}")


def format_of_file(path: str | Path) -> ParticleFormat:
    """Format of a file or folder that is there, by its content first, then by its name.

    Raises
    ------
    InputError
        There is nothing at ``path``.
    FormatError
        No format knows it.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file (expected a list of particles)")
    head = _head(path) if path.is_file() else ""
    for one in FORMATS:
        if one.recognises(path, head):
            return one
    for one in FORMATS:
        if path.is_dir() and _is_folder_of(path, one):
            return one
        if path.is_file() and path.name.lower().endswith(one.suffixes):
            return one
    names = [one.name for one in FORMATS]
    raise FormatError(f"{path}: not a list of particles in a known format; the formats are {names}")


def _is_folder_of(folder: Path, reader: ParticleFormat) -> bool:
    """Whether files lie in a folder as a format lays them out, and one of them is of that format, or all are empty."""
    files = [one.path for one in _files_in(folder, reader)]
    empty = all(not file.stat().st_size for file in files)
    return bool(files) and (empty or any(reader.recognises(file, _head(file)) for file in files))


def _head(path: Path) -> str:
    """Beginning of a file as text."""
    with path.open("rb") as stream:
        return stream.read(_HEAD).decode("utf-8", errors="replace")


def format_for_output(path: str | Path) -> ParticleFormat:
    """Format of a file that is to be written, by its suffix; a name without suffix is a folder for copick.

    Raises
    ------
    SettingsError
        The suffix belongs to no format.
    """
    suffix = Path(path).suffix.lower()
    if not suffix or Path(path).is_dir():
        return format_named("copick")
    for one in FORMATS:
        if Path(path).name.lower().endswith(one.suffixes) and one.name != "copick":
            return one
    known = sorted(s for one in FORMATS for s in one.suffixes if one.name != "copick")
    raise SettingsError(f"{path}: no format for the suffix {suffix!r}; name the format, or use one of {known}")


def read_particles(
    path: str | Path | Particles,
    format: str | None = None,
    *,
    classes: Iterable[ParticleClass] | str | Path | None = None,
    settings: ImportSettings | None = None,
    **options: Any,
) -> Particles:
    """Read particles from any format.

    Parameters
    ----------
    path
        A file, a folder of them, or files by a template such as ``picks/{tomogram}.mod``. Particles come back as they
        are.
    format
        Name of the format; None or ``auto`` goes by the content.
    classes
        Known classes, or their TOML file: names for formats that have labels only, labels for those that have names.
    settings, **options
        :class:`ImportSettings`, and single fields of it: ``voxel_size``, ``shape``, ``tomograms``, …

    Returns
    -------
    Particles
        Positions in Å.

    Raises
    ------
    InputError
        There is no such file.
    FormatError
        It is damaged, or of no known format.
    VoxelSizeError, GeometryError
        The format counts in voxels or from the centre, and the voxel size or shape is unknown.
    """
    if isinstance(path, Particles):
        return path
    chosen = options_to_settings(ImportSettings, settings, options)
    given = classes if classes is not None else chosen.classes
    known = read_classes(given) if isinstance(given, (str, Path)) else check_classes(given or ())
    path = Path(path)
    try:
        particles = _read(path, format or chosen.format, Hints(chosen, known))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file (expected a list of particles)") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    particles = renamed(particles, chosen.rename)
    own = ParquetFormat().recognises(path, _head(path) if path.is_file() else "")
    warn_of_oddities(particles, path, empty=not own)  # an empty table of ours is a result
    return particles


def _read(path: Path, name: str, hints: Hints) -> Particles:
    """Read a file, a folder, or all files that fit a template."""
    if is_template(path):
        return _read_all(matching_files(path), name, hints)
    reader = format_of_file(path) if name == "auto" else format_named(name)
    if path.is_dir() and reader.layout:
        files = _files_in(path, reader)
        if not files:
            raise InputError(f"{path}: no files {reader.layout} of {reader.name} in this folder")
        return _read_all(files, reader.name, hints)
    return reader.read(path, hints)


def _files_in(folder: Path, reader: ParticleFormat) -> list[OneFile]:
    """Files of a format in a folder, where its layout has them."""
    if not reader.layout:
        return []
    try:
        return matching_files(folder / reader.layout)
    except InputError:
        return []


def _read_all(files: list[OneFile], name: str, hints: Hints) -> Particles:
    """Particles of many files, whose names say which tomogram and class they are of; classes are numbered as found."""
    parts: list[Particles] = []
    classes = hints.classes
    for one in files:
        reader = format_of_file(one.path) if name == "auto" else format_named(name)
        known = replace(hints, classes=classes, tomogram=one.tomogram, class_name=one.class_name)
        parts.append(reader.read(one.path, known))
        classes = parts[-1].classes
    try:
        return Particles.concat([replace(part, classes=classes) for part in parts])
    except InputError as error:
        raise FormatError(f"{files[0].path.parent}: the files do not fit together: {error}") from error


def write_particles(
    particles: Particles,
    path: str | Path,
    format: str | None = None,
    *,
    settings: ExportSettings | None = None,
    **options: Any,
) -> list[Path]:
    """Write particles in any format; each file whole or not at all.

    Parameters
    ----------
    particles
        What to write.
    path
        File, folder, or a template such as ``picks/{tomogram}.mod`` or ``{tomogram}/{class}.ndjson``.
    format
        Name of the format; None or ``auto`` goes by the suffix.
    settings, **options
        :class:`ExportSettings`, and single fields of it: ``overwrite``, ``tomograms_star``, …

    Returns
    -------
    list of Path
        Files that were written.

    Raises
    ------
    OutputExistsError
        A file is there and ``overwrite`` is not set.
    StorageError
        A file cannot be written.
    VoxelSizeError, GeometryError
        The format needs a voxel size or shape that is unknown.
    """
    chosen = options_to_settings(ExportSettings, settings, options)
    path = Path(path)
    name = format or chosen.format
    writer = format_for_output(path) if name == "auto" else format_named(name)
    files = list(_files_for(renamed(particles, chosen.rename), path, writer))
    refuse_existing([one for file, part in files for one in writer.outputs(part, file, chosen)], chosen.overwrite)
    return [one for file, part in files for one in writer.write(part, file, chosen)]


def _files_for(particles: Particles, path: Path, writer: ParticleFormat) -> list[tuple[Path, Particles]]:
    """Which particles go to which file: all to one, or to one for each tomogram."""
    if is_template(path):
        files = list(parts_for(particles, path))
    elif writer.layout and (not path.suffix or path.is_dir()):
        files = list(parts_for(particles, path / writer.layout))
    else:
        files = [(path, particles)]
    return [(file, _fitting(part, file, writer)) for file, part in files]


def _fitting(part: Particles, path: Path, writer: ParticleFormat) -> Particles:
    """Particles of one file, after a look at whether a file of this format can hold them."""
    if not writer.layout:
        return part
    tomograms = list(dict.fromkeys(part.table["tomogram"].tolist())) or list(part.tomograms)[:1]
    classes = [name for name, count in part.counts().items() if count]
    for word, names in (("tomogram", tomograms), ("class", classes)):
        if len(names) > 1 and f"{{{word}}}" in writer.layout:
            raise SettingsError(
                f"{path}: a file of {writer.name} holds one {word}, these are {len(names)}; write a folder, "
                f"or name the files, as in {path.with_name(f'{{{word}}}{path.suffix}')}"
            )
    return part.of_tomogram(tomograms[0]) if tomograms else part


def export(
    particles: Particles | str | Path, output: str | Path, settings: ExportSettings | None = None, **options: Any
) -> list[Path]:
    """Write particles for another program: ``deepfinder export``.

    Parameters
    ----------
    particles
        A table, or a file of one in any format that says everything itself.
    output
        File, folder, or a template such as ``picks/{tomogram}.mod``.
    settings, **options
        :class:`ExportSettings`, and single fields of it.

    Returns
    -------
    list of Path
        Files that were written; errors as those of :func:`read_particles` and :func:`write_particles`.
    """
    return write_particles(read_particles(particles), output, settings=settings, **options)


def import_particles(
    source: str | Path,
    output: str | Path | None = None,
    settings: ImportSettings | None = None,
    **options: Any,
) -> Particles:
    """Read a particle list of another program and keep it as Parquet: ``deepfinder import``.

    Parameters
    ----------
    source
        File, folder or template in any format.
    output
        Parquet file to write; None writes nothing.
    settings, **options
        :class:`ImportSettings`, and single fields of it.

    Returns
    -------
    Particles
        What was read; errors as those of :func:`read_particles` and :func:`write_particles`.
    """
    chosen = options_to_settings(ImportSettings, settings, options)
    if output is not None:
        refuse_existing([Path(output)], chosen.overwrite)
    particles = read_particles(source, settings=chosen)
    if output is not None:
        particles.write(output)
    return particles
