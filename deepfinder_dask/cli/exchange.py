"""``deepfinder export`` and ``deepfinder import``: particles from and for other programs."""

from __future__ import annotations

from cyclopts import Parameter

from deepfinder_dask.cli.options import Outcome, Output, verb
from deepfinder_dask.errors import GeometryError, VoxelSizeError
from deepfinder_dask.particles.settings import ExportSettings, ImportSettings

_RENAME = Parameter(consume_multiple=True, metavar="OLD=NEW")


@verb(ExportSettings, format=Parameter(name="--to", alias="-t"), rename=_RENAME)
def export(particles: str, /, *, output: Output, settings: ExportSettings) -> Outcome:
    """Write particles for another program.

    Parameters
    ----------
    particles
        Table of particles (.parquet), or any format that says everything itself.
    output
        File, folder, or many files by their tomograms and classes, as in 'picks/{tomogram}.mod'.

    Examples
    --------
    deepfinder export TS_01.parquet -o TS_01.star                       # RELION 5
    # found on tomograms binned by 4: RELION 5 counts from the centre of the unbinned ones
    deepfinder export all.parquet -o particles.star --binning 4
    deepfinder export all.parquet -o 'picks/{tomogram}.mod'             # IMOD, one file for each tomogram
    deepfinder export TS_01.parquet -o copick --to copick --rename ribosome=80S
    """
    from deepfinder_dask.particles import export, read_particles

    try:
        table = read_particles(particles)
    except (VoxelSizeError, GeometryError) as error:
        raise type(error)(f"{error}: to deepfinder import, which makes a table that can be exported") from error
    written = export(table, output, settings)
    others = f" and {len(written) - 1} more files" if len(written) > 1 else ""
    where = written[0] if written else f"nothing, as there are no tomograms ({output})"
    words = f"exported {len(table)} particles → {where}{others}"
    return Outcome(words, {"files": [str(path) for path in written], "count": len(table)})


@verb(ImportSettings, format=Parameter(name="--from", alias="-f"), rename=_RENAME)
def import_(source: str, /, *, output: Output, settings: ImportSettings) -> Outcome:
    """Read a particle list of another program.

    Parameters
    ----------
    source
        File or folder in any known format, or many files, as in 'picks/{tomogram}.mod'.
    output
        Table of particles, PARTICLES.parquet.

    Examples
    --------
    deepfinder import particles.star -o picks.parquet
    deepfinder import picks.xml -o picks.parquet --voxel-size 10 --classes classes.toml
    deepfinder import ExperimentRuns -o picks.parquet --from copick --voxel-size 10
    """
    from deepfinder_dask.cli.words import counted, facts_of
    from deepfinder_dask.particles import import_particles

    made = import_particles(source, output, settings)
    return Outcome(f"imported {counted(made)} → {output}", {"particles": output, **facts_of(made)})
