"""Which voxels of a scene are taken: one bit a voxel, a thirty-second of the volume in 32-bit numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Shape3

Voxels = NDArray[np.int64]
"""(..., 3) int64: z, y, x."""


class Occupancy:
    """Bits of a volume, all 0 at first.

    Parameters
    ----------
    shape : (z, y, x) voxels
    """

    def __init__(self, shape: Shape3) -> None:
        self.shape = shape
        self._row = -(-shape[2] // 8)
        self._bits = np.zeros(shape[0] * shape[1] * self._row, np.uint8)

    def _place(self, voxels: Voxels) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        z, y, x = voxels[..., 0], voxels[..., 1], voxels[..., 2]
        return (z * self.shape[1] + y) * self._row + (x >> 3), (x & 7).astype(np.uint8)

    def taken(self, voxels: Voxels) -> NDArray[np.bool_]:
        """Whether each of these voxels (..., 3), all inside the volume, is taken."""
        index, bit = self._place(voxels)
        return (self._bits[index] >> bit) & 1 > 0

    def take(self, voxels: Voxels) -> None:
        """Mark voxels (n, 3), all inside the volume, as taken."""
        index, bit = self._place(voxels)
        np.bitwise_or.at(self._bits, index, np.left_shift(np.uint8(1), bit))

    def count(self) -> int:
        """Number of voxels taken."""
        return int(np.bitwise_count(self._bits).sum(dtype=np.int64))

    def copy(self) -> Occupancy:
        """The same bits in memory of their own."""
        other = Occupancy((1, 1, 1))
        other.shape, other._row, other._bits = self.shape, self._row, self._bits.copy()
        return other
