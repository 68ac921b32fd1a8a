"""Tables that are compared with each other: read together, by tomogram and class, in the units of a tolerance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.errors import FormatError, GeometryError, InputError, SettingsError, VoxelSizeError
from deepfinder_dask.evaluation.reading import Source, read_source
from deepfinder_dask.evaluation.settings import Tolerance
from deepfinder_dask.particles.classes import ParticleClass
from deepfinder_dask.particles.settings import ImportSettings
from deepfinder_dask.particles.table import Particles


def read_together(
    sources: Sequence[Source], classes: Sequence[ParticleClass], settings: ImportSettings
) -> list[Particles]:
    """Tables; a file that lacks voxel size or shape takes them from the others, if these have but one.

    Raises
    ------
    InputError
        A file is missing or damaged, or facts are missing that none has.
    """
    tables: dict[int, Particles] = {}
    failed: dict[int, InputError] = {}
    for number, source in enumerate(sources):
        try:
            tables[number] = _read(source, classes, settings)
        except (VoxelSizeError, GeometryError) as error:
            failed[number] = error
    facts = {one for table in tables.values() for one in table.tomograms.values()}
    for number, problem in failed.items():
        if len(facts) != 1:
            raise problem
        one = next(iter(facts))
        completed = ImportSettings(
            voxel_size=one.voxel_size if settings.voxel_size is None else settings.voxel_size,
            shape=one.shape if settings.shape is None else settings.shape,
        )
        tables[number] = _read(sources[number], classes, completed)
    return [tables[number] for number in range(len(sources))]


def _read(source: Source, classes: Sequence[ParticleClass], settings: ImportSettings) -> Particles:
    """Particles of a file, folder or pattern, all of whose files must be readable: none may count as nothing found."""
    read = read_source(source, classes, settings)
    if read.failures:
        raise FormatError(next(iter(read.failures.values())))
    return read.particles


def rows_by_class(particles: Particles, tomogram: str, numbers: Mapping[str, int]) -> dict[int, NDArray[np.intp]]:
    """Rows of the particles of one tomogram, by the number of their class; names without a number are left out."""
    here = particles.table.loc[(particles.table["tomogram"] == tomogram).to_numpy()]
    classes = np.array([numbers.get(str(name), -1) for name in here["class"].tolist()], dtype=np.int64)
    rows = here.index.to_numpy()
    return {int(n): rows[classes == n] for n in np.unique(classes) if n >= 0}


def unit_of(tolerance: Tolerance, tomogram: str, sides: Sequence[tuple[Particles, str]]) -> NDArray[np.float64]:
    """Å per unit of the tolerance along z, y, x: 1, or the voxel size where it counts voxels.

    Parameters
    ----------
    tolerance
        What the positions are compared by.
    tomogram
        Name to show.
    sides
        Tables, each with its name of the tomogram, the first that knows the voxel size decides.

    Raises
    ------
    VoxelSizeError
        Voxels are counted, and nobody knows their size.
    """
    if tolerance.unit != "vox":
        return np.ones(3)
    sizes = [table.tomograms[name].voxel_size for table, name in sides if name in table.tomograms]
    known = next((size for size in sizes if size is not None), None)
    if known is None:
        raise VoxelSizeError(
            f"tomogram {tomogram!r}: its voxel size is unknown; give --voxel-size, or a tolerance in Å"
        )
    return np.asarray(known, dtype=np.float64)


def reaches(tolerance: Tolerance, radii: Mapping[str, float | None]) -> dict[str, float]:
    """How far a match may be, by class; in Å, or voxels where the tolerance is in voxels.

    Parameters
    ----------
    tolerance
        As asked for.
    radii
        Å, by class; of the classes that have particles.

    Raises
    ------
    SettingsError
        The tolerance is in radii, and a class has none.
    """
    if not tolerance.by_radius:
        return dict.fromkeys(radii, tolerance.amount)
    without = sorted(name for name, radius in radii.items() if radius is None)
    if without:
        raise SettingsError(
            f"the tolerance needs the radius of each class, and {without} have none; "
            "give --classes with radii, or a tolerance like 40A or 3vox"
        )
    return {name: tolerance.amount * (radius or 0.0) for name, radius in radii.items()}
