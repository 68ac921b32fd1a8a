"""Volumes that the client cannot read by itself, handed out block by block in neuroglancer's precomputed format.

Needed for 16-bit floats (score maps), 64-bit values, and arrays with more axes than z, y, x. Memory is that of the few
blocks that are kept for the next layer that asks for them.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Box
from deepfinder_dask.tomograms import Volume, VoxelSize

BLOCK = 64
"""Voxels of a block along each axis."""
KEPT = 16
"""Blocks kept, all classes of each: several layers of one score map ask for the same."""
_NAME = re.compile(r"(\d+)/(\d+)-(\d+)_(\d+)-(\d+)_(\d+)-(\d+)")


class Blocks:
    """A pyramid as the precomputed format has it.

    Parameters
    ----------
    levels : tuple of Volume
        Full resolution first, each half of the one before.
    voxel_size : VoxelSize
        Å per voxel of the full resolution, (z, y, x).
    segments : bool
        Whether values are labels: they become uint32, others float32 or, for scores, uint8.
    class_number : int, optional
        Which class of (class, z, y, x); pseudo-probabilities become uint8, 255 for 1.
    """

    def __init__(
        self,
        levels: tuple[Volume, ...],
        voxel_size: VoxelSize,
        *,
        segments: bool = False,
        class_number: int | None = None,
    ) -> None:
        _read.cache_clear()  # a store that was made anew has the name of the one before
        self.levels, self.class_number = _halved(levels), class_number
        self.dtype = np.dtype("uint32" if segments else "float32" if class_number is None else "uint8")
        nm = [v / 10 for v in reversed(voxel_size)]
        scales = [
            {
                "key": str(level),
                "size": list(reversed(volume.space)),
                "resolution": [v * 2**level for v in nm],
                "voxel_offset": [0, 0, 0],
                "chunk_sizes": [[BLOCK] * 3],
                "encoding": "raw",
            }
            for level, volume in enumerate(self.levels)
        ]
        self.info = {
            "@type": "neuroglancer_multiscale_volume",
            "type": "segmentation" if segments else "image",
            "data_type": self.dtype.name,
            "num_channels": 1,
            "scales": scales,
        }

    def answer(self, key: str) -> bytes:
        """The metadata at ``info``, or the values of ``LEVEL/x0-x1_y0-y1_z0-z1``, x fastest.

        Raises
        ------
        FileNotFoundError
            There is no such block.
        """
        if key == "info":
            return json.dumps(self.info).encode()
        found = _NAME.fullmatch(key)
        if found is None or int(found[1]) >= len(self.levels):
            raise FileNotFoundError(key)
        x0, x1, y0, y1, z0, z1 = (int(n) for n in found.groups()[1:])
        volume = self.levels[int(found[1])]
        box = Box((z0, y0, x0), (z1, y1, x1))
        if max(box.shape) > BLOCK or min(box.shape) < 1 or box.clip(volume.space) != box:
            raise FileNotFoundError(key)
        values = _read(volume, box)
        if self.class_number is not None:
            values = values[self.class_number]
            if values.dtype != self.dtype:
                values = np.rint(np.clip(np.nan_to_num(values.astype(np.float32)), 0, 1) * 255)
        return np.ascontiguousarray(values, dtype=self.dtype.newbyteorder("<")).tobytes()


@lru_cache(maxsize=KEPT)
def _read(volume: Volume, box: Box) -> NDArray[Any]:
    return volume.read(box)


def _halved(levels: tuple[Volume, ...]) -> tuple[Volume, ...]:
    """The levels up to the first that is not half of the one before."""
    kept = levels[:1]
    for level in levels[1:]:
        if level.space != tuple(-(-n // 2) for n in kept[-1].space):
            break
        kept = (*kept, level)
    return kept
