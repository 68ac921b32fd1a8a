"""HDF5 files: the one volume in them, or ``file.h5:/path/to/dataset``."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Shape3
from deepfinder_dask.errors import FormatError
from deepfinder_dask.tomograms.sources.protocol import Span, check_dtype, check_shape, known_voxel_size, plain


class Hdf5Source:
    """One dataset of an HDF5 file, ``(z, y, x)``, with any number of leading axes of length 1.

    The voxel size comes from EMAN2's attributes (``EMAN.apix_x`` …) or ``element_size_um``.

    Raises
    ------
    FormatError
        If it is no HDF5 file, or the dataset is missing, ambiguous or no volume.
    """

    format = "HDF5"
    whole_planes = False

    def __init__(self, path: str, dataset: str | None = None) -> None:
        import h5py

        self.path = path
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            raise FormatError(f"{path} is no HDF5 file, or a damaged one: {error}".splitlines()[0]) from error
        try:
            self._data = self._choose(dataset)
            self.shape: Shape3 = check_shape(self._data.shape[-3:], self._label())
            self.dtype: np.dtype[Any] = check_dtype(np.dtype(self._data.dtype), self._label())
        except FormatError:
            self._file.close()
            raise
        self.voxel_size, found = self._size()
        self.facts: Mapping[str, Any] = {
            "dataset": self._data.name,
            "chunks": plain(self._data.chunks),
            "compression": plain(self._data.compression),
            "attributes": found,
        }

    def _label(self) -> str:
        return f"{self.path}:{self._data.name}"

    def _choose(self, name: str | None) -> Any:
        import h5py

        volumes: list[str] = []

        def visit(key: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and item.ndim >= 3 and prod(item.shape[:-3]) == 1:
                volumes.append(f"/{key}")

        if name is None:
            self._file.visititems(visit)
            if len(volumes) != 1:
                found = f"found {len(volumes)}" + (f" ({', '.join(volumes[:4])} …)" if volumes else "")
                example = f"{self.path}:{(volumes or ['/dataset'])[0]}"
                raise FormatError(f"expected one volume in {self.path}, {found}: name one as {example}")
            name = volumes[0]
        item = self._file.get(name)
        if not isinstance(item, h5py.Dataset):
            raise FormatError(f"expected a dataset {name} in {self.path}, found none of that name")
        if item.ndim < 3 or prod(item.shape[:-3]) != 1:
            raise FormatError(f"expected a volume (z, y, x) at {self.path}:{name}, found shape {item.shape}")
        return item

    def _size(self) -> tuple[tuple[float, float, float] | None, dict[str, Any]]:
        """Å per voxel, and the attributes of the dataset and of the groups above it."""
        found: dict[str, Any] = {}
        node = self._data
        while True:
            found = {**{str(k): plain(v) for k, v in node.attrs.items()}, **found}
            if node.name == "/":
                break
            node = node.parent
        if all(f"EMAN.apix_{a}" in found for a in "zyx"):
            return known_voxel_size([float(found[f"EMAN.apix_{a}"]) for a in "zyx"]), found
        microns = found.get("element_size_um")
        if isinstance(microns, list) and len(microns) == 3:
            return known_voxel_size([float(v) * 1e4 for v in microns]), found
        return None, found

    def read(self, z: Span, y: Span) -> NDArray[Any]:
        """Values of some rows over the whole of x: ``(z, y, x)``."""
        lead = (0,) * (self._data.ndim - 3)
        try:
            values = self._data[(*lead, slice(*z), slice(*y), slice(None))]
        except OSError as error:
            raise FormatError(f"{self._label()} cannot be read: {error}".splitlines()[0]) from error
        return np.ascontiguousarray(values, dtype=self.dtype)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
