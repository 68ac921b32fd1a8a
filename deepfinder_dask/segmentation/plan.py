"""Which blocks: the grid that costs the least arithmetic within the memory of a worker."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import BlockGrid, Shape3, triple
from deepfinder_dask.errors import SettingsError
from deepfinder_dask.networks import DIVISOR, Precision, derive_halo, padded_shape
from deepfinder_dask.networks.cost import BYTES, axis_extents, multiply_adds, peak_bytes
from deepfinder_dask.networks.unet import INPUT, deepfinder_program
from deepfinder_dask.segmentation.settings import GIB

PROCESS_BYTES = GIB * 5 // 8
"""Memory of a worker beside its block: Python, torch and libraries."""
MAX_PARTS = 24
"""Most parts that an axis is cut into when looking for the best block."""


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
    precision : str
        ``fp32`` or ``bf16``.
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
    work, need = _cost(classes, padded, sizes, precision=precision, passes=passes, scores=scores)
    if block is None:
        # Work of all blocks, and of the workers that wait while the last blocks are computed.
        blocks = _outer([np.array([ceil(n / c) for c in axis], float) for n, axis in zip(padded, sizes, strict=True)])
        time = np.where(need <= memory, work * np.ceil(blocks / workers) * workers / blocks, np.inf)
        flat = int(np.argmin(time if np.isfinite(time).any() else need))
        best = triple(np.unravel_index(flat, time.shape))
    else:
        best = (0, 0, 0)
    core = triple(axis[i] for axis, i in zip(sizes, best, strict=True))
    if need[best] > memory:
        gib = -(-float(need[best]) // (GIB / 10)) / 10
        raise SettingsError(
            f"a block of {'×'.join(map(str, core))} voxels needs {need[best] / GIB:.2f} GiB, allowed are "
            f"{memory / GIB:.2f} GiB: use a smaller block, or allow --memory {gib:.1f}GiB"
        )
    low, high = derive_halo(deepfinder_program(classes))
    return Plan(
        grid=BlockGrid(shape, block or core, (low,) * 3, (high,) * 3),
        memory=int(need[best]),
        waste=float(work[best] / whole_work(classes, padded)),
        work=float(work[best]),
    )


def whole_work(classes: int, padded: Shape3) -> float:
    """Multiply-adds of one pass over a whole volume, whose sizes are multiples of 4 voxels."""
    work, _ = _cost(classes, padded, [[n] for n in padded])
    return float(work[0, 0, 0])


def _cost(
    classes: int,
    padded: Shape3,
    sizes: list[list[int]],
    *,
    precision: Precision = "fp32",
    passes: int = 1,
    scores: bool = False,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Multiply-adds of all blocks and peak bytes of a worker, for every combination of block sizes on the axes."""
    program = deepfinder_program(classes)
    extents = [[axis_extents(classes, n, c) for c in axis] for n, axis in zip(padded, sizes, strict=True)]
    names = [INPUT, *program]
    total = {k: _outer([np.array([e.total[k] for e in axis], float) for axis in extents]) for k in names}
    largest = {k: _outer([np.array([e.largest[k] for e in axis], float) for axis in extents]) for k in names}
    read, core = largest[INPUT], largest[names[-1]]
    # While one block is computed, the next one is read (grey values as stored and normalised) and the last one written.
    waiting = read * BYTES * (1 + 2 * passes) + core * (2 + 2 * classes * scores) * 2
    averaged = core * BYTES * classes * (passes > 1)
    # After the network: logits, their winner, and pseudo-probabilities where they are wanted.
    after = core * BYTES * (classes + 5 + 2 * classes * (scores or passes > 1))
    network = peak_bytes(program, largest)
    return multiply_adds(program, total), PROCESS_BYTES + waiting + averaged + np.maximum(network, after)


def _outer(axes: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    z, y, x = axes
    return np.asarray(z[:, None, None] * y[None, :, None] * x[None, None, :])


def _parts(n: int) -> list[int]:
    """Sizes that cut an axis of ``n`` voxels into 1, 2, … equal parts, multiples of 4, largest first."""
    return sorted({-(-n // parts // DIVISOR) * DIVISOR for parts in range(1, MAX_PARTS + 1)}, reverse=True)
