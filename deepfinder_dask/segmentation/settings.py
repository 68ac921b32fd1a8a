"""Settings of ``segment``."""

from __future__ import annotations

from dataclasses import dataclass

from deepfinder_dask.blocks import asked_block
from deepfinder_dask.errors import SettingsError

GIB = 1024**3
DEFAULT_MEMORY = 4 * GIB
"""Memory of a worker where nobody says, in bytes."""


@dataclass(frozen=True)
class SegmentSettings:
    """How a tomogram is segmented. None of the settings for blocks, memory and workers changes the result."""

    scores: bool = False
    """Write the pseudo-probability of every class too (16-bit floats; large)."""
    block: tuple[int, int, int] | None = None
    """What one block writes, in voxels (z, y, x), multiples of 4; by default the least work that fits the memory."""
    memory: int | None = None
    """Memory that one worker (each thread of it) may use, in bytes: decides the block; by default 4 GiB."""
    workers: int | None = None
    """Local worker processes; by default this process does the work, on all its cores."""
    scheduler: str | None = None
    """Address of a running Dask scheduler to use instead."""
    rescale: bool = False
    """Resample the tomogram to the voxel size of the weights, and the results back on its own grid."""
    invert: bool = False
    """Turn the contrast over: dark particles for weights trained on bright ones, or the other way round."""
    overwrite: bool = False
    """Replace the output if it exists."""

    def __post_init__(self) -> None:
        if self.block is not None:
            object.__setattr__(self, "block", asked_block(self.block))
        if self.memory is not None and self.memory < 1:
            raise SettingsError(f"expected a positive number of bytes of memory, got {self.memory}")
