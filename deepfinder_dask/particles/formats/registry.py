"""Reading and writing particles in any format: which format it is, and which module does it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deepfinder_dask.errors import FormatError, InputError, SettingsError
from deepfinder_dask.execution import options_to_settings
from deepfinder_dask.particles.classes import ParticleClass, check_classes, read_classes
from deepfinder_dask.particles.files import refuse_existing
from deepfinder_dask.particles.formats.base import Hints, ParticleFormat
from deepfinder_dask.particles.formats.copick import CopickFormat
from deepfinder_dask.particles.formats.csv import CsvFormat
from deepfinder_dask.particles.formats.deepfinder_xml import DeepFinderXmlFormat
from deepfinder_dask.particles.formats.parquet import ParquetFormat
from deepfinder_dask.particles.formats.relion5 import Relion5Format
from deepfinder_dask.particles.settings import ExportSettings, ImportSettings
from deepfinder_dask.particles.table import Particles

FORMATS: tuple[ParticleFormat, ...] = (
    ParquetFormat(),
    DeepFinderXmlFormat(),
    CopickFormat(),
    Relion5Format(),
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
    head = ""
    if path.is_file():
        with path.open("rb") as stream:
            head = stream.read(_HEAD).decode("utf-8", errors="replace")
    for one in FORMATS:
        if one.recognises(path, head):
            return one
    for one in FORMATS:
        if path.suffix.lower() in one.suffixes:
            return one
    names = [one.name for one in FORMATS]
    raise FormatError(f"{path}: not a list of particles in a known format; the formats are {names}")


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
        if suffix in one.suffixes and one.name != "copick":
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
        A file, or a folder of copick picks or of a RELION job. Particles come back as they are.
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
    name = format or chosen.format
    try:
        reader = format_of_file(path) if name == "auto" else format_named(name)
        return reader.read(path, Hints(chosen, known))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file (expected a list of particles)") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


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
        File, or folder for copick and RELION 5.
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
    refuse_existing(writer.outputs(particles, path, chosen), chosen.overwrite)
    return writer.write(particles, path, chosen)


def export(
    particles: Particles | str | Path, output: str | Path, settings: ExportSettings | None = None, **options: Any
) -> list[Path]:
    """Write particles for another program: ``deepfinder export``.

    Parameters
    ----------
    particles
        A table, or a file of one in any format that says everything itself.
    output
        File, or folder for copick and RELION 5.
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
        File or folder in any format.
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
