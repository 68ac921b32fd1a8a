"""What blocks cost before they are computed: memory at the peak, and arithmetic.

Both follow from the regions that each step needs (:mod:`deepfinder_dask.networks.regions`). Regions are boxes, so their
extents are known once they are known along each axis, for a single block or for a whole table of candidates at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Box, Shape3
from deepfinder_dask.networks.regions import channels_of, levels_of, needed_regions, sources
from deepfinder_dask.networks.unet import DIVISOR, INPUT, Conv, Program, Step, UpConv
from deepfinder_dask.networks.windows import WAVE_PLANES, schedule, windowed

BYTES = 4
"""Bytes of a float32 value."""
TILE_BYTES = 56 * 2**20
"""Memory of a thread for the tile at hand: what it gathers, and results on their way to a window (measured)."""


@dataclass(frozen=True)
class AxisExtents:
    """How far the regions of each step reach along one axis, in voxels of the step's own grid."""

    total: Mapping[str, int]
    """Summed over all blocks of the axis."""
    largest: Mapping[str, int]
    """Of the block where it is largest."""


@lru_cache(maxsize=4096)
def _extents(steps: tuple[tuple[str, Step], ...], length: int, core: int) -> AxisExtents:
    """Extents along the first axis, of ``length`` voxels, cut into blocks of ``core`` voxels."""
    program = dict(steps)
    total: dict[str, int] = dict.fromkeys([INPUT, *program], 0)
    largest = dict(total)
    for start in range(0, length, core):
        line = Box((start, 0, 0), (min(length, start + core), DIVISOR, DIVISOR))
        for name, region in needed_regions(program, line, (length, DIVISOR, DIVISOR)).items():
            extent = region.shape[0]
            total[name] += extent
            largest[name] = max(largest[name], extent)
    return AxisExtents(total, largest)


@lru_cache(maxsize=1024)
def _planes_held(steps: tuple[tuple[str, Step], ...], length: int, core: int, wave_planes: int) -> Mapping[str, int]:
    """Planes that the window of each step holds at most, over the blocks of ``core`` voxels along z."""
    program, held = dict(steps), dict.fromkeys(dict(steps), 0)
    starts = range(0, length, core)
    for start in {*starts[:4], *starts[-2:]}:  # those in between are like the second to fourth
        box = Box((start, 0, 0), (min(length, start + core), DIVISOR, DIVISOR))
        for name, planes in schedule(program, box, (length, DIVISOR, DIVISOR), wave_planes).planes.items():
            held[name] = max(held[name], planes)
    return held


@dataclass(frozen=True)
class Costs:
    """What the blocks of a grid cost, for a whole table of candidates: one axis of it per axis of the volume."""

    work: NDArray[np.float64]
    """Multiply-adds of all blocks."""
    network: NDArray[np.float64]
    """Bytes that the network holds during a pass by slabs, its input left aside."""
    read: NDArray[np.float64]
    """Voxels that the largest block reads."""
    core: NDArray[np.float64]
    """Voxels that the largest block writes."""


def costs_of(
    program: Program,
    shape: Shape3,
    sizes: Sequence[Sequence[int]],
    *,
    value_bytes: int = 4,
    wave_planes: int = WAVE_PLANES,
    threads: int = 1,
    tiled: bool = True,
) -> Costs:
    """What blocks cost in inference.

    Parameters
    ----------
    program : Program
        Steps that inference computes (:func:`~deepfinder_dask.networks.inference.inference_program`).
    shape : Shape3
        Whole volume in voxels, (z, y, x), multiples of 4.
    sizes : sequence of sequence of int
        Candidates for the core of a block along z, y and x, in voxels.
    value_bytes : int
        Bytes of an activation: 4, or 2 in bf16.
    wave_planes : int
        Planes of a wave.
    threads : int
        Threads that compute a block.
    tiled : bool
        Whether each step of a wave is cut into tiles, as on a CPU, or is a single one, as on a GPU (what the GPU's own
        kernels take beside is not counted).

    Returns
    -------
    Costs
        Each field (candidates of z, of y, of x).
    """
    # Planes are grouped along z alone.
    flat = {name: replace(step, group=1) if isinstance(step, Conv) else step for name, step in program.items()}
    table = [
        [_extents(tuple(steps.items()), n, core) for core in axis]
        for steps, n, axis in zip((program, flat, flat), shape, sizes, strict=True)
    ]
    planes = [_planes_held(tuple(program.items()), shape[0], core, wave_planes) for core in sizes[0]]

    def outer(name: str, field: str) -> NDArray[np.float64]:
        z, y, x = (np.array([getattr(e, field)[name] for e in axis], float) for axis in table)
        return np.asarray(z[:, None, None] * y[None, :, None] * x[None, None, :])

    def window(name: str, planes: list[int], channels: int) -> NDArray[np.float64]:
        y, x = (np.array([e.largest[name] for e in axis], float) for axis in table[1:])
        return np.asarray(value_bytes * channels * np.array(planes, float)[:, None, None] * y[None, :, None] * x)

    output = next(reversed(program))
    work = sum(outer(name, "total") * per_voxel for name, per_voxel in arithmetic_of(program).items())
    network = np.full_like(outer(output, "largest"), float(threads * TILE_BYTES))
    if not tiled:
        channels_read, levels = channels_of(program), levels_of(program)
        tiles = (
            window(
                name,
                [wave_planes >> levels[name]] * len(planes),
                channels_read[sources(step)[0]] + 2 * step.channels_out,
            )
            for name, step in program.items()
            if isinstance(step, Conv | UpConv)
        )
        network = np.max(list(tiles), axis=0)
    for name, channels in windowed(program).items():
        network = network + window(name, [held[name] for held in planes], channels)
    logits = window(output, [2 * wave_planes] * len(planes), channels_of(program)[output])  # of this wave and the last
    return Costs(
        np.asarray(work), network + logits * BYTES / value_bytes, outer(INPUT, "largest"), outer(output, "largest")
    )


def arithmetic_of(program: Program) -> dict[str, float]:
    """Multiply-adds for a voxel of each convolution's output."""
    counts: dict[str, float] = {}
    for name, step in program.items():
        match step:
            case Conv(group=1):
                counts[name] = step.channels_in * step.channels_out * step.kernel**3
            case Conv():
                # Of a group's planes, each two neighbours after it included, comes one plane of products each.
                counts[name] = step.channels_in * step.channels_out * step.kernel**2 * (step.group + 2) / step.group
            case UpConv():
                counts[name] = step.channels_in * step.channels_out * (1.5**3)
    return counts
