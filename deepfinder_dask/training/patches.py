"""Patches: where training looks, as a pure function of the seed and the step.

No state is kept between steps, so that a resumed run sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Box, Shape3
from deepfinder_dask.blocks.box import triple
from deepfinder_dask.errors import FormatError, GeometryError
from deepfinder_dask.particles.classes import IGNORE


class Readable(Protocol):
    """Anything that reads a box of voxels."""

    def read(self, box: Box) -> NDArray[Any]:
        """Values (z, y, x) of a box."""


@dataclass(frozen=True)
class ArraySource:
    """A volume in memory, readable like one in a store."""

    values: NDArray[Any]
    """(z, y, x)."""

    def read(self, box: Box) -> NDArray[Any]:
        """Values (z, y, x) of a box."""
        return self.values[box.slices()]


@dataclass(frozen=True)
class Annotated:
    """A tomogram with its label map and the positions to train on."""

    name: str
    """Name of the tomogram."""
    shape: Shape3
    """Voxels, (z, y, x)."""
    values: Readable
    """Grey values."""
    labels: Readable
    """Label map, uint8."""
    mean: float
    """Mean grey value of the whole tomogram."""
    std: float
    """Standard deviation of the grey values of the whole tomogram."""
    positions: NDArray[np.float64]
    """(n, 3) voxels, z, y, x: centres of the particles."""
    position_labels: NDArray[np.int64]
    """(n,) class labels of the particles."""


@dataclass(frozen=True)
class Patch:
    """One sample of a batch, not yet read."""

    tomogram: int
    """Index of the tomogram."""
    box: Box
    """Voxels to read."""
    turned: bool
    """Whether it is turned by 180° about the tilt axis y, which reverses z and x; the missing wedge stays in place."""


@dataclass(frozen=True)
class PatchSampler:
    """Draws patches around annotated positions, each class equally often, and some anywhere."""

    tomograms: Sequence[Annotated]
    """The tomograms to draw from."""
    size: int
    """Edge of a patch in voxels, a multiple of 4."""
    batch: int
    """Patches of a step."""
    shift: int
    """A position lies up to this many voxels from the middle of its patch, on each axis."""
    seed: int
    """Decides all draws."""
    classes: int = IGNORE - 1
    """Largest label of a class."""

    def __post_init__(self) -> None:
        for tomogram in self.tomograms:
            if min(tomogram.shape) < self.size:
                raise GeometryError(
                    f"patch_size must not exceed the tomogram: {self.size} voxels against "
                    f"{'x'.join(map(str, tomogram.shape))} of {tomogram.name}; use a smaller patch_size"
                )

    def draw(self, step: int) -> list[Patch]:
        """The patches of a step.

        Kinds (each class, and 0 for anywhere) take turns in an order shuffled anew each round: so every kind is seen
        equally often, however rare its particles are.
        """
        rng = np.random.default_rng([self.seed, step])
        kinds = np.unique(np.concatenate([[0], *[t.position_labels for t in self.tomograms]]))
        rounds = [rng.permutation(kinds) for _ in range(-(-self.batch // len(kinds)))]
        return [self._patch(int(kind), rng) for kind in np.concatenate(rounds)[: self.batch]]

    def _patch(self, kind: int, rng: np.random.Generator) -> Patch:
        if kind == 0:
            number = int(rng.integers(len(self.tomograms)))
            middle = rng.uniform(0, self.tomograms[number].shape)
        else:
            counts = [int((t.position_labels == kind).sum()) for t in self.tomograms]
            pick = int(rng.integers(sum(counts)))
            number = int(np.searchsorted(np.cumsum(counts), pick, side="right"))
            chosen = self.tomograms[number]
            of_kind = chosen.positions[chosen.position_labels == kind]
            middle = of_kind[pick - sum(counts[:number])] + rng.integers(-self.shift, self.shift + 1, size=3)
        shape = np.array(self.tomograms[number].shape)
        start = triple(np.clip(np.round(middle).astype(int) - self.size // 2, 0, shape - self.size))
        return Patch(number, Box(start, triple(s + self.size for s in start)), bool(rng.integers(2)))

    def read(self, patches: Sequence[Patch]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Read patches, normalised by mean and standard deviation of their whole tomogram.

        Returns
        -------
        values : (n, 1, z, y, x) float32
        labels : (n, z, y, x) int64

        Raises
        ------
        FormatError
            If a label belongs to no class, and is not 255 (ignore) either.
        """
        values = np.empty((len(patches), 1, *[self.size] * 3), dtype=np.float32)
        labels = np.empty((len(patches), *[self.size] * 3), dtype=np.int64)
        for number, patch in enumerate(patches):
            tomogram = self.tomograms[patch.tomogram]
            step = -1 if patch.turned else 1
            grey = np.asarray(tomogram.values.read(patch.box), dtype=np.float32)[::step, :, ::step]
            values[number, 0] = (grey - np.float32(tomogram.mean)) / np.float32(tomogram.std)
            labels[number] = tomogram.labels.read(patch.box)[::step, :, ::step]
            strange = labels[number][
                (labels[number] < 0) | (labels[number] > self.classes) & (labels[number] != IGNORE)
            ]
            if strange.size:
                raise FormatError(
                    f"the target of {tomogram.name} holds label {strange[0]}, but the classes of its particles have "
                    f"labels 1 to {self.classes}: add the class, or make it 255 (ignore)"
                )
        return values, labels
