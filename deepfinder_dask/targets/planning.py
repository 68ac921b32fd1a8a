"""Which blocks: those asked for, or as large as the memory of a worker allows."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from deepfinder_dask.blocks import BLOCK_MULTIPLE, BlockGrid, Shape3, triple
from deepfinder_dask.errors import SettingsError
from deepfinder_dask.targets.shapes import Shape

MIB = 1024**2
BLOCK: Shape3 = (128, 128, 256)
"""Voxels of a block where nobody says."""
PROCESS_BYTES = 320 * MIB
"""Memory of a worker beside its block: Python, libraries, compiled code."""
VOXEL_BYTES = 32
"""Bytes per voxel of a block: owner 4, rank 8, labels and given maps 3, an index of 8, what is being written."""
SHELL_BYTES = 56
"""Bytes per voxel more where there is a shell: distances 8, nearest voxels 12 and 24, squares 8."""


def plan_blocks(
    shape: Shape3, shapes: Sequence[Shape], *, halo: Shape3, block: Shape3 | None, memory: int | None
) -> BlockGrid:
    """Blocks for a target.

    Parameters
    ----------
    shape : tuple of int
        Tomogram in voxels, (z, y, x).
    shapes : sequence of Shape
        What every worker holds.
    halo : tuple of int
        Voxels read around a block, (z, y, x).
    block : tuple of int or None
        Voxels of a block, (z, y, x); None chooses.
    memory : int or None
        Memory that a worker may use, in bytes.

    Raises
    ------
    SettingsError
        The block, or the smallest there is, does not fit the memory.
    """
    core = [min(b, n) for b, n in zip(block or BLOCK, shape, strict=True)]
    fixed = PROCESS_BYTES + sum(one.values.nbytes for one in shapes)
    each = VOXEL_BYTES + (SHELL_BYTES if any(halo) else 0)

    def need() -> int:
        return fixed + each * prod(min(c + 2 * h, n) for c, h, n in zip(core, halo, shape, strict=True))

    while memory is not None and block is None and need() > memory and max(core) > BLOCK_MULTIPLE:
        axis = core.index(max(core))
        core[axis] = max(BLOCK_MULTIPLE, core[axis] // 2 // BLOCK_MULTIPLE * BLOCK_MULTIPLE)
    if memory is not None and need() > memory:
        raise SettingsError(
            f"a block of {'×'.join(map(str, core))} voxels needs {need() / MIB:.0f} MiB, allowed are "
            f"{memory / MIB:.0f}: use a smaller block, or at least --memory {-(-need() // MIB)}MiB"
        )
    return BlockGrid(shape, triple(core), halo, halo)
