"""Settings of ``segment``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deepfinder_dask.blocks import asked_block
from deepfinder_dask.errors import SettingsError

GIB = 1024**3
DEFAULT_MEMORY = 4 * GIB
"""Memory of a worker where nobody says, in bytes."""


@dataclass(frozen=True)
class SegmentSettings:
    """How a tomogram is segmented. None of the settings for blocks, memory and workers changes the result."""

    scores: bool = False
    """Write the pseudo-probability of every class too (large)."""
    score_type: Literal["float16", "uint8"] = "float16"
    """Numbers of the score map: 16-bit floats, or uint8 with 255 for 1 (half the size)."""
    augment: bool = False
    """Average over the tomogram and the tomogram turned by 180° about its tilt axis (twice the work)."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Numbers of the network's layers; auto is bf16 where the hardware multiplies it, fp32 elsewhere."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the network runs; auto is a GPU where a worker has one."""
    block: tuple[int, int, int] | None = None
    """What one block writes, in voxels (z, y, x), multiples of 4; by default the least work that fits the memory."""
    memory: int | None = None
    """Memory that one worker process (on a GPU: the GPU) may use, in bytes: decides the block; by default 4 GiB, on a
    GPU most of what it has. Resumed work keeps its blocks."""
    workers: int | None = None
    """Local worker processes; by default this process does the work, on all its cores."""
    scheduler: str | None = None
    """Address of a running Dask scheduler to use instead."""
    mask: str | None = None
    """Mask volume, as large as the tomogram: where it is 0 there is background of probability 0, and blocks that lie
    outside are not computed."""
    border: float | None = None
    """Å at all six faces of the tomogram that are left out as well."""
    rescale: bool = False
    """Resample the tomogram to the voxel size of the weights, and the results back on its own grid."""
    invert: bool = False
    """Turn the contrast over: dark particles for weights trained on bright ones, or the other way round."""
    overwrite: bool = False
    """Replace the output if it exists, also one that could be resumed."""

    def __post_init__(self) -> None:
        if self.block is not None:
            object.__setattr__(self, "block", asked_block(self.block))
        if self.mask is not None:
            object.__setattr__(self, "mask", str(self.mask))
        if self.memory is not None and self.memory < 1:
            raise SettingsError(f"expected a positive number of bytes of memory, got {self.memory}")
        for name, choices in (
            ("score_type", ("float16", "uint8")),
            ("precision", ("auto", "fp32", "bf16")),
            ("device", ("auto", "cpu", "cuda")),
        ):
            if getattr(self, name) not in choices:
                raise SettingsError(f"expected {name} {' or '.join(choices)}, got {getattr(self, name)!r}")
