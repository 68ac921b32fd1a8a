"""Weighted back-projection: ramp-filtered projections smeared back into a volume, with a true missing wedge."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft

from deepfinder_dask.blocks import Shape3
from deepfinder_dask.simulation.tilt_series import projection_matrix, slabs

CUTOFF = 0.35
"""Frequency, in cycles a voxel, up to which the ramp is kept whole."""
FALLOFF = 0.05
"""Standard deviation, in cycles a voxel, of the Gaussian that ends the ramp above the cutoff."""


def ramp(frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ramp ``|k|`` with a Gaussian end above `CUTOFF`; frequencies in cycles a voxel."""
    k = np.abs(frequencies)
    end = np.exp(-0.5 * (np.maximum(k - CUTOFF, 0) / FALLOFF) ** 2)
    return np.asarray(k * end)


def ramp_filter(images: NDArray[np.float32], levels: NDArray[np.float64], device: str = "cpu") -> NDArray[np.float32]:
    """Filter images by the ramp along x, across the tilt axis; zero-padded to twice the width.

    Parameters
    ----------
    images : (n, y, x) float32
        Any rows of them: each is filtered on its own.
    levels : (n,) float64
        Mean of each whole image, taken off first: the step at its border would show.
    device : str
        Where torch computes: "cpu" or "cuda".

    Returns
    -------
    filtered : (n, y, x) float32
    """
    width = images.shape[2]
    size = fft.next_fast_len(2 * width, real=True)
    factor = torch.from_numpy(ramp(fft.rfftfreq(size)).astype(np.float32)).to(device)
    out = np.empty_like(images)
    for number, (image, level) in enumerate(zip(images, levels, strict=True)):
        rows = torch.from_numpy(image - np.float32(level)).to(device)
        out[number] = torch.fft.irfft(torch.fft.rfft(rows, n=size, dim=1) * factor, n=size, dim=1)[:, :width].cpu()
    return out


def back_project(images: NDArray[np.float32], tilts: NDArray[np.float64], depth: int) -> NDArray[np.float32]:
    """Back-project images taken at known tilts.

    Parameters
    ----------
    images : (n, y, x) float32
        Ramp-filtered for a weighted back-projection.
    tilts : (n,) float64
        Degrees, about y.
    depth : int
        z voxels of the result.

    Returns
    -------
    volume : (z, y, x) float32
        Mean over the images.
    """
    count, height, width = images.shape
    shape: Shape3 = (depth, height, width)
    columns = np.ascontiguousarray(images.transpose(0, 2, 1))
    volume = np.empty(shape, dtype=np.float32)
    for start, stop in slabs(depth):
        slab = np.zeros(((stop - start) * width, height), dtype=np.float32)
        for tilt, image in zip(tilts, columns, strict=True):
            slab += projection_matrix(start, stop, shape, float(tilt)).T @ image
        volume[start:stop] = slab.reshape(stop - start, width, height).transpose(0, 2, 1) / count
    return volume
