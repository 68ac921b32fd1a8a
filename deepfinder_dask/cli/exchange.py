"""``deepfinder export`` and ``deepfinder import``: particles from and for other programs."""

from __future__ import annotations

from cyclopts import Parameter

from deepfinder_dask.cli.options import Output, verb
from deepfinder_dask.errors import GeometryError, VoxelSizeError
from deepfinder_dask.particles.settings import ExportSettings, ImportSettings

_RENAME = Parameter(consume_multiple=True, metavar="OLD=NEW")


@verb(ExportSettings, format=Parameter(name="--to", alias="-t"), rename=_RENAME)
def export(particles: str, /, *, output: Output, settings: ExportSettings) -> str:
    """Write particles for another program.

    Parameters
    ----------
    particles
        Table of particles (.parquet), or any format that says everything itself.
    output
        File, folder, or many files by their tomograms and classes, as in 'picks/{tomogram}.mod'.
    """
    from deepfinder_dask.particles import export, read_particles

    try:
        table = read_particles(particles)
    except (VoxelSizeError, GeometryError) as error:
        raise type(error)(f"{error}: to deepfinder import, which makes a table that can be exported") from error
    written = export(table, output, settings)
    others = f" and {len(written) - 1} more files" if len(written) > 1 else ""
    where = written[0] if written else f"nothing, as there are no tomograms ({output})"
    return f"exported {len(table)} particles → {where}{others}"


@verb(ImportSettings, format=Parameter(name="--from", alias="-f"), rename=_RENAME)
def import_(source: str, /, *, output: Output, settings: ImportSettings) -> str:
    """Read a particle list of another program.

    Parameters
    ----------
    source
        File or folder in any known format, or many files, as in 'picks/{tomogram}.mod'.
    output
        Table of particles, PARTICLES.parquet.
    """
    from deepfinder_dask.cli.words import counted
    from deepfinder_dask.particles import import_particles

    return f"imported {counted(import_particles(source, output, settings))} → {output}"
