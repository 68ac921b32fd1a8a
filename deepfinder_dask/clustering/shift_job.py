"""What mean-shift is made from: the label map, and which of its classes are clustered together."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Box, Shape3
from deepfinder_dask.clustering.labelling import Source, as_labels

LABELS = 256
"""Values that a label can have."""


@dataclass(frozen=True, slots=True)
class Group:
    """Classes whose voxels are clustered together."""

    labels: tuple[int, ...]
    """Their labels."""
    bandwidth: float
    """Radius of the ball whose voxels are averaged, in voxels."""

    def table(self) -> NDArray[np.bool_]:
        """(256,): which labels belong to the group."""
        table = np.zeros(LABELS, bool)
        table[list(self.labels)] = True
        return table


@dataclass(frozen=True, slots=True)
class ShiftJob:
    """What mean-shift is made from; picklable, the same for all blocks."""

    labels: Source
    """The label map, (z, y, x)."""
    probability: Source | None
    """Probability of each voxel's label, (z, y, x) uint8, 255 is 1; None where unknown."""
    shape: Shape3
    """Extent of both in voxels, (z, y, x)."""
    groups: tuple[Group, ...]
    """Classes that are clustered together; each label in one group at most."""
    known: tuple[int, ...] | None
    """Labels that may occur, structures included; None allows all."""
    members: bool
    """Whether the cluster of every voxel is wanted."""

    def read(self, box: Box) -> NDArray[np.uint8]:
        """Labels of a box of voxels."""
        labels = np.ascontiguousarray(as_labels(self.labels.read(box), str(self.labels)))
        return labels if labels.flags.writeable else labels.copy()  # compiled once, for arrays of one kind


def halo_of(bandwidth: float) -> int:
    """Voxels read around positions: the ball, two voxels for rounding, and room for most trajectories to end."""
    return ceil(bandwidth) + 2 + ceil(2 * bandwidth)
