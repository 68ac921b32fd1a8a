"""Everything about a segmentation that is settled before its first block."""

from __future__ import annotations

import hashlib
import json
import secrets
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Box, triple
from deepfinder_dask.errors import FormatError, InputError, OutputExistsError
from deepfinder_dask.execution import Executor
from deepfinder_dask.networks import Weights
from deepfinder_dask.segmentation.block import PLAIN, TURNED, Classifier, Pass
from deepfinder_dask.segmentation.masking import Inside
from deepfinder_dask.segmentation.matching import check_match, target_voxel_size
from deepfinder_dask.segmentation.plan import Plan, plan_blocks
from deepfinder_dask.segmentation.settings import SegmentSettings
from deepfinder_dask.segmentation.workers import Workers, choose_workers
from deepfinder_dask.tomograms import Region, Statistics, Tomogram, VoxelSize
from deepfinder_dask.tomograms.resampling import RescaledRegion, rescaled_shape

WORDS = {
    "tomogram": "another tomogram",
    "sample": "another tomogram",
    "weights": "other weights",
    "settings": "other settings",
    "mask": "another mask",
    "device": "another device",
    "precision": "another precision",
    "machine": "workers of another kind",
    "torch": "another version of PyTorch",
    "numerics": "another version of deepfinder_dask",
}
"""What it means that an entry of the identity differs."""
SAMPLE = 32
"""Voxels along each axis of the grey values that identify a tomogram beside its statistics."""


@dataclass(frozen=True)
class Job:
    """A segmentation, settled."""

    tomogram: Tomogram
    """What is segmented."""
    weights: Weights
    """The network."""
    settings: SegmentSettings
    """How."""
    workers: Workers
    """Where."""
    scale: VoxelSize | None
    """Voxel size that the tomogram is resampled to, in Å, (z, y, x); None for its own."""
    plan: Plan
    """The blocks, on the grid of ``scale``."""
    identity: Mapping[str, Any]
    """Everything that the bits of the output follow from; the blocks do not belong to it."""
    region: Region | None
    """Voxels of the tomogram that count; None where all do."""
    name: str
    """What the tomogram is called."""
    token: str
    """Names this work, and no other work on the same output."""

    @property
    def passes(self) -> tuple[Pass, ...]:
        """Passes of the network that are averaged."""
        return (PLAIN, TURNED[self.tomogram.imaging.tilt_axis]) if self.settings.augment else (PLAIN,)

    @property
    def inside(self) -> Inside | None:
        """Voxels that are computed, on the grid of the blocks; None for all."""
        if self.region is None or self.scale is None:
            return self.region
        return RescaledRegion(self.region, self.tomogram.voxel_size, self.scale)

    def classifier(self, source: Tomogram) -> Classifier:
        """What labels boxes of the tomogram, or of the resampled one.

        Raises
        ------
        InputError
            If all grey values are equal.
        """
        normalisation = self.weights.normalisation
        if source is not self.tomogram:  # the resampled one
            source = replace(source, statistics=normalisation.measure(source, self._masked()))
        return Classifier(
            tomogram=source.volume,
            weights=self.weights,
            kind=self.workers.kind,
            scaling=normalisation.scaling(_statistics(source)),
            invert=self.settings.invert,
            passes=self.passes,
            score_type=self.settings.score_type if self.settings.scores else None,
            region=self.inside,
        )

    def _masked(self) -> Callable[[Box], NDArray[np.bool_]] | None:
        """Which voxels of the resampled tomogram a mask has inside; None where there is no mask."""
        inside = self.inside if self.settings.mask is not None else None
        return inside.read_nearest if isinstance(inside, RescaledRegion) else None

    def record(self) -> dict[str, Any]:
        """What the ledger says of this work: identity and blocks, JSON."""
        grid, plan = self.plan.grid, self.plan
        blocks = {"core": grid.core, "shape": grid.shape, "number": len(grid), "waste": plan.waste}
        facts: dict[str, Any] = json.loads(
            json.dumps({"token": self.token, "identity": self.identity, "blocks": {**blocks, "memory": plan.memory}})
        )
        return facts


