"""Boxes of voxels: half-open, axes z, y, x."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

Shape3 = tuple[int, int, int]
"""Three integers in the order z, y, x."""


def triple(values: object) -> Shape3:
    """Three integers in the order z, y, x, from any iterable of three."""
    z, y, x = (int(v) for v in values)  # type: ignore[attr-defined]  # any iterable, checked by the unpacking
    return z, y, x


@dataclass(frozen=True, slots=True)
class Box:
    """A half-open box of voxels, ``start <= index < stop``."""

    start: Shape3
    """First voxel, (z, y, x)."""
    stop: Shape3
    """One past the last voxel, (z, y, x)."""

    @classmethod
    def whole(cls, shape: Shape3) -> Box:
        """Box of a whole volume of this shape."""
        return cls((0, 0, 0), triple(shape))

    @property
    def shape(self) -> Shape3:
        """Extent in voxels, (z, y, x); 0 where the box is empty."""
        return triple(max(0, b - a) for a, b in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        """Number of voxels."""
        return prod(self.shape)

    def slices(self) -> tuple[slice, slice, slice]:
        """Index of this box in an array that starts at voxel 0."""
        z, y, x = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

    def shift(self, offset: Shape3) -> Box:
        """The box moved by ``offset`` voxels."""
        return Box(
            triple(a + o for a, o in zip(self.start, offset, strict=True)),
            triple(b + o for b, o in zip(self.stop, offset, strict=True)),
        )

    def grow(self, low: Shape3, high: Shape3) -> Box:
        """The box with ``low`` voxels more before and ``high`` voxels more after it on each axis."""
        return Box(
            triple(a - n for a, n in zip(self.start, low, strict=True)),
            triple(b + n for b, n in zip(self.stop, high, strict=True)),
        )

    def intersect(self, other: Box) -> Box:
        """The voxels in both boxes (an empty box where there are none)."""
        start = triple(max(a, b) for a, b in zip(self.start, other.start, strict=True))
        stop = triple(min(a, b) for a, b in zip(self.stop, other.stop, strict=True))
        return Box(start, triple(max(a, b) for a, b in zip(start, stop, strict=True)))

    def clip(self, shape: Shape3) -> Box:
        """The part of the box inside a volume of this shape."""
        return self.intersect(Box.whole(shape))

    def within(self, outer: Box) -> Box:
        """The same voxels, counted from the start of ``outer``."""
        return self.shift(triple(-a for a in outer.start))

    def contains(self, other: Box) -> bool:
        """Whether every voxel of ``other`` is in this box."""
        return other.size == 0 or self.intersect(other) == other
