"""What a segmentation would take: blocks, memory and time, before anything is computed."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import torch

from deepfinder_dask.blocks import Box, Shape3
from deepfinder_dask.errors import SettingsError
from deepfinder_dask.execution import compute, options_to_settings
from deepfinder_dask.networks import Weights, load_weights
from deepfinder_dask.networks.cost import costs_of
from deepfinder_dask.segmentation.job import settle
from deepfinder_dask.segmentation.settings import GIB, SegmentSettings
from deepfinder_dask.segmentation.workers import WorkerKind, inference_of, open_workers
from deepfinder_dask.tomograms import Tomogram

SAMPLE: Shape3 = (48, 64, 64)
"""Voxels that are classified to measure the speed of a worker."""


@dataclass(frozen=True)
class Forecast:
    """What a segmentation takes."""

    shape: Shape3
    """Voxels that the network sees, (z, y, x)."""
    core: Shape3
    """What a block writes, in voxels, (z, y, x)."""
    counts: Shape3
    """Blocks on each axis, (z, y, x)."""
    skipped: int
    """Blocks that lie outside the mask and the border, and are not computed."""
    halo: tuple[int, int]
    """Context before and after a block, in voxels."""
    memory: int
    """Projected peak memory of a worker, in bytes."""
    waste: float
    """Arithmetic over that of one pass over the whole volume."""
    workers: int
    """Blocks computed at once."""
    device: str
    """``cpu`` or ``cuda``."""
    precision: str
    """``fp32`` or ``bf16``."""
    machine: str
    """Instruction set or GPU."""
    output_bytes: int
    """Size of what is written, before compression and without pyramids."""
    seconds: float
    """Estimated time, from the speed of a small block on every worker."""

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        def times(values: Shape3) -> str:
            return " × ".join(str(n) for n in values)

        outside = f", {self.skipped} of them outside and skipped" if self.skipped else ""
        rows = {
            "volume": f"{times(self.shape)} voxels (z, y, x)",
            "blocks": f"{prod(self.counts)} ({times(self.counts)}) of {times(self.core)} voxels{outside}",
            "halo": f"{self.halo[0]} voxels before, {self.halo[1]} after a block; none at the volume's borders",
            "waste": f"{self.waste:.2f} × the arithmetic of one pass over the whole volume",
            "memory": f"{self.memory / GIB:.2f} GiB a worker",
            "workers": f"{self.workers}, {self.machine}, {self.precision}",
            "output": f"{self.output_bytes / GIB:.2f} GiB before compression",
            "time": f"about {_duration(self.seconds)}",
        }
        return "\n".join(f"{name:8}{value}" for name, value in rows.items())


def forecast(
    tomogram: Tomogram | str | Path,
    weights: Weights | str | Path,
    settings: SegmentSettings | None = None,
    **options: Any,
) -> Forecast:
    """Blocks, memory and time of a segmentation. Takes a few seconds: each worker classifies a small block.

    Parameters
    ----------
    tomogram, weights, settings, **options
        As for :func:`~deepfinder_dask.segment`.

    Raises
    ------
    InputError
        As :func:`~deepfinder_dask.segment`; also where no block fits the memory.
    """
    settings = options_to_settings(SegmentSettings, settings, options)
    tomogram = tomogram if isinstance(tomogram, Tomogram) else Tomogram.open(tomogram)
    weights = weights if isinstance(weights, Weights) else load_weights(weights)
    with open_workers(settings) as executor:
        job = settle(tomogram, weights, settings, executor)
        answers = executor.ask(partial(speed_of, weights, job.workers.kind))
        rates = [speed for speed in answers.values() if speed is not None]
        workers = executor.workers if job.workers.among is None else len(job.workers.among)
    grid, classes = job.plan.grid, len(weights.classes) + 1
    speed = sum(rates) / len(rates) * workers
    inside = job.inside
    skipped = 0 if inside is None else sum(inside.is_empty(block.write) for block in grid)
    scores = {"float16": 2, "uint8": 1}[settings.score_type] * classes if settings.scores else 0
    return Forecast(
        shape=grid.shape,
        core=grid.core,
        counts=grid.counts,
        skipped=skipped,
        halo=(grid.halo_low[0], grid.halo_high[0]),
        memory=job.plan.memory,
        waste=job.plan.waste,
        workers=workers,
        device=job.workers.kind.device,
        precision=job.workers.kind.precision,
        machine=job.workers.kind.machine,
        output_bytes=prod(tomogram.shape) * (2 + scores),
        seconds=job.plan.work * len(job.passes) / speed * (1 - skipped / len(grid)),
    )


def speed_of(weights: Weights, kind: WorkerKind) -> float | None:
    """Multiply-adds a second of this process, from a small block; None where it is of another kind."""
    try:
        kind.check_here()
    except SettingsError:
        return None
    return compute(_time_sample, weights, kind)


def _time_sample(weights: Weights, kind: WorkerKind) -> float:
    inference = inference_of(weights, kind)
    whole = Box.whole(SAMPLE)
    x = torch.zeros(1, 1, *SAMPLE, device=inference.device)
    seconds = []
    for _ in range(2):  # the first one warms up
        started = time.perf_counter()
        inference.logits(x, whole, whole, SAMPLE).cpu()
        seconds.append(time.perf_counter() - started)
    work = float(costs_of(inference.program, SAMPLE, [[n] for n in SAMPLE]).work[0, 0, 0])
    return work / seconds[-1]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
