"""Parting components in which particles touch: a watershed of each component, alone and in its own box.

What a component is parted into follows from its own voxels and nothing else:

1. its *depth* is 16 times the Euclidean distance of each voxel to the nearest voxel outside the component, rounded,
   times the stored probability of the voxel's label (times 1 where there is none), summed over the 3 × 3 × 3 voxels
   around: whole numbers, and the same wherever the component lies and whatever is around it;
2. its *peaks* are the voxels as deep as any of their 26 neighbours, taken from the deepest down, the first in C order
   of equals, each of them unless it lies nearer than a given distance to one taken before;
3. each voxel belongs to the peak that a watershed (``skimage.segmentation.watershed``) of the depth gives it to.

A component is read as a whole, with the box around it, whatever the blocks: so they change nothing. One whose box has
more than ``SPLIT_VOXELS`` voxels is left as it is, and a warning names it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Box, Shape3, triple
from deepfinder_dask.clustering.bandwidths import ClusterWarning
from deepfinder_dask.clustering.components import Components, concatenate
from deepfinder_dask.clustering.labelling import LabelJob, Numbered, measure, number_voxels
from deepfinder_dask.clustering.merging import AXES_CROSSED
from deepfinder_dask.clustering.planning import SPLIT_VOXELS
from deepfinder_dask.execution import Executor, Progress

FINENESS = 16
"""Steps of depth per voxel of distance."""
NAMED = 3
"""Most components that a warning names."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A component that may have to be parted."""

    number: int
    """Which one."""
    first: int
    """Smallest linear index (C order) of its voxels in the volume."""
    box: Box
    """Smallest box around it."""
    distance: float
    """Least distance of two peaks, in voxels."""


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What a component was parted into: two or more."""

    whole: Whole
    """The component."""
    components: Components
    """Its parts, in canonical order."""


def split_components(
    job: LabelJob,
    components: Components,
    distances: NDArray[np.float64],
    executor: Executor,
    name: str,
    *,
    progress: bool,
) -> tuple[Components, list[Parts]]:
    """Part the components that are more than one particle, as the module says.

    Parameters
    ----------
    job : LabelJob
        What the components were made from.
    components : Components
        All components of the volume.
    distances : (n,) float64
        Least distance of two particles in each, in voxels.
    executor : Executor
        Where boxes are computed.
    name : str
        Name of the tomogram, for the bar and the warning.
    progress : bool
        Whether a bar may be shown.

    Returns
    -------
    components : Components
        With the parts in place of what was parted, in canonical order.
    parts : list of Parts
        What was parted, in order of component.
    """
    extent = components.high - components.low
    possible = ((extent - 1.0) ** 2).sum(axis=1) >= distances**2  # no room for two peaks otherwise
    large = possible & (extent.prod(axis=1) > SPLIT_VOXELS)
    if large.any():
        _warn_of_large(components.take(large), job.shape, name)
    todo = [
        Whole(n, int(components.first[n]), _box(components.low[n], components.high[n]), float(distances[n]))
        for n in np.flatnonzero(possible & ~large).tolist()
    ]
    parts: list[Parts] = []
    with Progress(f"Splitting {name}", len(todo), enabled=None if progress else False) as bar:
        for number, found in executor.run(partial(part_component, job), todo, label="split"):
            if found is not None:
                parts.append(Parts(todo[number], found))
            bar.advance()
    parts.sort(key=lambda one: one.whole.number)
    keep = np.ones(len(components), bool)
    keep[[one.whole.number for one in parts]] = False
    tables = [components.take(keep), *(one.components for one in parts)]
    return concatenate(tables, scored=components.scored).reorder(), parts


def _box(low: NDArray[np.int64], high: NDArray[np.int64]) -> Box:
    return Box(triple(low), triple(high))


def _warn_of_large(large: Components, shape: Shape3, name: str) -> None:
    where = [
        f"{size} voxels from {tuple(int(i) for i in np.unravel_index(first, shape))}"
        for first, size in zip(large.first[:NAMED].tolist(), large.sizes.tolist(), strict=False)
    ]
    more = "" if len(large) <= NAMED else f" and {len(large) - NAMED} more"
    warnings.warn(
        f"{name}: {len(large)} components are too large to be split (boxes of more than {SPLIT_VOXELS} voxels) and "
        f"stay whole: {', '.join(where)} (z, y, x){more}; mean-shift parts particles at any size",
        ClusterWarning,
        stacklevel=2,
    )


def part_component(job: LabelJob, whole: Whole) -> Components | None:
    """The parts of a component, in canonical order; None where it is one particle.

    Peak memory is about 110 bytes per voxel of its box.
    """
    found = parted(job, whole)
    if found is None:
        return None
    probability = None if job.probability is None else job.probability.read(found.box)
    return measure(found.numbers, found.n, found.mask, found.labels, probability, found.box, job.shape)


def parted(job: LabelJob, whole: Whole) -> Numbered | None:
    """Voxels of a component, numbered by part in canonical order; None where it is one particle."""
    from skimage.segmentation import watershed

    objects = number_voxels(job, whole.box)
    if objects is None:
        return None
    at = np.array(np.unravel_index(whole.first, job.shape)) - objects.box.start
    mask = objects.numbers == objects.numbers[tuple(at)]
    weights = None if job.probability is None else job.probability.read(objects.box)
    depth = depth_of(mask, weights)
    peaks = peaks_of(depth, mask, whole.distance)
    if len(peaks) < 2:
        return None
    markers = np.zeros(mask.shape, np.int32)
    markers[tuple(np.transpose(peaks))] = np.arange(1, len(peaks) + 1)
    search: Any = watershed
    basins: NDArray[np.int32] = search(-depth, markers, connectivity=_neighbours(job.connectivity), mask=mask)
    owner, first = np.unique(basins[mask], return_index=True)
    rank = np.zeros(len(peaks) + 1, np.uint32)
    rank[owner[np.argsort(first)]] = np.arange(1, len(owner) + 1)
    return Numbered(objects.box, objects.labels, mask, rank[basins], len(owner))


def depth_of(mask: NDArray[np.bool_], weights: NDArray[np.uint8] | None) -> NDArray[np.int64]:
    """Depth of the voxels of a component, (z, y, x) int64; 0 outside.

    Parameters
    ----------
    mask : (z, y, x) bool
        The component; outside the array there is nothing of it.
    weights : (z, y, x) uint8 or None
        Probabilities.
    """
    from scipy import ndimage

    distance = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1, 1:-1]
    depth: NDArray[np.int64] = np.rint(FINENESS * distance).astype(np.int64)
    if weights is not None:
        depth *= weights
    for axis in range(3):
        depth = ndimage.correlate1d(depth, np.ones(3), axis=axis, mode="constant")
    depth[~mask] = 0
    return depth


def peaks_of(depth: NDArray[np.int64], mask: NDArray[np.bool_], distance: float) -> list[tuple[int, int, int]]:
    """Peaks of a component, (z, y, x), the deepest first, at least a distance in voxels apart."""
    from scipy import ndimage

    candidates = (ndimage.maximum_filter(depth, 3, mode="constant") == depth) & mask
    places, height = np.argwhere(candidates), depth[candidates]
    places = places[np.argsort(-height, kind="stable")]
    peaks = []
    while len(places):
        peaks.append(triple(places[0]))
        places = places[((places - places[0]) ** 2).sum(axis=1) >= distance**2]
    return peaks


def _neighbours(connectivity: int) -> NDArray[np.bool_]:
    """(3, 3, 3): voxels that count as neighbours of the one in the middle."""
    steps: NDArray[np.int64] = np.abs(np.indices((3, 3, 3)) - 1).sum(axis=0)
    return steps <= AXES_CROSSED[connectivity]


def cut_in(parts: Sequence[Parts], box: Box) -> list[Parts]:
    """Those whose component has a box that meets this one."""
    return [one for one in parts if one.whole.box.intersect(box).size]
