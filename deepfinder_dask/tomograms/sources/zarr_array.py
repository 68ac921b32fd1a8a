"""Zarr stores of any origin: OME-Zarr images and plain arrays, v2 and v3, local or behind a URL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Box, Shape3, triple
from deepfinder_dask.errors import FormatError
from deepfinder_dask.tomograms.opening import open_image
from deepfinder_dask.tomograms.sources.protocol import Span, check_dtype, check_shape, known_voxel_size


class ZarrSource:
    """The full resolution of an OME-Zarr image, or a plain array; axes named x, y, z are brought into z, y, x.

    Raises
    ------
    FormatError
        If there is no finished image of one volume.
    """

    format = "Zarr"
    whole_planes = False

    def __init__(self, path: str) -> None:
        self.path = path
        image = open_image(path)
        self._volume = image.levels[0]
        if self._volume.ndim != 3:
            raise FormatError(f"expected one volume (z, y, x) in {path}, found shape {self._volume.shape}")
        names = tuple(a.lower() for a in image.axes[-3:])
        self._transpose: Shape3 = (0, 1, 2)
        if set(names) == set("zyx"):
            self._transpose = triple(names.index(a) for a in "zyx")
        stored = self._volume.space
        self.shape: Shape3 = check_shape([stored[i] for i in self._transpose], path)
        self.dtype: np.dtype[Any] = check_dtype(self._volume.dtype, path)
        size = image.voxel_size
        self.voxel_size = None if size is None else known_voxel_size([size[i] for i in self._transpose])
        self.facts: Mapping[str, Any] = {
            "array": str(self._volume),
            "axes": list(image.axes),
            "chunks": list(self._volume.chunks),
            "shards": None if self._volume.shards is None else list(self._volume.shards),
            **({"converted": dict(image.attributes)} if image.attributes else {}),
        }

    def read(self, z: Span, y: Span) -> NDArray[Any]:
        """Values of some rows over the whole of x: ``(z, y, x)``."""
        spans = [(0, 0)] * 3
        for axis, span in zip(self._transpose, (z, y, (0, self.shape[2])), strict=True):
            spans[axis] = span
        box = Box(triple(a for a, _ in spans), triple(b for _, b in spans))
        return np.ascontiguousarray(self._volume.read(box).transpose(self._transpose), dtype=self.dtype)

    def close(self) -> None:
        """Nothing stays open."""
