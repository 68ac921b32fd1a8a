"""Which blocks: the grid that costs the least arithmetic within the memory of a worker."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import BlockGrid, Shape3, triple
from deepfinder_dask.errors import SettingsError
from deepfinder_dask.networks import DIVISOR, Precision, derive_halo, padded_shape
from deepfinder_dask.networks.cost import BYTES, Costs, costs_of
from deepfinder_dask.networks.inference import GPU_WAVE_PLANES, inference_program
from deepfinder_dask.networks.windows import WAVE_PLANES
from deepfinder_dask.segmentation.settings import GIB

PROCESS_BYTES = GIB * 5 // 8
"""Memory of a worker beside its block: Python, torch and libraries."""
MAX_PARTS = 32
"""Most parts that an axis is cut into when looking for the best block."""
MAX_VOXELS = 2**25
"""Most voxels of a block that is chosen here: what a crash may cost, and how often progress is seen."""


@dataclass(frozen=True)
class Plan:
    """The blocks of a segmentation and what they cost."""

    grid: BlockGrid
    """Blocks of the tomogram; ``read`` holds what the network needs of the true volume."""
    memory: int
    """Projected peak memory of a worker, in bytes."""
    waste: float
    """Arithmetic of all blocks over that of one pass over the whole volume."""
    work: float
    """Multiply-adds of all blocks in one pass of the network."""


def plan_blocks(
    classes: int,
    shape: Shape3,
    *,
    block: Shape3 | None,
    memory: int,
    workers: int = 1,
    threads: int = 1,
    device: str = "cpu",
    precision: Precision = "fp32",
    passes: int = 1,
    scores: bool = False,
) -> Plan:
    """Blocks for a volume.

    Parameters
    ----------
    classes : int
        Classes of the network, the background among them.
    shape : Shape3
        Volume in voxels, (z, y, x).
    block : Shape3 or None
        What a block writes, in voxels (z, y, x), multiples of 4; None chooses what is done first.
    memory : int
        Memory that a worker may use, in bytes.
    workers : int
        Blocks computed at once: few of them should wait for the last block.
    threads : int
        Cores that compute a block.
    device, precision : str
        Where and in which numbers the network computes.
    passes : int
        Passes of the network that are averaged.
    scores : bool
        Whether pseudo-probabilities of all classes are written.

    Returns
    -------
    Plan
        Grid, projected memory and waste.

    Raises
    ------
    SettingsError
        If the block, or the smallest block there is, does not fit the memory.
    """
    padded = padded_shape(shape)
    sizes = [_parts(n) for n in padded] if block is None else [[min(c, n)] for c, n in zip(block, padded, strict=True)]

    def costs(candidates: list[list[int]]) -> Costs:
        return costs_of(
            inference_program(classes, device=device, precision=precision),
            padded,
            candidates,
            value_bytes=BYTES if precision == "fp32" else 2,
            wave_planes=GPU_WAVE_PLANES if device == "cuda" else WAVE_PLANES,
            threads=threads,
            tiled=device != "cuda",
        )

    table = costs(sizes)
    need = PROCESS_BYTES + _bytes_of(table, classes, passes=passes, scores=scores)
    if block is None:
        # Work of all blocks, and of the workers that wait while the last blocks are computed.
        blocks = _outer([np.array([ceil(n / c) for c in axis], float) for n, axis in zip(padded, sizes, strict=True)])
        fits = (need <= memory) & (_outer([np.array(axis, float) for axis in sizes]) <= MAX_VOXELS)
        time = np.where(fits, table.work * np.ceil(blocks / workers) * workers / blocks, np.inf)
        flat = int(np.argmin(time if fits.any() else need))
        best = triple(np.unravel_index(flat, time.shape))
    else:
        best = (0, 0, 0)
    core = triple(axis[i] for axis, i in zip(sizes, best, strict=True))
    if need[best] > memory:
        gib = -(-float(need[best]) // (GIB / 10)) / 10
        raise SettingsError(
            f"{'a block' if block else 'the smallest block'} of {'×'.join(map(str, core))} voxels needs "
            f"{need[best] / GIB:.2f} GiB, allowed are {memory / GIB:.2f} GiB: "
            f"{'use a smaller block, or ' if block else ''}allow --memory {gib:.1f}GiB"
        )
    low, high = derive_halo(inference_program(classes, device=device, precision=precision))
    return Plan(
        grid=BlockGrid(shape, block or core, (low,) * 3, (high,) * 3),
        memory=int(need[best]),
        waste=float(table.work[best] / costs([[n] for n in padded]).work[0, 0, 0]),
        work=float(table.work[best]),
    )


def _bytes_of(costs: Costs, classes: int, *, passes: int, scores: bool) -> NDArray[np.float64]:
    """Peak bytes of a block beside what every process needs: layers, input, output, and the blocks before and after."""
    # While one block is computed, the next one is read (as stored, then normalised) and the last one is written.
    reading = costs.read * BYTES * (2 + 2 * passes)
    writing = 2 * costs.core * (2 + 2 * classes * scores)
    averaged = costs.core * BYTES * classes * (passes > 1)
    return costs.network + reading + writing + averaged


def _outer(axes: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    z, y, x = axes
    return np.asarray(z[:, None, None] * y[None, :, None] * x[None, None, :])


def _parts(n: int) -> list[int]:
    """Sizes that cut an axis of ``n`` voxels into 1, 2, … equal parts, multiples of 4, largest first."""
    return sorted({-(-n // parts // DIVISOR) * DIVISOR for parts in range(1, MAX_PARTS + 1)}, reverse=True)
