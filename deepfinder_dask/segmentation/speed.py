"""How fast this machine segments, and what a tomogram of any shape would take on it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import lru_cache

from deepfinder_dask.blocks import Shape3
from deepfinder_dask.execution import SerialExecutor
from deepfinder_dask.networks import Precision, Weights
from deepfinder_dask.segmentation.forecasting import speed_of
from deepfinder_dask.segmentation.plan import Plan, plan_blocks
from deepfinder_dask.segmentation.settings import SegmentSettings
from deepfinder_dask.segmentation.workers import choose_workers


@dataclass(frozen=True)
class Speed:
    """How fast this process segments with one network."""

    rate: float
    """Multiply-adds a second."""
    machine: str
    """Instruction set or GPU."""
    device: str
    """``cpu`` or ``cuda``."""
    precision: Precision
    """``fp32`` or ``bf16``."""
    classes: int
    """Classes of the network, the background among them."""
    memory: int
    """Memory that a worker may use, in bytes."""
    threads: int
    """Cores that compute a block."""
    workers: int
    """Blocks computed at once."""
    passes: int
    """Passes of the network that are averaged."""
    block: Shape3 | None
    """What a block writes, where it was asked for, in voxels (z, y, x)."""
    scores: bool
    """Whether pseudo-probabilities of all classes are written."""

    def plan(self, shape: Shape3) -> Plan:
        """Blocks of a tomogram.

        Parameters
        ----------
        shape : tuple of int
            Voxels, (z, y, x).

        Raises
        ------
        SettingsError
            If no block fits the memory.
        """
        return _planned(self, shape)


@lru_cache(maxsize=256)
def _planned(speed: Speed, shape: Shape3) -> Plan:
    return plan_blocks(
        speed.classes,
        shape,
        block=speed.block,
        memory=speed.memory,
        workers=speed.workers,
        threads=speed.threads,
        device=speed.device,
        precision=speed.precision,
        passes=speed.passes,
        scores=speed.scores,
    )


def measure_speed(weights: Weights, settings: SegmentSettings, *, workers: int = 1) -> Speed:
    """Classify a small block in this process, and take the time.

    Parameters
    ----------
    weights : Weights
        The network.
    settings : SegmentSettings
        Device, precision, memory and block asked for.
    workers : int
        Blocks that would be computed at once.

    Raises
    ------
    InputError
        If this machine has not what is asked for.
    """
    fit = choose_workers(SerialExecutor(), settings)
    rate = speed_of(weights, fit.kind)
    return Speed(
        rate=sys.float_info.min if rate is None else rate,
        machine=fit.kind.machine,
        device=fit.kind.device,
        precision=fit.kind.precision,
        classes=len(weights.classes) + 1,
        memory=settings.memory or fit.memory,
        threads=max(1, fit.threads // workers),
        workers=workers,
        passes=2 if settings.augment else 1,
        block=settings.block,
        scores=settings.scores,
    )
