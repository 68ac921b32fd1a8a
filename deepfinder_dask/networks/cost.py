"""What blocks cost before they are computed: memory at the peak, and arithmetic.

Both follow from the regions that each step needs (:mod:`deepfinder_dask.networks.regions`). Regions are boxes, so their
extents are known once they are known along each axis, for a single block or for a whole table of candidates at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Box
from deepfinder_dask.networks.regions import last_uses, needed_regions, sources
from deepfinder_dask.networks.unet import DIVISOR, INPUT, Concat, Conv, Program, deepfinder_program

BYTES = 4
"""Bytes of a float32 value."""

Voxels = Mapping[str, NDArray[np.float64]]
"""Voxels of each step's region, an array over candidates of blocks."""


@dataclass(frozen=True)
class AxisExtents:
    """How far the regions of each step reach along one axis, in voxels of the step's own grid."""

    total: Mapping[str, int]
    """Summed over all blocks of the axis."""
    largest: Mapping[str, int]
    """Of the block where it is largest."""


@lru_cache(maxsize=4096)
def axis_extents(classes: int, length: int, core: int) -> AxisExtents:
    """Extents along an axis of ``length`` voxels, a multiple of 4, cut into blocks of ``core`` voxels."""
    program = deepfinder_program(classes)
    total: dict[str, int] = dict.fromkeys([INPUT, *program], 0)
    largest = dict(total)
    for start in range(0, length, core):
        line = Box((start, 0, 0), (min(length, start + core), DIVISOR, DIVISOR))
        for name, region in needed_regions(program, line, (length, DIVISOR, DIVISOR)).items():
            extent = region.shape[0]
            total[name] += extent
            largest[name] = max(largest[name], extent)
    return AxisExtents(total, largest)


def channels_of(program: Program) -> dict[str, int]:
    """Channels of each step's output."""
    channels = {INPUT: 1}
    for name, step in program.items():
        match step:
            case Conv():
                channels[name] = step.channels_out
            case Concat():
                channels[name] = channels[step.first] + channels[step.second]
            case _:
                channels[name] = channels[step.source]
    return channels


def peak_bytes(program: Program, voxels: Voxels) -> NDArray[np.float64]:
    """Bytes that a forward pass holds at its peak, float32.

    At each step: what later steps still read, the step's output, and a copy of its input (a convolution takes its input
    in its own memory layout, padded at the volume's borders).
    """
    channels, last = channels_of(program), last_uses(program)
    size = {name: channels[name] * BYTES * voxels[name] for name in channels}
    held: dict[str, Any] = {INPUT: size[INPUT]}
    peak = np.zeros_like(size[INPUT])
    for name, step in program.items():
        copies = sum(size[source] for source in sources(step))
        held[name] = size[name]
        peak = np.maximum(peak, sum(held.values()) + copies)
        for source in sources(step):
            if last[source] == name:
                held.pop(source, None)
    return peak


def multiply_adds(program: Program, voxels: Voxels) -> NDArray[np.float64]:
    """Multiply-adds of all convolutions on these voxels."""
    steps = ((name, step) for name, step in program.items() if isinstance(step, Conv))
    return np.asarray(sum(voxels[name] * (s.channels_in * s.channels_out * s.kernel**3) for name, s in steps))
