"""The pictures that stand beside the particles of one tomogram."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deepfinder_dask.viewing.drawing import save_png
from deepfinder_dask.viewing.histograms import distributions
from deepfinder_dask.viewing.marks import in_tomogram, title_of
from deepfinder_dask.viewing.means import projection
from deepfinder_dask.viewing.slices import orthoslices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepfinder_dask.particles import ParticleClass, Particles
    from deepfinder_dask.tomograms import Image, Tomogram, Volume


def write_pictures(
    tomogram: Tomogram,
    labels: Image | Volume | None,
    particles: Particles,
    folder: str | Path,
    *,
    classes: Sequence[ParticleClass] | None = None,
) -> list[Path]:
    """Write ``slices.png``, ``projection.png`` and ``distributions.png``; older ones are replaced.

    Parameters
    ----------
    tomogram : Tomogram
        The tomogram.
    labels : Image or Volume, optional
        Its label map (z, y, x).
    particles : Particles
        Its particles; may be none.
    folder : str or path
        Made when missing.
    classes : sequence of ParticleClass, optional
        Names and colours of the labels, structures included; default those of the particles.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    GeometryError
        If the labels have another shape than the tomogram.
    StorageError
        If a file cannot be written.
    """
    folder = Path(folder)
    here = in_tomogram(tomogram, particles)
    figures = {
        "slices.png": orthoslices(tomogram, labels, here, classes=classes),
        "projection.png": projection(tomogram, here),
        "distributions.png": distributions(here, title_of(tomogram, here)),
    }
    return [save_png(figure, folder / name) for name, figure in figures.items()]
