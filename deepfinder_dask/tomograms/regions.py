"""Regions of interest: the voxels of a tomogram that count, by a mask volume, by a border left out, or both.

A mask lies on the tomogram's own grid: one of another shape is refused, also where it covers the same extent in larger
voxels, since programs disagree by half a voxel on where those lie.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import ceil, isfinite, prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfinder_dask.blocks import Box, Shape3, triple
from deepfinder_dask.errors import FormatError, GeometryError, SettingsError, VoxelSizeError
from deepfinder_dask.tomograms.boxes import ArraySource, BoxSource, FileSource
from deepfinder_dask.tomograms.location import AnyPath, is_remote, is_zarr, normalise
from deepfinder_dask.tomograms.opening import Image, check_finished_array, open_image
from deepfinder_dask.tomograms.sources import open_source, split_dataset
from deepfinder_dask.tomograms.sources.compressed import compression_of
from deepfinder_dask.tomograms.tomogram import VoxelSize

PIECE_BYTES = 32 * 2**20
"""Most of a mask that is read at a time where all of it is needed, unless its chunks are larger."""
BAND = 64
"""Planes and rows of the bands that the identity of a mask is made from."""
ROUNDING = 1e-6
"""Part of a voxel by which a border may miss a whole number of voxels, without taking one voxel more."""


@dataclass(frozen=True)
class Region:
    """Voxels of a tomogram that count; made by :meth:`open`, good in any process it is sent to.

    A voxel is inside where the mask is not 0 and which no border takes. The values of a mask of whole numbers are the
    numbers of its regions, so that results can be stated for each; without a mask there is one region, number 1.
    """

    shape: Shape3
    """Extent of the tomogram in voxels, (z, y, x)."""
    mask: BoxSource | None = None
    """Mask of that shape, (z, y, x): 0 is outside; None where only the border is left out."""
    margin: Shape3 = (0, 0, 0)
    """Voxels left out at both ends of each axis, (z, y, x)."""
    unit: Shape3 = (BAND, BAND, BAND)
    """Voxels of the mask that are best read together, (z, y, x): a chunk, or some planes of a file."""
    itemsize: int = 1
    """Bytes per voxel of the mask."""

    def __post_init__(self) -> None:
        if self.mask is not None and tuple(self.mask.shape) != tuple(self.shape):
            raise GeometryError(
                f"expected the mask {self.mask} to have the shape {tuple(self.shape)} (z, y, x) of the tomogram, found "
                f"{tuple(self.mask.shape)}: bring it onto the tomogram's grid, without interpolation"
            )
        if min(n - 2 * m for n, m in zip(self.shape, self.margin, strict=True)) < 1:
            raise GeometryError(
                f"a border of {self.margin} voxels leaves nothing of {tuple(self.shape)} (z, y, x): give a smaller one"
            )

    @classmethod
    def open(
        cls,
        mask: AnyPath | None = None,
        *,
        shape: Shape3,
        voxel_size: VoxelSize | None = None,
        border: float | None = None,
    ) -> Region:
        """The region of a tomogram that a mask and a border leave; reads metadata only.

        Parameters
        ----------
        mask : str or path, optional
            OME-Zarr image, plain Zarr array or label map of a segmentation (local or a URL), or an MRC, TIFF or HDF5
            file. Not 0 is inside.
        shape : tuple of int
            Extent of the tomogram in voxels, (z, y, x).
        voxel_size : tuple of float, optional
            Å per voxel, (z, y, x); needed for a border.
        border : float, optional
            Å to leave out at all six faces. Voxels that reach into them are left out too.

        Raises
        ------
        FormatError
            There is no mask that can be read, or it is no volume.
        GeometryError
            The mask has another shape than the tomogram, or the border leaves nothing.
        SettingsError
            The border is no length.
        VoxelSizeError
            There is a border, and the voxel size is unknown.
        """
        margin = (0, 0, 0) if border is None else margin_of(border, voxel_size)
        if mask is None:
            return cls(shape, margin=margin)
        location = normalise(mask)
        source, unit, itemsize = _open_zarr(location) if is_zarr(location) else _open_file(location)
        return cls(shape, source, margin, unit, itemsize)

    @classmethod
    def of(cls, mask: Any, *, margin: Shape3 = (0, 0, 0)) -> Region:
        """The region of a mask in memory, or of a lazy one that can be indexed, (z, y, x)."""
        source = ArraySource(mask, "the mask")
        if len(source.shape) != 3 or min(source.shape) < 1:
            raise GeometryError(f"expected a mask (z, y, x), got an array of shape {source.shape}")
        return cls(triple(source.shape), source, margin, itemsize=int(mask.dtype.itemsize))

    @cached_property
    def inside(self) -> Box:
        """The voxels within the border, in and out of the mask."""
        stop = triple(n - m for n, m in zip(self.shape, self.margin, strict=True))
        return Box(self.margin, stop)

    # --- boxes --------------------------------------------------------------------------------------------------

    def read(self, box: Box) -> NDArray[np.bool_]:
        """Which voxels of a box are inside, (z, y, x) bool; those beyond the volume are not."""
        return self._filled(box, np.bool_, _nonzero)

    def read_numbers(self, box: Box) -> NDArray[np.int64]:
        """Region of each voxel of a box, (z, y, x) int64; 0 is outside.

        Raises
        ------
        FormatError
            The mask does not hold whole numbers.
        """
        return self._filled(box, np.int64, _whole)

    def is_empty(self, box: Box | None = None) -> bool:
        """Whether no voxel of a box, by default of the volume, is inside; no more is read than it takes to know."""
        part = self.inside if box is None else box.intersect(self.inside)
        if part.size == 0 or self.mask is None:
            return part.size == 0
        return not any(_nonzero(self._stored(piece)).any() for piece in self._pieces(part))

    def sizes(self) -> dict[int, int]:
        """Voxels of each region by number, ascending; reads the whole mask, piece by piece."""
        if self.mask is None:
            return {1: self.inside.size}
        found: dict[int, int] = {}
        for piece in self._pieces(self.inside):
            numbers, counts = np.unique(_whole(self._stored(piece)), return_counts=True)
            for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
                found[number] = found.get(number, 0) + count
        return {number: found[number] for number in sorted(found) if number}

    def identity(self) -> str:
        """Hash of which voxels are inside, the same for any store and chunks; reads the whole mask, piece by piece."""
        digest = hashlib.sha256(repr((triple(self.shape), triple(self.margin))).encode())
        if self.mask is None:
            return digest.hexdigest()
        nz, ny, nx = self.shape
        rows = BAND * max(1, PIECE_BYTES // (BAND * BAND * nx * self.itemsize))
        for z, y in product(range(0, nz, BAND), range(0, ny, rows)):
            bits = self.read(Box((z, y, 0), (min(nz, z + BAND), min(ny, y + rows), nx)))
            for first in range(0, bits.shape[1], BAND):
                digest.update(np.packbits(bits[:, first : first + BAND]).tobytes())
        return digest.hexdigest()

    # --- positions ----------------------------------------------------------------------------------------------

    def contains(self, positions: ArrayLike) -> NDArray[np.bool_]:
        """Whether the voxels that positions lie in are inside.

        Parameters
        ----------
        positions : (n, 3) float
            In voxels, (z, y, x), 0-based; the centre of voxel ``i`` is ``i``, so that it reaches from ``i - 0.5`` up to
            ``i + 0.5``. Positions beyond the volume are not inside.

        Returns
        -------
        (n,) bool
        """
        return self._at(positions, np.bool_, _nonzero)

    def numbers_at(self, positions: ArrayLike) -> NDArray[np.int64]:
        """Number of the region that each position lies in, (n,) int64; 0 is outside. Positions as :meth:`contains`.

        Raises
        ------
        FormatError
            The mask does not hold whole numbers.
        """
        return self._at(positions, np.int64, _whole)

    def _at(self, positions: ArrayLike, dtype: Any, convert: Callable[[NDArray[Any]], NDArray[Any]]) -> NDArray[Any]:
        """Values of the mask at positions: one chunk after the other, and only those in which positions lie."""
        voxels = np.floor(np.asarray(positions, np.float64).reshape(-1, 3) + 0.5)
        found = np.zeros(len(voxels), dtype)
        within = (voxels >= self.inside.start).all(axis=1) & (voxels < self.inside.stop).all(axis=1)
        rows = np.flatnonzero(within)
        index = voxels[rows].astype(np.int64)
        if self.mask is None:
            found[rows] = 1
            return found
        _, chunk = np.unique(index // self.unit, axis=0, return_inverse=True)
        order = np.argsort(chunk.ravel(), kind="stable")
        for part in np.split(order, np.flatnonzero(np.diff(chunk.ravel()[order])) + 1):
            if len(part):
                here = index[part]
                box = Box(triple(here.min(axis=0)), triple(here.max(axis=0) + 1))
                found[rows[part]] = convert(self._stored(box))[tuple((here - box.start).T)]
        return found

    # --- reading ------------------------------------------------------------------------------------------------

    def _filled(self, box: Box, dtype: Any, convert: Callable[[NDArray[Any]], NDArray[Any]]) -> NDArray[Any]:
        """Values of a box, 0 where the border takes them."""
        values = np.zeros(box.shape, dtype)
        part = box.intersect(self.inside)
        if part.size:
            values[part.within(box).slices()] = 1 if self.mask is None else convert(self._stored(part))
        return values

    def _stored(self, box: Box) -> NDArray[Any]:
        """Values of the mask."""
        if self.mask is None:  # told apart by every caller; this is for the type checker
            return np.ones(box.shape, bool)
        values = self.mask.read(box)
        if values.dtype.kind == "f" and np.isnan(values).any():
            raise FormatError(f"expected numbers in the mask {self.mask}, found NaN: make it 0 outside, 1 inside")
        return values

    def _pieces(self, box: Box) -> Iterator[Box]:
        """Boxes that make up a box: whole units, as many as are worth one read."""
        core = [min(u, n) for u, n in zip(self.unit, self.shape, strict=True)]
        while 2 * prod(core) * self.itemsize <= PIECE_BYTES:
            shorter = [axis for axis in range(3) if core[axis] < self.shape[axis]]
            if not shorter:
                break
            core[min(shorter, key=lambda axis: core[axis])] *= 2
        spans = (range(a // c * c, b, c) for a, b, c in zip(box.start, box.stop, core, strict=True))
        for start in product(*spans):
            yield Box(triple(start), triple(a + c for a, c in zip(start, core, strict=True))).intersect(box)


@dataclass(frozen=True)
class MaskedSource:
    """A volume that is 0 outside a region; where a box has nothing inside, it is not read."""

    source: BoxSource
    """The volume, (z, y, x), such as a label map."""
    region: Region
    """What counts of it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent in voxels, (z, y, x)."""
        return tuple(self.source.shape)

    def read(self, box: Box) -> NDArray[Any]:
        """Values of a box of voxels, (z, y, x)."""
        inside = self.region.read(box)
        if not inside.any():
            return np.zeros(box.shape, np.uint8)
        values = self.source.read(box)
        if not (values.flags.owndata and values.flags.writeable):  # it may be the user's own array
            values = values.copy()
        np.copyto(values, 0, where=~inside, casting="unsafe")
        return values

    def __str__(self) -> str:
        return str(self.source)


def margin_of(border: float, voxel_size: VoxelSize | None) -> Shape3:
    """Voxels, (z, y, x), that a border in Å takes at each end of each axis.

    Raises
    ------
    SettingsError
        The border is no length.
    VoxelSizeError
        The voxel size is unknown.
    """
    if isinstance(border, bool) or not isinstance(border, int | float) or not isfinite(border) or border < 0:
        raise SettingsError(f"border is a length in Å, 0 or more, got {border!r}")
    if voxel_size is None:
        raise VoxelSizeError(f"a border of {border:g} Å needs the voxel size: give it with --voxel-size Å")
    return triple(max(0, ceil(border / size - ROUNDING)) for size in voxel_size)


def _nonzero(values: NDArray[Any]) -> NDArray[np.bool_]:
    return values if values.dtype == np.bool_ else np.not_equal(values, 0)


def _whole(values: NDArray[Any]) -> NDArray[np.int64]:
    numbers = values.astype(np.int64)
    if values.dtype.kind == "f":
        broken = numbers != values
        if broken.any():
            raise FormatError(
                f"the regions of a mask are numbered with whole numbers, found {values[broken][0]:.6g}: "
                "give each region a number, 0 outside"
            )
    return numbers


def _open_zarr(location: str) -> tuple[BoxSource, Shape3, int]:
    check_finished_array(location)
    image = _image_at(location)
    volume = image.levels[0]
    if volume.ndim != 3:
        raise FormatError(f"expected a mask (z, y, x) at {location}, found an array of shape {volume.shape}")
    if image.axes[-3:] != ("z", "y", "x") and set(image.axes[-3:]) == set("xyz"):
        raise FormatError(
            f"expected axes z, y, x in {location}, found {', '.join(image.axes)}: "
            f"bring them into order with `deepfinder convert {location} -o NEW.zarr`"
        )
    return volume, triple(volume.chunks), volume.dtype.itemsize


def _image_at(location: str) -> Image:
    """The image or array at a place, the array "0" of a group without OME metadata, or a segmentation's label map."""
    try:
        return open_image(location)
    except FormatError:
        inner = next((key for key in ("labels", "labels/0", "0") if is_zarr(f"{location}/{key}")), None)
        if inner is None:
            raise
    return open_image(f"{location}/{inner}")


def _open_file(location: str) -> tuple[BoxSource, Shape3, int]:
    file = split_dataset(location)[0]
    if not is_remote(location) and Path(file).is_file() and compression_of(file):
        raise FormatError(
            f"expected a mask that can be read block by block, found the compressed file {location}: "
            "unpack it, or turn it into a store with deepfinder convert"
        )
    try:
        with open_source(location, Path(file).parent) as source:
            shape, itemsize = source.shape, source.dtype.itemsize
    except FormatError as error:
        raise FormatError(str(error).replace("no such tomogram", "no such mask")) from error
    planes = max(1, PIECE_BYTES // (shape[1] * shape[2] * itemsize))
    return FileSource(location, location, shape), (planes, shape[1], shape[2]), itemsize
