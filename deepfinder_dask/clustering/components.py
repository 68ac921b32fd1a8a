"""Connected components as a table of integers: what is known of each, the vote on its class, and its score.

Everything summed is an int64, so that the order of the sums cannot change a bit of the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.errors import SettingsError
from deepfinder_dask.particles import MAX_LABEL, ParticleClass, placeholder_classes

FULL = 255
"""Stored value of probability 1."""
MOST = 2**63 - 1
"""More voxels than any particle has."""


@dataclass(frozen=True, slots=True, eq=False)
class Components:
    """Connected components, ``n`` of them: those of one block, or of a whole label map in canonical order.

    The canonical order is that of the components' first voxels in C order, which is the order of
    ``scipy.ndimage.label``. Votes are the classes inside each component: one row per component and label that occurs
    in it, in order of component, then label.
    """

    sizes: NDArray[np.int64]
    """(n,): voxels."""
    sums: NDArray[np.int64]
    """(n, 3): sums of the voxels' indices in the volume, (z, y, x)."""
    first: NDArray[np.int64]
    """(n,): smallest linear index (C order) of a voxel in the volume."""
    low: NDArray[np.int64]
    """(n, 3): start of the bounding box, (z, y, x)."""
    high: NDArray[np.int64]
    """(n, 3): stop of the bounding box (one past its last voxel), (z, y, x)."""
    vote_component: NDArray[np.int64]
    """(m,): component of each vote, 0 to n - 1."""
    vote_label: NDArray[np.int64]
    """(m,): label, 1 to 254."""
    vote_size: NDArray[np.int64]
    """(m,): voxels of that label in the component."""
    vote_probability: NDArray[np.int64]
    """(m,): sum over those voxels of the stored probability (255 is 1); 0 without a probability volume."""
    scored: bool
    """Whether there was a probability volume."""

    def __len__(self) -> int:
        return len(self.sizes)

    @classmethod
    def empty(cls, *, scored: bool) -> Components:
        """No components."""
        none = np.zeros(0, np.int64)
        triples = np.zeros((0, 3), np.int64)
        return cls(none, triples, none, triples, triples, none, none, none, none, scored)

    @property
    def centroids(self) -> NDArray[np.float64]:
        """(n, 3) float64: mean index of the voxels, (z, y, x)."""
        return self.sums / self.sizes[:, None]

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,): label of most voxels, the smallest of them on a tie."""
        return self.vote_label[self._winners()]

    @property
    def scores(self) -> NDArray[np.float64]:
        """(n,) float64: mean probability, 0 to 1, over the voxels of the winning label; NaN without probabilities."""
        if not self.scored:
            return np.full(len(self), np.nan)
        winners = self._winners()
        return self.vote_probability[winners] / (FULL * self.vote_size[winners])

    def _winners(self) -> NDArray[np.intp]:
        """(n,): row of the winning vote of each component."""
        order = np.lexsort((self.vote_label, -self.vote_size, self.vote_component))
        first = np.searchsorted(self.vote_component[order], np.arange(len(self)))
        return order[first]

    def take(self, keep: NDArray[np.bool_]) -> Components:
        """Components for which ``keep``, (n,), is True, in the same order."""
        number = np.cumsum(keep) - 1
        votes = keep[self.vote_component]
        return Components(
            self.sizes[keep],
            self.sums[keep],
            self.first[keep],
            self.low[keep],
            self.high[keep],
            number[self.vote_component[votes]],
            self.vote_label[votes],
            self.vote_size[votes],
            self.vote_probability[votes],
            self.scored,
        )

    def reorder(self) -> Components:
        """The same components in canonical order."""
        order = np.argsort(self.first)
        rank = np.empty(len(self), np.int64)
        rank[order] = np.arange(len(self))
        votes = np.argsort(rank[self.vote_component], kind="stable")
        return Components(
            self.sizes[order],
            self.sums[order],
            self.first[order],
            self.low[order],
            self.high[order],
            rank[self.vote_component[votes]],
            self.vote_label[votes],
            self.vote_size[votes],
            self.vote_probability[votes],
            self.scored,
        )


def concatenate(parts: Sequence[Components], *, scored: bool) -> Components:
    """Components of all parts, one after the other."""
    parts = [Components.empty(scored=scored), *parts]
    offsets = np.cumsum([0, *(len(part) for part in parts[:-1])])
    votes = [part.vote_component + offset for part, offset in zip(parts, offsets, strict=True)]
    return Components(
        np.concatenate([part.sizes for part in parts]),
        np.concatenate([part.sums for part in parts]),
        np.concatenate([part.first for part in parts]),
        np.concatenate([part.low for part in parts]),
        np.concatenate([part.high for part in parts]),
        np.concatenate(votes),
        np.concatenate([part.vote_label for part in parts]),
        np.concatenate([part.vote_size for part in parts]),
        np.concatenate([part.vote_probability for part in parts]),
        scored,
    )


def combine(parts: Components, group: NDArray[np.int64], n: int) -> Components:
    """Components that are pieces of the same one, added up.

    Parameters
    ----------
    parts : Components
        The pieces.
    group : (len(parts),) int64
        Which of the ``n`` results each piece belongs to, 0 to n - 1; every result has a piece.
    n : int
        Number of results.

    Returns
    -------
    Components
        In order of group.
    """
    end = np.iinfo(np.int64).max
    sizes, sums = np.zeros(n, np.int64), np.zeros((n, 3), np.int64)
    first, low, high = np.full(n, end), np.full((n, 3), end), np.zeros((n, 3), np.int64)
    np.add.at(sizes, group, parts.sizes)
    np.add.at(sums, group, parts.sums)
    np.minimum.at(first, group, parts.first)
    np.minimum.at(low, group, parts.low)
    np.maximum.at(high, group, parts.high)
    key = group[parts.vote_component] * (MAX_LABEL + 1) + parts.vote_label
    keys, where = np.unique(key, return_inverse=True)
    votes, probability = np.zeros(len(keys), np.int64), np.zeros(len(keys), np.int64)
    np.add.at(votes, where, parts.vote_size)
    np.add.at(probability, where, parts.vote_probability)
    component, label = np.divmod(keys, MAX_LABEL + 1)
    return Components(sizes, sums, first, low, high, component, label, votes, probability, parts.scored)


@dataclass(frozen=True, slots=True)
class SizeLimits:
    """Smallest and largest size in voxels that counts as a particle of each class; components outside are dropped."""

    smallest: dict[int, int]
    """By label; labels that are missing have no minimum."""
    largest: dict[int, int]
    """By label; labels that are missing have no maximum."""

    @classmethod
    def of(
        cls,
        classes: Sequence[ParticleClass] | None,
        min_size: int | Mapping[str, int] | None = None,
        max_size: int | Mapping[str, int] | None = None,
    ) -> SizeLimits:
        """Limits of the classes, with those that are given in place of their own.

        Parameters
        ----------
        classes : sequence of ParticleClass or None
            What the labels mean; None where unknown: the classes are then called ``class_1`` and so on.
        min_size, max_size : int or mapping, optional
            Voxels, for all classes or by the name of a class.

        Raises
        ------
        SettingsError
            A minimum is above the maximum of its class, so that nothing of it could be found, or there is no such
            class.
        """
        known = placeholder_classes(range(1, MAX_LABEL + 1)) if classes is None else classes
        smallest = _by_label({one.label: one.min_size for one in known}, known, min_size, "min_size")
        largest = _by_label({one.label: one.max_size for one in known}, known, max_size, "max_size")
        for one in known:
            if largest.get(one.label, MOST) < smallest.get(one.label, 0):
                raise SettingsError(
                    f"min_size {smallest[one.label]} is above the max_size {largest[one.label]} of class {one.name!r}"
                )
        return cls(smallest, largest)

    def before_splitting(self, labels: Sequence[int]) -> SizeLimits:
        """What may be dropped before components are split, whose parts may have any of these labels: the crumbs."""
        least = min((self.smallest.get(label, 0) for label in labels), default=0)
        return SizeLimits(dict.fromkeys(range(1, MAX_LABEL + 1), least) if least else {}, {})

    def accept(self, components: Components) -> NDArray[np.bool_]:
        """(n,): which whole components have a size that their class allows."""
        if not (self.smallest or self.largest):
            return np.ones(len(components), bool)
        smallest = np.zeros(MAX_LABEL + 1, np.int64)
        largest = np.full(MAX_LABEL + 1, MOST)
        smallest[list(self.smallest)] = list(self.smallest.values())
        largest[list(self.largest)] = list(self.largest.values())
        labels = components.labels
        return (components.sizes >= smallest[labels]) & (components.sizes <= largest[labels])


def _by_label(
    own: dict[int, int | None],
    classes: Sequence[ParticleClass],
    given: int | Mapping[str, int] | None,
    name: str,
) -> dict[int, int]:
    """Sizes by label: what is given, else the class's own."""
    if isinstance(given, int):
        return dict.fromkeys(own, given)
    labels = {one.name: one.label for one in classes}
    for key in given or {}:
        if key not in labels:
            some = ", ".join(list(labels)[:8]) + (" …" if len(labels) > 8 else "")
            raise SettingsError(f"{name} names {key!r}, which is none of the classes: {some or 'there are none'}")
    sizes = {**own, **{labels[key]: size for key, size in (given or {}).items()}}
    return {label: size for label, size in sizes.items() if size is not None}
