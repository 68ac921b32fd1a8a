"""Volumes of which boxes are read: an array in memory, a file; for stores, :class:`Volume` does the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Box
from deepfinder_dask.tomograms.sources import open_source


class BoxSource(Protocol):
    """A volume of which boxes can be read, here and in other processes."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent in voxels, (z, y, x)."""
        ...

    def read(self, box: Box) -> NDArray[Any]:
        """Values of a box of voxels, (z, y, x)."""
        ...


@dataclass(frozen=True)
class ArraySource:
    """An array in memory, or a lazy one that can be indexed (Dask, h5py …), as a source of boxes."""

    array: Any
    """The values, (z, y, x)."""
    name: str = "the label map"
    """What messages call it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent in voxels, (z, y, x)."""
        return tuple(int(n) for n in self.array.shape)

    def read(self, box: Box) -> NDArray[Any]:
        """Values of a box of voxels, (z, y, x)."""
        values = self.array[box.slices()]
        if hasattr(values, "compute"):
            values = values.compute(scheduler="synchronous")
        return np.asarray(values)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class FileSource:
    """A volume in a file of any family that ``convert`` reads, opened anew for each box, wherever that is."""

    path: str
    """The file, unpacked."""
    name: str
    """The file the user named."""
    shape: tuple[int, ...]
    """Extent in voxels, (z, y, x)."""

    def read(self, box: Box) -> NDArray[Any]:
        """Values of a box of voxels, (z, y, x)."""
        z, y, x = zip(box.start, box.stop, strict=True)
        with open_source(self.path, Path(self.path).parent) as source:
            return np.ascontiguousarray(source.read(z, y)[:, :, slice(*x)])

    def __str__(self) -> str:
        return self.name
