"""Which blocks: whole shards where they fit, few enough voxels for the memory of a worker."""

from __future__ import annotations

from math import prod

from deepfinder_dask.blocks import BLOCK_MULTIPLE, BlockGrid, Shape3, triple
from deepfinder_dask.errors import SettingsError

MIB = 1024**2
BLOCK_VOXELS = 32 * MIB
"""Most voxels of a block that is chosen here, unless less memory is allowed: about 600 MiB a worker."""
MAX_VOXELS = 2**32 - 1
"""Most voxels of any block: components in it are numbered with 32 bits."""
PROCESS_BYTES = 256 * MIB
"""Memory of a worker beside its block: Python, libraries and the tables of a few thousand components."""
SLAB_BYTES = 64 * MIB
"""Memory for measuring one slab of a block."""
VOXEL_BYTES = 7
"""Bytes per voxel of a block beside the label as stored: see ``label_block``."""
COMPILER_BYTES = 128 * MIB
"""Memory of the compiled code of mean-shift and its compiler."""
SHIFT_VOXEL_BYTES = 3
"""Bytes per voxel that mean-shift reads, beside the label as stored: label 1, probability 1, bits and tables."""
SPLIT_VOXELS = 4 * MIB
"""Most voxels of the box of a component that is parted. Part of what splitting means, so it is no setting."""
SPLIT_VOXEL_BYTES = 110
"""Bytes per voxel of the box of a component that is parted: distances, depth, and the watershed's copies and queue."""


def check_split_memory(memory: int | None) -> None:
    """Refuse less memory than it takes to part the largest component that is parted.

    Raises
    ------
    SettingsError
        A worker may use less.
    """
    need = PROCESS_BYTES + SPLIT_VOXELS * SPLIT_VOXEL_BYTES
    if memory is not None and need > memory:
        raise SettingsError(
            f"splitting needs {need / MIB:.0f} MiB, whatever the block, allowed are {memory / MIB:.0f}: "
            f"use at least --memory {-(-need // MIB)}MiB"
        )


def projected_bytes(voxels: int, itemsize: int) -> int:
    """Projected peak memory of a worker, in bytes.

    Parameters
    ----------
    voxels : int
        Voxels of a block.
    itemsize : int
        Bytes per stored label.
    """
    return PROCESS_BYTES + SLAB_BYTES + voxels * (itemsize + VOXEL_BYTES)


def plan_blocks(shape: Shape3, unit: Shape3, itemsize: int, *, block: Shape3 | None, memory: int | None) -> BlockGrid:
    """Blocks for a label map.

    Parameters
    ----------
    shape : tuple of int
        Volume in voxels, (z, y, x).
    unit : tuple of int
        Voxels that are best read together, (z, y, x).
    itemsize : int
        Bytes per stored label.
    block : tuple of int or None
        Voxels of a block, (z, y, x); None chooses whole units.
    memory : int or None
        Memory that a worker may use, in bytes; None for no more than about 600 MiB.

    Raises
    ------
    SettingsError
        The block, or the smallest block there is, does not fit the memory.
    """
    most = BLOCK_VOXELS
    if memory is not None:
        most = min(MAX_VOXELS, (memory - PROCESS_BYTES - SLAB_BYTES) // (itemsize + VOXEL_BYTES))
    core = block if block is not None else _largest(shape, unit, most)
    clipped = triple(min(c, n) for c, n in zip(core, shape, strict=True))
    need = projected_bytes(prod(clipped), itemsize)
    if memory is not None and need > memory:
        raise SettingsError(
            f"a block of {'×'.join(map(str, clipped))} voxels needs {need / MIB:.0f} MiB, allowed are "
            f"{memory / MIB:.0f}: use a smaller block, or at least --memory {-(-need // MIB)}MiB"
        )
    if prod(clipped) > MAX_VOXELS:
        raise SettingsError(
            f"a block has at most {MAX_VOXELS} voxels, got {'×'.join(map(str, clipped))}: use a smaller one"
        )
    return BlockGrid(shape, clipped)


def plan_shift_blocks(
    shape: Shape3, unit: Shape3, itemsize: int, *, halo: int, block: Shape3 | None, memory: int | None
) -> BlockGrid:
    """Blocks for mean-shift, which reads ``halo`` voxels around them: as :func:`plan_blocks`, smaller where need be.

    Raises
    ------
    SettingsError
        The block, or the smallest block there is, does not fit the memory with its halo.
    """
    if memory is None:
        return plan_blocks(shape, unit, itemsize, block=block, memory=None)
    fixed = PROCESS_BYTES + SLAB_BYTES
    for tenths in range(10, 0, -1):
        part = memory if block is not None else fixed + (memory - fixed) * tenths // 10
        grid = plan_blocks(shape, unit, itemsize, block=block, memory=part if memory > fixed else memory)
        region = [min(c + 2 * halo, n) for c, n in zip(grid.core, shape, strict=True)]
        need = PROCESS_BYTES + COMPILER_BYTES + prod(region) * (itemsize + SHIFT_VOXEL_BYTES)
        if need <= memory:
            return grid
    raise SettingsError(
        f"mean-shift reads blocks of {'×'.join(map(str, grid.core))} voxels with {halo} voxels around, which needs "
        f"{need / MIB:.0f} MiB, allowed are {memory / MIB:.0f}: use a smaller block, or at least "
        f"--memory {-(-need // MIB)}MiB"
    )


def _largest(shape: Shape3, unit: Shape3, most: int) -> Shape3:
    """Whole units, as near to a cube as they allow, of at most ``most`` voxels; a part of one too large."""
    core = [min(u, n) for u, n in zip(unit, shape, strict=True)]
    while prod(core) > most and max(core) > BLOCK_MULTIPLE:
        axis = core.index(max(core))
        core[axis] = max(BLOCK_MULTIPLE, core[axis] // 2 // BLOCK_MULTIPLE * BLOCK_MULTIPLE)
    while True:
        grown = []
        for axis in range(3):
            wider = [*core]
            wider[axis] = min(core[axis] * 2, -(-shape[axis] // core[axis]) * core[axis])
            if core[axis] < shape[axis] and prod(wider) <= most:
                grown.append((core[axis], wider))
        if not grown:
            return triple(core)
        core = min(grown)[1]
