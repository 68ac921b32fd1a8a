"""``deepfinder export`` and ``deepfinder import``: particles from and for other programs."""

from __future__ import annotations

from cyclopts import Parameter

from deepfinder_dask.cli.options import Output, verb
from deepfinder_dask.particles.settings import ExportSettings, ImportSettings


@verb(ExportSettings, format=Parameter(name="--to", alias="-t"))
def export(particles: str, /, *, output: Output, settings: ExportSettings) -> str:
    """Write particles for another program.

    Parameters
    ----------
    particles
        Table of particles (.parquet), or any format that says everything itself.
    output
        File, or folder for copick and RELION 5.
    """
    from deepfinder_dask.particles import export, read_particles

    table = read_particles(particles)
    written = export(table, output, settings)
    others = f" and {len(written) - 1} more files" if len(written) > 1 else ""
    return f"exported {len(table)} particles → {written[0]}{others}"


@verb(ImportSettings, format=Parameter(name="--from", alias="-f"))
def import_(source: str, /, *, output: Output, settings: ImportSettings) -> str:
    """Read a particle list of another program.

    Parameters
    ----------
    source
        File or folder in any known format.
    output
        Table of particles, PARTICLES.parquet.
    """
    from deepfinder_dask.cli.words import counted
    from deepfinder_dask.particles import import_particles

    return f"imported {counted(import_particles(source, output, settings))} → {output}"
