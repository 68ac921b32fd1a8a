"""What electrons do to images: noise where few get through, and detail that fades with dose."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from deepfinder_dask.simulation.ice import IceField
from deepfinder_dask.simulation.recipe import TiltImaging

FREE_PATH = 3100.0
"""Å of ice after which 1/e of the electrons of 300 kV have lost no energy."""


def exposures(imaging: TiltImaging, tilts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the electrons that each image gets, (n,), with the sum 1."""
    share = np.ones(len(tilts)) if imaging.dose_scheme == "equal" else 1 / np.cos(np.deg2rad(tilts))
    return np.asarray(share / share.sum())


def dose_before(imaging: TiltImaging, tilts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Electrons per Å² that the specimen has taken by the middle of each image, (n,): from 0° outwards."""
    given = imaging.dose * exposures(imaging, tilts)
    order = np.lexsort((tilts, np.abs(tilts)))
    taken = np.empty(len(tilts))
    taken[order] = np.cumsum(given[order]) - given[order] / 2
    return taken


def damage(shape: tuple[int, int], voxel_size: float, dose: float) -> NDArray[np.float32]:
    """Factor on the frequencies of ``rfft2`` (y, x // 2 + 1) after a dose in electrons per Å².

    The amplitude falls as ``exp(-dose / (2 N(k)))`` with the critical dose ``N = 0.245 k^-1.665 + 2.81`` (Grant and
    Grigorieff, eLife 2015, equation 3, 300 kV).
    """
    ky = fft.fftfreq(shape[0], voxel_size)[:, None]
    kx = fft.rfftfreq(shape[1], voxel_size)[None, :]
    k = np.maximum(np.hypot(ky, kx), 1e-6)
    return np.asarray(np.exp(-dose / (2 * (0.245 * k**-1.665 + 2.81))), dtype=np.float32)


def noise_pattern(
    imaging: TiltImaging,
    tilts: NDArray[np.float64],
    number: int,
    shape: tuple[int, int],
    voxel_size: float,
    ice: IceField | None,
) -> NDArray[np.float32]:
    """Standard deviation of the noise of an image (y, x), where the mean variance of the 0° image is 1.

    The variance is 1 / electrons: of the image's share of the dose, what the ice lets through along the beam.

    Parameters
    ----------
    imaging : TiltImaging
    tilts : (n,) float64
        Degrees.
    number : int
        The image.
    shape : (y, x) voxels
    voxel_size : float
        Å.
    ice : IceField or None
        Where the ice is thicker.
    """
    share = exposures(imaging, tilts)
    middle = int(np.argmin(np.abs(tilts)))
    one = _variance(imaging, float(tilts[number]), shape, voxel_size, ice) / (share[number] / share[middle])
    scale = float(np.mean(_variance(imaging, float(tilts[middle]), shape, voxel_size, ice)))
    return np.asarray(np.broadcast_to(np.sqrt(one / scale), shape), dtype=np.float32)


def _variance(
    imaging: TiltImaging, tilt: float, shape: tuple[int, int], voxel_size: float, ice: IceField | None
) -> NDArray[np.float64]:
    """One over the part of the electrons that gets through at each pixel (y, x), or at all of them alike."""
    lean = np.cos(np.deg2rad(tilt))
    thickness = np.full((1, 1), imaging.ice_thickness)
    if ice is not None:
        middle = (shape[1] - 1) / 2
        y = np.asarray(np.arange(shape[0]) * voxel_size, dtype=np.float64)
        x = np.asarray(((np.arange(shape[1]) - middle) / lean + middle) * voxel_size, dtype=np.float64)
        thickness = thickness + imaging.extra_thickness * ice.thick(y[:, None], x[None, :])
    return np.asarray(np.exp(thickness / (FREE_PATH * lean)))
