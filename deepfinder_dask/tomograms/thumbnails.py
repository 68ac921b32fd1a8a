"""A central slice as a small PNG: what handles show of themselves in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Box
from deepfinder_dask.particles.classes import IGNORE, ParticleClass
from deepfinder_dask.tomograms.location import is_remote
from deepfinder_dask.tomograms.volume import Volume

PIXELS = 256
"""Largest extent of a picture."""
MOST = 2**22
"""Voxels of the largest plane that is read."""
PAPER, UNKNOWN = (255, 255, 255), (200, 200, 200)
"""Colours of the background and of what is not annotated."""


def central_slice(path: str, levels: Sequence[Volume], classes: Sequence[ParticleClass] | None = None) -> bytes | None:
    """The slice across z through the middle, y upwards, as PNG.

    It is read from the finest level that is no larger than the picture. Memory is that of one plane; of stores behind
    a URL, and where all planes are large, nothing is read.

    Parameters
    ----------
    path : str
        Of the store.
    levels : sequence of Volume
        Pyramid, full resolution first.
    classes : sequence of ParticleClass, optional
        For label maps: their colours. Otherwise grey values from the 1st to the 99th percentile.

    Returns
    -------
    bytes or None
        None where there is no picture.
    """
    from PIL import Image

    level = next((one for one in levels if max(one.space[1:]) <= PIXELS), levels[-1])
    z, y, x = level.space
    if is_remote(path) or y * x > MOST:
        return None
    plane = level.read(Box((z // 2, 0, 0), (z // 2 + 1, y, x)))[0]
    step = -(-max(y, x) // PIXELS)
    plane = plane[::step, ::step][::-1]
    pixels = _grey(plane) if classes is None else _coloured(plane, classes)
    larger = max(1, PIXELS // max(plane.shape))  # small ones are shown larger, a voxel as a square
    pixels = pixels.repeat(larger, axis=0).repeat(larger, axis=1)
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def _grey(plane: NDArray[np.generic]) -> NDArray[np.uint8]:
    values = np.nan_to_num(plane.astype(np.float32), nan=0.0)
    black, white = (float(v) for v in np.percentile(values, (1, 99)))
    grey: NDArray[np.float32] = np.clip((values - black) / max(white - black, 1e-12), 0, 1)
    return (grey * 255).astype(np.uint8)


def _coloured(plane: NDArray[np.generic], classes: Sequence[ParticleClass]) -> NDArray[np.uint8]:
    table = np.full((256, 3), PAPER, dtype=np.uint8)
    table[IGNORE] = UNKNOWN
    for one in classes:
        table[one.label] = list(bytes.fromhex(one.colour[1:]))
    return table[plane.astype(np.uint8)]
