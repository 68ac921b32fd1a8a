"""What a region leaves of a block: nothing, or the voxels to compute."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import BLOCK_MULTIPLE, Box, triple


class Inside(Protocol):
    """What says which voxels count, such as a ``Region``."""

    def read(self, box: Box) -> NDArray[np.bool_]:
        """Which voxels of a box are inside, (z, y, x) bool."""
        ...

    def is_empty(self, box: Box) -> bool:
        """Whether no voxel of a box is inside."""
        ...


def needed_box(inside: NDArray[np.bool_], box: Box) -> Box | None:
    """Smallest part of a block around its voxels inside; None where there are none.

    Parameters
    ----------
    inside : (z, y, x) bool
        Which voxels of the block are inside.
    box : Box
        The block, which begins at multiples of 4; so does the part.
    """
    start, stop = [], []
    for axis in range(3):
        where = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        if not len(where):
            return None
        start.append(int(where[0]) // BLOCK_MULTIPLE * BLOCK_MULTIPLE)
        stop.append(-(-(int(where[-1]) + 1) // BLOCK_MULTIPLE) * BLOCK_MULTIPLE)
    return Box(triple(start), triple(stop)).shift(box.start).intersect(box)
