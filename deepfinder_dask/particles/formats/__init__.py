"""File formats of particle lists, one module each, and the registry that finds the right one.

In: a path. Out: :class:`~deepfinder_dask.particles.table.Particles` in Å, whatever the convention of the file; and
the other way round. Each format is an object of the protocol :class:`ParticleFormat`; add one to ``FORMATS``.
"""

from deepfinder_dask.particles.formats.base import Hints, ParticleFormat, ParticlesWarning
from deepfinder_dask.particles.formats.registry import (
    FORMATS,
    export,
    format_for_output,
    format_named,
    format_of_file,
    import_particles,
    read_particles,
    write_particles,
)

__all__ = [
    "FORMATS",
    "Hints",
    "ParticleFormat",
    "ParticlesWarning",
    "export",
    "format_for_output",
    "format_named",
    "format_of_file",
    "import_particles",
    "read_particles",
    "write_particles",
]
