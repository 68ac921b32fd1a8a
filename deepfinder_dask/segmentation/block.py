"""One block of a segmentation: read with halo, normalise, network, winner, write, record."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepfinder_dask.blocks import Block, Box, Shape3, triple
from deepfinder_dask.errors import InputError, SettingsError
from deepfinder_dask.execution import Ledger, check_interrupt, compute, note_voxels
from deepfinder_dask.networks import Weights, needed_regions, padded_shape
from deepfinder_dask.networks.inference import inference_program
from deepfinder_dask.networks.unet import INPUT, Program
from deepfinder_dask.segmentation.masking import Inside, needed_box
from deepfinder_dask.segmentation.store import Outputs
from deepfinder_dask.segmentation.winning import as_scores, pseudo_probabilities, winner, winner_of_probabilities
from deepfinder_dask.segmentation.workers import WorkerKind, inference_of
from deepfinder_dask.tomograms import Scaling, Volume

Pass = tuple[int, ...]
"""Axes along which a pass of the network sees the tomogram reversed; none in the plain pass."""
PLAIN: Pass = ()
TURNED: dict[str, Pass] = {"x": (0, 1), "y": (0, 2), "z": (1, 2)}
"""Axes (z, y, x) reversed by a turn of 180° about each tilt axis."""


class Classified(NamedTuple):
    """What a block gives."""

    labels: NDArray[np.uint8]
    """(z, y, x), 0 is background."""
    probability: NDArray[np.uint8]
    """(z, y, x), pseudo-probability of the winning class, 255 is 1."""
    scores: NDArray[Any] | None
    """(class, z, y, x) float16 or uint8; None unless asked for."""

    def checksum(self) -> str:
        """SHA-256 over labels, probability and scores."""
        digest = hashlib.sha256()
        for values in self:
            if values is not None:
                digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Classifier:
    """Classifies the voxels of any box of a tomogram as one pass over the whole tomogram would."""

    tomogram: Volume
    """Grey values, (z, y, x)."""
    weights: Weights
    """The network."""
    kind: WorkerKind
    """Device and precision."""
    scaling: Scaling
    """What grey values become for the network."""
    invert: bool = False
    """Whether to turn the contrast over."""
    passes: tuple[Pass, ...] = (PLAIN,)
    """Passes of the network whose pseudo-probabilities are averaged."""
    score_type: str | None = None
    """``float16`` or ``uint8`` for a score map, None for none."""
    region: Inside | None = None
    """Voxels that count, others are background of probability 0; None where all do."""

    def __call__(self, box: Box) -> Classified:
        """Read and classify a box of voxels, or the part of it that has voxels inside the region."""
        if self.region is None:
            return self._classified(box)
        inside = self.region.read(box)
        part = needed_box(inside, box)
        scores = None
        if self.score_type:
            scores = np.zeros((len(self.weights.classes) + 1, *box.shape), np.dtype(self.score_type))
        result = Classified(np.zeros(box.shape, np.uint8), np.zeros(box.shape, np.uint8), scores)
        if part is None:
            return result
        if self.kind.device != "cpu":  # where the bits hang on the grid of blocks
            part = box
        within = part.within(box).slices()
        for values, found in zip(result, self._classified(part), strict=True):
            if values is not None and found is not None:
                np.copyto(values[(..., *within)], found, where=inside[within])
        return result

    def _classified(self, box: Box) -> Classified:
        """Read and classify all of a box."""
        inputs = self.read(box)
        try:
            return compute(self.classify, inputs, box)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()  # what other shapes of blocks left behind
        try:
            return compute(self.classify, inputs, box)
        except torch.OutOfMemoryError as error:
            raise InputError("the GPU has too little free memory for a block: allow less with --memory") from error

    @cached_property
    def shape(self) -> Shape3:
        """Voxels of the tomogram, (z, y, x)."""
        return self.tomogram.space

    @property
    def program(self) -> Program:
        """Steps of the network."""
        return inference_program(len(self.weights.classes) + 1, device=self.kind.device, precision=self.kind.precision)

    def read(self, box: Box) -> list[NDArray[np.float32]]:
        """Normalised input of each pass for a box, zero beyond the tomogram."""
        wanted = [self._needed(box, reversed_axes) for reversed_axes in self.passes]
        held = [mirrored(box.clip(self.shape), self.shape, axes) for box, axes in zip(wanted, self.passes, strict=True)]
        hull = held[0] if len(held) == 1 else _hull(held)
        grey = self.scaling.apply(self.tomogram.read(hull), invert=self.invert)
        inputs = []
        for read, inside, axes in zip(wanted, held, self.passes, strict=True):
            x = np.zeros(read.shape, np.float32)  # what lies beyond the volume's high side stays zero
            part = grey[inside.within(hull).slices()]
            x[read.clip(self.shape).within(read).slices()] = np.flip(part, axes) if axes else part
            inputs.append(x)
        return inputs

    def classify(self, inputs: Sequence[NDArray[np.float32]], box: Box) -> Classified:
        """Labels and pseudo-probabilities of a box from the input of each pass; runs on the compute thread.

        A single pass is classified a few planes at a time, so that the logits of a box are never in memory.
        """
        device = inference_of(self.weights, self.kind).device
        classes = len(self.weights.classes) + 1
        with torch.inference_mode():
            labels, probability = (torch.empty(box.shape, dtype=torch.uint8, device=device) for _ in range(2))
            scores = None
            if self.score_type:
                scores = torch.empty((classes, *box.shape), dtype=getattr(torch, self.score_type), device=device)
            averaged = self._averaged(inputs, box) if len(self.passes) > 1 else None
            slabs = self._slabs(inputs[0], box, self.passes[0]) if averaged is None else [(box, averaged)]
            for slab, values in slabs:
                inside = slab.within(box).slices()
                shares = averaged
                if averaged is None:
                    found = winner(values)
                    shares = pseudo_probabilities(values) if self.score_type else None
                else:
                    found = winner_of_probabilities(averaged)
                labels[inside], probability[inside] = found
                if scores is not None and shares is not None and self.score_type:
                    scores[(..., *inside)] = as_scores(shares, self.score_type)
            return Classified(
                labels.cpu().numpy(), probability.cpu().numpy(), None if scores is None else scores.cpu().numpy()
            )

    def logits(self, x: NDArray[np.float32], box: Box, reversed_axes: Pass = PLAIN) -> Tensor:
        """Logits of a box in one pass, turned back: (class, z, y, x) float32, as one pass over the whole gives them."""
        parts = [values.cpu() for _, values in self._slabs(x, box, reversed_axes)]
        return torch.cat(parts[::-1] if 0 in reversed_axes else parts, 1)

    def _averaged(self, inputs: Sequence[NDArray[np.float32]], box: Box) -> Tensor:
        """Mean pseudo-probabilities of all passes, (class, z, y, x) float32."""
        device = inference_of(self.weights, self.kind).device
        total = torch.zeros((len(self.weights.classes) + 1, *box.shape), device=device)
        for x, axes in zip(inputs, self.passes, strict=True):
            for slab, logits in self._slabs(x, box, axes):
                total[(..., *slab.within(box).slices())] += pseudo_probabilities(logits)
        return total.div_(len(self.passes))

    def _slabs(self, x: NDArray[np.float32], box: Box, reversed_axes: Pass) -> Iterator[tuple[Box, Tensor]]:
        """Logits of a box in one pass, turned back, a few planes at a time."""
        inference = inference_of(self.weights, self.kind)
        values = torch.from_numpy(x)
        if inference.device.type == "cuda":
            values = values.pin_memory().to(inference.device, non_blocking=True)
        read = self._needed(box, reversed_axes)
        core, padded = mirrored(box, self.shape, reversed_axes), padded_shape(self.shape)
        for slab, logits in inference.slabs(values[None, None], read, core, padded, check=check_interrupt):
            turned = logits.flip([axis + 1 for axis in reversed_axes]) if reversed_axes else logits
            yield mirrored(slab, self.shape, reversed_axes), turned
            note_voxels(slab.size // len(self.passes))

    def _needed(self, box: Box, reversed_axes: Pass) -> Box:
        """Voxels that a pass reads for a box, counted as that pass sees the tomogram."""
        seen = mirrored(box, self.shape, reversed_axes)
        return needed_regions(self.program, seen, padded_shape(self.shape))[INPUT]


@dataclass(frozen=True)
class SegmentBlock:
    """Segments one block after another: called with a :class:`Block`, writes its shards, then records it."""

    classifier: Classifier
    """What gives a box its labels."""
    outputs: Outputs
    """Where they go."""
    ledger: Ledger
    """Where finished blocks are recorded."""
    token: str
    """What the ledger was begun with: a worker left over from work that was replaced finds another one there."""

    @property
    def in_flight(self) -> int:
        """Blocks that one process has under way at once: it reads and writes some while it computes another."""
        return 4 if self.classifier.kind.device == "cuda" else 2

    @property
    def resource(self) -> str | None:
        """Resource of workers that this needs, where a cluster has such."""
        return "GPU" if self.classifier.kind.device == "cuda" else None

    def __call__(self, block: Block) -> dict[str, Any]:
        """Segment one block.

        Parameters
        ----------
        block : Block
            Its ``write`` box is whole shards of the outputs.

        Returns
        -------
        dict
            The record of the block: ``box``, ``checksum``, ``seconds``, ``peak_bytes`` of its process.

        Raises
        ------
        SettingsError
            If the output is meanwhile that of other work.
        """
        if self.ledger.has(block.number):
            return {}  # by a worker that was taken for dead
        started = time.perf_counter()
        found = self.classifier(block.write)
        if (self.ledger.plan() or {}).get("token") != self.token:
            raise SettingsError(f"{self.ledger.folder} now belongs to other work: this worker writes nothing into it")
        self.outputs.labels.write(block.write, found.labels)
        self.outputs.probability.write(block.write, found.probability)
        if self.outputs.scores is not None and found.scores is not None:
            self.outputs.scores.write(block.write, found.scores)
        facts = {
            "box": [block.write.start, block.write.stop],
            "checksum": found.checksum(),
            "seconds": round(time.perf_counter() - started, 4),
            "peak_bytes": peak_bytes_here(),
        }
        self.ledger.record(block.number, facts)
        return facts


def mirrored(box: Box, shape: Shape3, axes: Pass) -> Box:
    """The same voxels counted from the other end on some axes of a volume; its own inverse."""
    start, stop = list(box.start), list(box.stop)
    for axis in axes:
        start[axis], stop[axis] = shape[axis] - box.stop[axis], shape[axis] - box.start[axis]
    return Box(triple(start), triple(stop))


def peak_bytes_here() -> int:
    """Peak resident memory of this process so far, in bytes; 0 where the system does not say."""
    status = Path("/proc/self/status")  # getrusage would also count the process that started this one
    if not status.exists():
        return 0
    lines = status.read_text(encoding="utf-8").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def _hull(boxes: Sequence[Box]) -> Box:
    starts, stops = zip(*((box.start, box.stop) for box in boxes), strict=True)
    return Box(
        triple(min(values) for values in zip(*starts, strict=True)),
        triple(max(values) for values in zip(*stops, strict=True)),
    )
