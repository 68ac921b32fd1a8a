"""Patches: where training looks, as a pure function of the seed, the step and the hard negatives known by then.

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
from deepfinder_dask.tomograms import Scaling
from deepfinder_dask.training.augmentation import NONE, Augmentation

ANYWHERE = 0
"""Kind of a patch drawn anywhere in the tomograms."""
NEGATIVE = -1
"""Kind of a patch around a position that is no particle."""
HARD = -2
"""Kind of a patch around a false positive."""

Place = tuple[int, float, float, float]
"""Index of a tomogram, and a position in it in voxels, z, y, x."""


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
    scaling: Scaling
    """What grey values become for the network."""
    positions: NDArray[np.float64]
    """(n, 3) voxels, z, y, x: centres of the particles, and of negatives."""
    position_labels: NDArray[np.int64]
    """(n,) class labels of the particles; ``NEGATIVE`` for negatives."""
    known: tuple[int, ...] | None = None
    """Labels of the classes that are annotated in this tomogram; None for all."""

    def knows(self, classes: int) -> NDArray[np.bool_]:
        """Whether each of ``classes`` classes, the background among them, is annotated."""
        return np.array([self.known is None or label == 0 or label in self.known for label in range(classes)])


@dataclass(frozen=True)
class Patch:
    """One sample of a batch, not yet read."""

    tomogram: int
    """Index of the tomogram."""
    box: Box
    """Voxels to read."""
    turned: bool
    """Whether it is turned by 180° about the tilt axis, which leaves the missing wedge in place."""
    seed: tuple[int, ...] = ()
    """Decides what is random in its augmentation."""


@dataclass(frozen=True)
class PatchSampler:
    """Draws patches around annotated positions, each class equally often, and negatives.

    Source: Moebel et al. 2021, Methods: patches around annotated positions, resampled so that classes are balanced
    (bootstrap), random shifts, and 180° turns about the tilt axis as the only turns that the missing wedge allows.
    """

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
    background: bool = False
    """Whether places anywhere take their turn beside the classes."""
    reversed_axes: tuple[int, ...] = (0, 2)
    """Axes (z, y, x) that a turn by 180° about the tilt axis reverses."""
    augmentation: Augmentation = NONE
    """What is done to the grey values."""

    def __post_init__(self) -> None:
        for tomogram in self.tomograms:
            if min(tomogram.shape) < self.size:
                raise GeometryError(
                    f"patch_size must not exceed the tomogram: {self.size} voxels against "
                    f"{'x'.join(map(str, tomogram.shape))} of {tomogram.name}; use a smaller patch_size"
                )

    def draw(self, step: int, hard: Sequence[Place] = ()) -> list[Patch]:
        """The patches of a step.

        Kinds (each class, negatives, hard negatives, anywhere) take turns in an order shuffled anew each round: so
        every kind is seen equally often, however rare its particles are.

        Parameters
        ----------
        step : int
            Counted from 0.
        hard : sequence of Place
            Where false positives were found.
        """
        rng = np.random.default_rng([self.seed, step])
        found = [np.unique(t.position_labels) for t in self.tomograms]
        extra = [ANYWHERE] * self.background + [HARD] * bool(hard)
        kinds = np.unique(np.concatenate([np.array(extra, dtype=np.int64), *found]))
        if not len(kinds):
            kinds = np.array([ANYWHERE])
        rounds = [rng.permutation(kinds) for _ in range(-(-self.batch // len(kinds)))]
        chosen = np.concatenate(rounds)[: self.batch]
        return [self._patch(int(kind), rng, hard, (self.seed, step, number)) for number, kind in enumerate(chosen)]

    def anywhere(self, rng: np.random.Generator) -> Patch:
        """A patch of any place, not turned."""
        number = int(rng.integers(len(self.tomograms)))
        return Patch(number, self._box(number, rng.uniform(0, self.tomograms[number].shape)), turned=False)

    def _patch(self, kind: int, rng: np.random.Generator, hard: Sequence[Place], seed: tuple[int, ...]) -> Patch:
        if kind == ANYWHERE:
            number = int(rng.integers(len(self.tomograms)))
            middle = rng.uniform(0, self.tomograms[number].shape)
        elif kind == HARD:
            number, *place = hard[int(rng.integers(len(hard)))]
            middle = np.array(place) + rng.integers(-self.shift, self.shift + 1, size=3)
        else:
            counts = [int((t.position_labels == kind).sum()) for t in self.tomograms]
            pick = int(rng.integers(sum(counts)))
            number = int(np.searchsorted(np.cumsum(counts), pick, side="right"))
            tomogram = self.tomograms[number]
            of_kind = tomogram.positions[tomogram.position_labels == kind]
            middle = of_kind[pick - sum(counts[:number])] + rng.integers(-self.shift, self.shift + 1, size=3)
        return Patch(number, self._box(number, middle), bool(rng.integers(2)), seed)

    def _box(self, number: int, middle: NDArray[np.float64]) -> Box:
        """Box of a patch around a place, moved to lie inside its tomogram."""
        shape = np.array(self.tomograms[number].shape)
        start = triple(np.clip(np.round(middle).astype(int) - self.size // 2, 0, shape - self.size))
        return Box(start, triple(s + self.size for s in start))

    def read_one(self, patch: Patch, values: NDArray[np.float32], labels: NDArray[np.uint8]) -> None:
        """Read a patch, normalised by what is known of its whole tomogram, and augmented.

        Parameters
        ----------
        patch : Patch
        values, labels : (z, y, x)
            Written.

        Raises
        ------
        FormatError
            If a label belongs to no class, and is not 255 (ignore) either.
        """
        tomogram = self.tomograms[patch.tomogram]
        grey, truth = tomogram.values.read(patch.box), tomogram.labels.read(patch.box)
        strange = truth[(truth < 0) | ((truth > self.classes) & (truth != IGNORE))]
        if strange.size:
            raise FormatError(
                f"the target of {tomogram.name} holds label {strange[0]}, but the classes of its particles have "
                f"labels 1 to {self.classes}: add the class, or make it 255 (ignore)"
            )
        if patch.turned:
            grey, truth = np.flip(grey, self.reversed_axes), np.flip(truth, self.reversed_axes)
        tomogram.scaling.apply(grey, out=values)
        np.copyto(labels, truth, casting="unsafe")
        if tomogram.known is not None:  # what is marked of other classes says nothing of those that are annotated
            labels[~np.isin(labels, [0, *tomogram.known])] = IGNORE
        self.augmentation.apply(values, patch.seed)

    def read(self, patches: Sequence[Patch]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Read patches.

        Returns
        -------
        values : (n, 1, z, y, x) float32
        labels : (n, z, y, x) uint8

        Raises
        ------
        FormatError
            If a label belongs to no class, and is not 255 (ignore) either.
        """
        values = np.empty((len(patches), 1, *[self.size] * 3), dtype=np.float32)
        labels = np.empty((len(patches), *[self.size] * 3), dtype=np.uint8)
        for number, patch in enumerate(patches):
            self.read_one(patch, values[number, 0], labels[number])
        return values, labels

    def knowledge(self, patches: Sequence[Patch]) -> NDArray[np.bool_] | None:
        """Which classes are annotated in the tomogram of each patch, (n, class), the background among them.

        Returns
        -------
        ndarray or None
            None where all classes are annotated in all tomograms.
        """
        if all(t.known is None for t in self.tomograms):
            return None
        return np.array([self.tomograms[p.tomogram].knows(self.classes + 1) for p in patches])
