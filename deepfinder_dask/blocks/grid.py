"""The grid of blocks that covers a volume: what each block writes, and what it must read for that.

::

      read  ┌──────────────────────────┐      halo_low  │ before the core, 0 at the volume's start
            │      ┌────────────┐      │      core      │ written by this block and by no other
            │      │   write    │      │      halo_high │ after the core, clipped at the volume's end
            │      └────────────┘      │
            └──────────────────────────┘
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod

from deepfinder_dask.blocks.box import Box, Shape3, triple
from deepfinder_dask.errors import GeometryError, SettingsError

BLOCK_MULTIPLE = 4
"""Blocks that a user asks for are multiples of this many voxels."""


def asked_block(value: object) -> Shape3:
    """Block that a user asks for, in voxels (z, y, x), from one number or three.

    Raises
    ------
    SettingsError
        If it is not made of positive multiples of 4.
    """
    values = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,) * 3
    whole = [v for v in values if isinstance(v, int) and v > 0 and v % BLOCK_MULTIPLE == 0]
    if len(values) != 3 or len(whole) != 3:
        raise SettingsError(
            f"a block is three positive multiples of {BLOCK_MULTIPLE} voxels (z, y, x), such as 128,256,256, "
            f"got {value!r}"
        )
    return triple(whole)


@dataclass(frozen=True, slots=True)
class Block:
    """One unit of computation: reads a region, writes the core of it."""

    number: int
    """Position in C order over the grid."""
    index: Shape3
    """Position in the grid, (z, y, x)."""
    write: Box
    """Voxels that this block alone writes."""
    read: Box
    """Voxels needed to compute them: ``write`` with its halo, clipped to the volume."""


@dataclass(frozen=True, slots=True)
class BlockGrid:
    """Blocks of one size that cover a volume; those at its end are smaller.

    Raises
    ------
    GeometryError
        If the volume or the core is empty on an axis, or a halo is negative.
    """

    shape: Shape3
    """Volume in voxels, (z, y, x)."""
    core: Shape3
    """What a block writes, in voxels, (z, y, x)."""
    halo_low: Shape3 = (0, 0, 0)
    """Context read before the core, in voxels, (z, y, x)."""
    halo_high: Shape3 = (0, 0, 0)
    """Context read after the core, in voxels, (z, y, x)."""

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise GeometryError(f"a volume needs at least one voxel on each axis, got shape {self.shape} (z, y, x)")
        if min(self.core) < 1:
            raise GeometryError(f"a block needs at least one voxel on each axis, got {self.core} (z, y, x)")
        if min(self.halo_low + self.halo_high) < 0:
            raise GeometryError(f"halos are at least 0, got {self.halo_low} before and {self.halo_high} after")

    @property
    def counts(self) -> Shape3:
        """Number of blocks on each axis, (z, y, x)."""
        return triple(-(-n // c) for n, c in zip(self.shape, self.core, strict=True))

    def __len__(self) -> int:
        return prod(self.counts)

    def __getitem__(self, number: int) -> Block:
        if not 0 <= number < len(self):
            raise IndexError(f"block {number} of {len(self)}")
        _, ny, nx = self.counts
        return self.at((number // (ny * nx), number // nx % ny, number % nx))

    def __iter__(self) -> Iterator[Block]:
        return (self[number] for number in range(len(self)))

    def at(self, index: Shape3) -> Block:
        """The block at this position (z, y, x) of the grid."""
        _, ny, nx = self.counts
        start = triple(i * c for i, c in zip(index, self.core, strict=True))
        write = Box(start, triple(a + c for a, c in zip(start, self.core, strict=True))).clip(self.shape)
        read = write.grow(self.halo_low, self.halo_high).clip(self.shape)
        return Block((index[0] * ny + index[1]) * nx + index[2], index, write, read)

    @property
    def waste(self) -> float:
        """Voxels read by all blocks over the voxels of the volume: 1.0 means that nothing is read twice."""
        per_axis = []
        for n, c, low, high in zip(self.shape, self.core, self.halo_low, self.halo_high, strict=True):
            starts = range(0, n, c)
            per_axis.append(sum(min(n, min(n, s + c) + high) - max(0, s - low) for s in starts) / n)
        return prod(per_axis)
