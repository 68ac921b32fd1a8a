"""A handle of one array in a store: cheap to make, to compare and to send to a worker."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from deepfinder_dask.blocks import BlockGrid, Box, Shape3, triple
from deepfinder_dask.errors import FormatError, GeometryError
from deepfinder_dask.tomograms.location import normalise, open_store, read_key, storage_errors

if TYPE_CHECKING:
    import dask.array
    import zarr
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Volume:
    """One Zarr array, ``(z, y, x)`` or ``(class, z, y, x)``: opened on first use, and again wherever it is unpickled.

    Leading axes of length 1 beyond those (time, channel) are dropped.
    """

    path: str
    """Local path or fsspec URL of the store."""
    key: str = ""
    """Path of the array inside the store, such as "0"; empty where the store is the array."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", normalise(self.path))

    def __getstate__(self) -> dict[str, str]:
        return {"path": self.path, "key": self.key}

    def __setstate__(self, state: dict[str, str]) -> None:
        self.__dict__.update(state)

    def __str__(self) -> str:
        return f"{self.path}/{self.key}" if self.key else self.path

    @cached_property
    def _array(self) -> zarr.Array[Any]:
        return self._open(read_only=True)

    @cached_property
    def _writable(self) -> zarr.Array[Any]:
        return self._open(read_only=False)

    def _open(self, *, read_only: bool) -> zarr.Array[Any]:
        import zarr

        store = open_store(self.path, read_only=read_only)
        try:
            array = zarr.open_array(store=store, path=self.key, mode="r" if read_only else "r+")
        except (FileNotFoundError, ValueError, KeyError) as error:
            raise FormatError(f"expected a Zarr array at {self}, found none that can be read") from error
        if array.dtype.kind not in "biuf":
            raise FormatError(f"expected numbers in {self}, found values of type {array.dtype}")
        if array.ndim < 3:
            raise FormatError(f"expected a volume of 3 axes (z, y, x) at {self}, found {array.ndim}: {array.shape}")
        return array

    @cached_property
    def _lead(self) -> int:
        """Number of leading axes of length 1 that are dropped."""
        lead = 0
        shape = self._array.shape
        while len(shape) - lead > 3 and shape[lead] == 1 and "class" not in (self._axis_name(lead),):
            lead += 1
        if len(shape) - lead > 4:
            raise FormatError(f"expected (z, y, x) or (class, z, y, x) at {self}, found {len(shape)} axes: {shape}")
        return lead

    def _axis_name(self, axis: int) -> str | None:
        names = getattr(self._array.metadata, "dimension_names", None)
        return names[axis] if names else None

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent in voxels, (z, y, x) or (class, z, y, x)."""
        return tuple(int(n) for n in self._array.shape[self._lead :])

    @property
    def ndim(self) -> int:
        """3, or 4 with classes."""
        return len(self.shape)

    @property
    def space(self) -> Shape3:
        """Extent in voxels of the last three axes, (z, y, x)."""
        return triple(self.shape[-3:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values, native byte order."""
        return np.dtype(self._array.dtype).newbyteorder("=")

    @property
    def chunks(self) -> tuple[int, ...]:
        """What one read decodes, in voxels, axes as ``shape``."""
        return tuple(int(n) for n in self._array.chunks[self._lead :])

    @property
    def shards(self) -> tuple[int, ...] | None:
        """What one file holds, in voxels, axes as ``shape``; None where every chunk is a file of its own."""
        shards = self._array.shards
        return None if shards is None else tuple(int(n) for n in shards[self._lead :])

    @property
    def write_unit(self) -> tuple[int, ...]:
        """Shards, or chunks where there are none: what must be written whole by one writer, axes as ``shape``."""
        return self.shards or self.chunks

    @property
    def nbytes(self) -> int:
        """Size of the decoded values in bytes."""
        return prod(self.shape) * self.dtype.itemsize

    @property
    def stored_bytes(self) -> int:
        """Size of the array in its store, in bytes."""
        return int(self._array.nbytes_stored())

    @property
    def codec(self) -> str:
        """How chunks are compressed, in a word: ``blosc``, ``zstd`` …, or ``none``."""
        codecs = [type(c).__name__ if not hasattr(c, "codec_id") else c.codec_id for c in self._array.compressors]
        names = [codec.removesuffix("Codec").lower() for codec in codecs]
        return ", ".join(name for name in names if name != "crc32c") or "none"  # a checksum is no compression

    def read(self, box: Box | None = None) -> NDArray[Any]:
        """Values of a box of voxels, all classes of it where the array has classes.

        Parameters
        ----------
        box : Box, optional
            Voxels to read, (z, y, x); default the whole volume.

        Returns
        -------
        ndarray
            ``(z, y, x)`` or ``(class, z, y, x)``, of the array's dtype in native byte order, C-contiguous.

        Raises
        ------
        GeometryError
            If the box is not inside the volume.
        FormatError
            If the stored values are damaged.
        """
        box = Box.whole(self.space) if box is None else box
        if box.clip(self.space) != box:
            raise GeometryError(
                f"expected a box inside {self.space} (z, y, x) of {self}, got {box.start} to {box.stop}"
            )
        try:
            values = np.asarray(self._array[self._index(box)])
        except (ValueError, RuntimeError, OSError) as error:
            cause = str(error).splitlines()[0] if str(error) else type(error).__name__
            where = f"{self}, voxels {box.start} to {box.stop}"
            raise FormatError(
                f"{where} cannot be read: damaged, or a server without range requests: {cause}"
            ) from error
        return np.ascontiguousarray(values, dtype=self.dtype)

    def write(self, box: Box, values: NDArray[Any]) -> None:
        """Write the voxels of a box that is made of whole shards (a shard cut by the volume's end counts as whole).

        Parameters
        ----------
        box : Box
            Voxels to write, (z, y, x). Two writers must never be given the same shard.
        values : ndarray
            ``(z, y, x)`` or ``(class, z, y, x)`` with all classes, castable to the array's dtype without loss.

        Raises
        ------
        GeometryError
            If the box is not made of whole shards, or the values have another shape or type.
        StorageError
            If the disk is full or may not be written.
        """
        unit = self.write_unit[-3:]
        for a, b, n, s in zip(box.start, box.stop, self.space, unit, strict=True):
            if not 0 <= a <= b <= n or a % s or (b % s and b != n):
                raise GeometryError(
                    f"expected a box of whole shards {unit} of {self} {self.space} (z, y, x), "
                    f"got {box.start} to {box.stop}"
                )
        expected = self.shape[:-3] + box.shape
        if values.shape != expected:
            raise GeometryError(f"expected values of shape {expected} for {self}, got {values.shape}")
        if not np.can_cast(values.dtype, self.dtype, "safe"):
            raise GeometryError(f"expected values of type {self.dtype} for {self}, got {values.dtype}: cast them first")
        if box.size == 0:
            return
        # One shard after the other: zarr needs several times the memory of what it writes at once.
        with storage_errors(str(self)):
            for block in BlockGrid(box.shape, triple(unit)):
                part = values[(..., *block.write.slices())]
                self._writable[self._index(block.write.shift(box.start))] = part

    def lazy(self) -> dask.array.Array:
        """The volume as a lazy Dask array whose chunks are whole shards (or some whole chunks); reads nothing."""
        import dask.array

        chunks = self.shards or tuple(
            min(n, c * max(1, 128 // c)) if axis >= self.ndim - 3 else c
            for axis, (n, c) in enumerate(zip(self.shape, self.chunks, strict=True))
        )
        name = f"volume-{self.identity()}"
        from_array: Any = dask.array.from_array  # dask has types for some of its versions only
        lazy: dask.array.Array = from_array(
            _Reader(self),
            chunks=chunks,
            name=name,
            lock=False,
            fancy=False,
            meta=np.empty((0,) * self.ndim, self.dtype),
        )
        return lazy

    def identity(self) -> str:
        """Hash of where the array is and of its metadata; another array written to the same place has another one
        only if its shape, type or layout differs.
        """
        key = f"{self.key}/" if self.key else ""
        metadata = read_key(self.path, f"{key}zarr.json") or read_key(self.path, f"{key}.zarray") or b""
        return hashlib.sha256(str(self).encode() + b"\0" + metadata).hexdigest()[:32]

    def __dask_tokenize__(self) -> tuple[str, str]:
        return ("deepfinder-volume", self.identity())

    def _index(self, box: Box) -> tuple[Any, ...]:
        lead = (0,) * self._lead
        classes = (slice(None),) if self.ndim == 4 else ()
        return lead + classes + box.slices()


class _Reader:
    """What Dask indexes: a volume with ``shape``, ``dtype`` and ``[...]``."""

    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        self.shape = volume.shape
        self.dtype = volume.dtype
        self.ndim = volume.ndim

    def __getitem__(self, index: tuple[slice | int, ...]) -> NDArray[Any]:
        picks = [
            range(n)[i : i + 1] if isinstance(i, int) else range(n)[i] for i, n in zip(index, self.shape, strict=True)
        ]
        low = [min(p[0], p[-1]) if p else 0 for p in picks]
        high = [max(p[0], p[-1]) + 1 if p else 0 for p in picks]
        values = self.volume.read(Box(triple(low[-3:]), triple(high[-3:])))
        inside: list[slice | int] = []
        for i, p, start in zip(index, picks, [0] * (self.ndim - 3) + low[-3:], strict=True):
            first = p[0] - start if p else 0
            inside.append(first if isinstance(i, int) else slice(first, None if p else first, p.step))
        if self.ndim == 4 and not isinstance(index[0], int):
            inside[0] = index[0]  # all classes were read
        return values[tuple(inside)]
