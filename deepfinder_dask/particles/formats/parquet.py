"""Parquet: our own format, which holds everything."""

from __future__ import annotations

from pathlib import Path

from deepfinder_dask.particles.formats.base import Hints, complete
from deepfinder_dask.particles.parquet import read_parquet, write_parquet
from deepfinder_dask.particles.settings import ExportSettings
from deepfinder_dask.particles.table import Particles

_ALL = ("tomogram", "class", "score", "size_voxels", "orientation", "extra", "empty", "facts")


class ParquetFormat:
    """The table with its tomograms and classes; see :mod:`deepfinder_dask.particles.parquet`."""

    name = "parquet"
    suffixes: tuple[str, ...] = (".parquet", ".pq")
    carries = frozenset(_ALL)
    layout = ""

    def recognises(self, path: Path, head: str) -> bool:
        """Whether the file begins with Parquet's magic word, or a folder (of ``locate``) holds particles.parquet."""
        if path.is_dir():
            return (path / "particles.parquet").is_file()
        return head.startswith("PAR1")

    def read(self, path: Path, hints: Hints) -> Particles:
        """Read the table; hints fill in what it leaves unknown."""
        particles = read_parquet(path / "particles.parquet" if path.is_dir() else path)
        return complete(particles.table, hints, particles.tomograms, particles.classes)

    def outputs(self, particles: Particles, path: Path, settings: ExportSettings) -> list[Path]:
        """The file itself."""
        return [path]

    def write(self, particles: Particles, path: Path, settings: ExportSettings) -> list[Path]:
        """Write the table."""
        write_parquet(particles, path)
        return [path]
