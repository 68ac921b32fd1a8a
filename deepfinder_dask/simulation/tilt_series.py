"""Tilt series: projections, contrast transfer, noise to a stated SNR, alignment errors.

Geometry: the beam is z, the tilt axis y. At tilt ``t`` the voxel at (z, x), counted from the volume's centre, falls on
the detector column ``u = x cos t + z sin t``. A volume is projected by sharing each voxel between the two nearest
columns; the same sparse matrix, transposed, back-projects by linear interpolation. All rows y go through one product.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft, sparse

from deepfinder_dask.blocks import Shape3

SLAB = 16
"""z slices projected or back-projected at a time; bounds the memory beside the volume."""


def slabs(depth: int) -> Iterator[tuple[int, int]]:
    """Half-open ranges of at most `SLAB` slices that make up ``depth``."""
    for start in range(0, depth, SLAB):
        yield start, min(start + SLAB, depth)


def tilt_angles(limit: float, step: float) -> NDArray[np.float64]:
    """Tilt angles in degrees from ``-limit`` to ``limit`` in steps of ``step``; 0° is among them."""
    count = int(np.floor(limit / step + 1e-9))
    return np.arange(-count, count + 1, dtype=np.float64) * step


def projection_matrix(start: int, stop: int, shape: Shape3, tilt: float) -> sparse.csr_array:
    """Sparse matrix that projects the slices ``start <= z < stop`` of a volume at one tilt.

    Parameters
    ----------
    start, stop : int
        Range of z in voxels.
    shape : (z, y, x) voxels
        Of the whole volume: it has the tilt axis in its middle.
    tilt : float
        Degrees.

    Returns
    -------
    matrix : (x, (stop - start) * x) float32, CSR
        Maps the slab as ((z, x), y) to a projection (x, y). Its transpose back-projects.
    """
    depth, _, width = shape
    angle = np.deg2rad(tilt)
    z = np.arange(start, stop)[:, None] - (depth - 1) / 2
    x = np.arange(width)[None, :] - (width - 1) / 2
    column = (x * np.cos(angle) + z * np.sin(angle) + (width - 1) / 2).ravel()
    left = np.floor(column + 1e-9).astype(np.int64)
    share = column - left
    rows = np.concatenate([left, left + 1])
    voxels = np.tile(np.arange(column.size), 2)
    values = np.concatenate([1 - share, share])
    keep = (rows >= 0) & (rows < width) & (np.abs(values) > 1e-6)
    return sparse.csr_array(
        (values[keep].astype(np.float32), (rows[keep], voxels[keep])), shape=(width, column.size), dtype=np.float32
    )


def project(volume: NDArray[np.float32], tilts: NDArray[np.float64]) -> NDArray[np.float32]:
    """Project a volume along the beam at each tilt.

    Parameters
    ----------
    volume : (z, y, x) float32
    tilts : (n,) float64
        Degrees, about y.

    Returns
    -------
    projections : (n, y, x) float32
        Sums of voxels; at 0° exactly the sum over z.
    """
    depth, height, width = volume.shape
    out = np.zeros((len(tilts), width, height), dtype=np.float32)
    for start, stop in slabs(depth):
        slab = np.ascontiguousarray(volume[start:stop].transpose(0, 2, 1)).reshape(-1, height)
        for number, tilt in enumerate(tilts):
            out[number] += projection_matrix(start, stop, (depth, height, width), float(tilt)) @ slab
    return np.ascontiguousarray(out.transpose(0, 2, 1))


def wavelength(kilovolt: float) -> float:
    """Relativistic wavelength in Å of electrons of this energy in kV."""
    volt = kilovolt * 1e3
    return float(12.2639 / np.sqrt(volt + 0.97845e-6 * volt**2))


@lru_cache(maxsize=4)
def ctf(
    shape: tuple[int, int], voxel_size: float, defocus: float, voltage: float, spherical: float, amplitude: float
) -> NDArray[np.float32]:
    """Contrast transfer function of a weak object, positive at low frequency for underfocus.

    ``sin(pi L D k² - pi/2 C L³ k⁴ + asin A)`` with wavelength L, defocus D, spherical aberration C,
    amplitude contrast A.

    Parameters
    ----------
    shape : (y, x)
    voxel_size : float
        Å.
    defocus : float
        µm, positive is underfocus.
    voltage : float
        kV.
    spherical : float
        mm.
    amplitude : float
        Amplitude contrast, 0 to 1.

    Returns
    -------
    transfer : (y, x // 2 + 1) float32
        On the frequencies of ``scipy.fft.rfft2``.
    """
    ky = fft.fftfreq(shape[0], voxel_size)[:, None]
    kx = fft.rfftfreq(shape[1], voxel_size)[None, :]
    k2 = ky**2 + kx**2
    length = wavelength(voltage)
    phase = np.pi * length * defocus * 1e4 * k2 - np.pi / 2 * spherical * 1e7 * length**3 * k2**2
    return np.asarray(np.sin(phase + np.arcsin(amplitude)), dtype=np.float32)


def shift_phase(shape: tuple[int, int], shift: tuple[float, float]) -> NDArray[np.complex64]:
    """Factor on the frequencies of ``rfft2`` that moves an image by ``shift`` voxels (y, x)."""
    ky = fft.fftfreq(shape[0])[:, None]
    kx = fft.rfftfreq(shape[1])[None, :]
    return np.asarray(np.exp(-2j * np.pi * (ky * shift[0] + kx * shift[1])), dtype=np.complex64)


def transfer(
    projection: NDArray[np.float32],
    factor: NDArray[np.float32],
    shift: tuple[float, float] | None = None,
    device: str = "cpu",
) -> NDArray[np.float32]:
    """Apply a transfer function to an image, and move it.

    Parameters
    ----------
    projection : (y, x) float32
    factor : (y, x // 2 + 1) float32
        From `ctf`, for this image shape.
    shift : (y, x), optional
        Voxels.
    device : str
        Where torch computes: "cpu" or "cuda".

    Returns
    -------
    image : (y, x) float32
    """
    size = (projection.shape[0], projection.shape[1])
    spectrum = torch.fft.rfft2(torch.from_numpy(projection).to(device)) * torch.from_numpy(factor).to(device)
    if shift is not None:
        spectrum *= torch.from_numpy(shift_phase(size, shift)).to(device)
    image: NDArray[np.float32] = torch.fft.irfft2(spectrum, s=size).cpu().numpy()
    return image


def noise_level(clean: NDArray[np.float32], snr: float) -> float:
    """Standard deviation of white noise that gives this SNR beside a noise-free CTF-modulated 0° projection.

    SNR is the variance of ``clean`` (y, x) over the variance of the noise, before any filtering.
    """
    return float(np.sqrt(clean.var(dtype=np.float64) / snr))