def settle(
    tomogram: Tomogram,
    weights: Weights,
    settings: SegmentSettings,
    executor: Executor,
    begun: Mapping[str, Any] | None = None,
    *,
    path: str = "",
    name: str | None = None,
) -> Job:
    """Settle workers, blocks and identity of a segmentation; reads metadata, a few grey values, and all of them once
    where a tomogram has no statistics.

    Parameters
    ----------
    tomogram, weights, settings
        As for :func:`~deepfinder_dask.segment`.
    executor : Executor
        Where blocks run.
    begun : mapping, optional
        What the ledger of the work to be resumed says (:meth:`Job.record`).
    path : str
        The output, for messages.
    name : str, optional
        What the tomogram is called; by default as its store.

    Raises
    ------
    InputError
        If tomogram and weights do not go together, no worker is fit, no block fits the memory, or the mask cannot be
        read or has another shape than the tomogram.
    OutputExistsError
        If the work begun is not this work.
    """
    check_match(tomogram, weights, settings)
    scale = target_voxel_size(tomogram, weights, settings)
    shape = tomogram.shape if scale is None else rescaled_shape(tomogram.shape, tomogram.voxel_size, scale)
    region = None
    if settings.mask is not None or settings.border is not None:
        region = Region.open(
            settings.mask, shape=tomogram.shape, voxel_size=tomogram.voxel_size, border=settings.border
        )
    workers = choose_workers(executor, settings, begun["identity"] if begun else None)
    masked = region.read if region is not None and settings.mask is not None else None
    tomogram = replace(tomogram, statistics=weights.normalisation.measure(tomogram, masked))
    identity = _identity(tomogram, weights, settings, scale, region, workers)
    if begun:
        _check_same(begun["identity"], identity, path)
    plan = plan_blocks(
        len(weights.classes) + 1,
        shape,
        block=triple(begun["blocks"]["core"]) if begun else settings.block,
        # What was begun goes on, also where more cores need a little more memory.
        memory=sys.maxsize if begun else settings.memory or workers.memory,
        workers=executor.workers if workers.among is None else len(workers.among),
        threads=workers.threads,
        device=workers.kind.device,
        precision=workers.kind.precision,
        passes=2 if settings.augment else 1,
        scores=settings.scores,
    )
    token = str(begun["token"]) if begun else secrets.token_hex(8)
    return Job(tomogram, weights, settings, workers, scale, plan, identity, region, name or tomogram.name, token)


def _statistics(tomogram: Tomogram) -> Statistics:
    if tomogram.statistics is None:
        raise InputError(f"{tomogram.path} has no statistics")
    return tomogram.statistics


def _decisive(tomogram: Tomogram, weights: Weights) -> dict[str, Any]:
    """Statistics that decide the bits: robust ones only where the weights are normalised by them."""
    facts = _statistics(tomogram).to_dict()
    return facts if weights.normalisation.robust else {k: v for k, v in facts.items() if k != "robust"}


def _identity(
    tomogram: Tomogram,
    weights: Weights,
    settings: SegmentSettings,
    scale: VoxelSize | None,
    region: Region | None,
    workers: Workers,
) -> dict[str, Any]:
    kind = workers.kind
    grey = {
        "shape": tomogram.shape,
        "type": str(tomogram.dtype),
        "voxel_size": tomogram.voxel_size,
        "statistics": _decisive(tomogram, weights),
        "tilt_axis": tomogram.imaging.tilt_axis,
    }
    identity: dict[str, Any] = {
        "tomogram": hashlib.sha256(json.dumps(grey, sort_keys=True).encode()).hexdigest(),
        "sample": _sample(tomogram),
        "weights": weights.sha256,
        "settings": {
            "augment": settings.augment,
            "invert": settings.invert,
            "rescaled": scale,
            "scores": settings.score_type if settings.scores else None,
        },
        "mask": None if region is None else region.identity(),
        "device": kind.device,
        "precision": kind.precision,
        "machine": kind.machine,
        "torch": kind.torch,
        "numerics": kind.numerics,
    }
    plain: dict[str, Any] = json.loads(json.dumps(identity))
    return plain


def _sample(tomogram: Tomogram) -> str | None:
    """Hash of a few grey values off the centre: a mirrored tomogram has the same statistics. None if unreadable."""
    start = triple(n // 3 for n in tomogram.shape)
    try:
        values = tomogram.read(Box(start, triple(a + SAMPLE for a in start)).clip(tomogram.shape))
    except FormatError:  # told of when its blocks are read
        return None
    return hashlib.sha256(values.tobytes()).hexdigest()


def _check_same(begun: Mapping[str, Any], now: Mapping[str, Any], path: str) -> None:
    for name, words in WORDS.items():
        if name == "sample" and None in (begun.get(name), now[name]):
            continue
        if begun.get(name) != now[name]:
            found = ""
            if isinstance(now[name], str | int) and name not in ("tomogram", "sample", "weights"):
                found = f" ({begun.get(name)}, now {now[name]})"
            raise OutputExistsError(
                f"{path} holds a segmentation that was begun with {words}{found}: go on with what it was begun with, "
                "choose another output, or begin anew with --overwrite"
            )
