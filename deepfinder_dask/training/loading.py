"""Batches read from the stores ahead of the device, by threads beside the one that computes.

Memory holds the batches that are ahead, whatever the number and size of the tomograms.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from deepfinder_dask.training.patches import Patch, PatchSampler

AHEAD = 2
"""Batches that are read before they are asked for."""

Drawing = Callable[[int], Sequence[Patch]]
"""Gives the patches of a step."""


@dataclass(frozen=True)
class Batch:
    """What a step learns from."""

    values: Tensor
    """(n, 1, z, y, x) float32, normalised grey values."""
    labels: Tensor
    """(n, z, y, x) uint8; 255 is ignored."""
    annotated: Tensor | None = None
    """(n, class) bool: which classes are annotated in the tomogram of each patch; None for all."""

    def part(self, start: int, stop: int) -> Batch:
        """Some of the patches."""
        annotated = None if self.annotated is None else self.annotated[start:stop]
        return Batch(self.values[start:stop], self.labels[start:stop], annotated)

    def split(self, parts: int) -> list[Batch]:
        """The batch in at most ``parts`` parts, as even as they can be."""
        size = -(-len(self.values) // parts)
        return [self.part(start, start + size) for start in range(0, len(self.values), size)]

    def to(self, device: torch.device) -> Batch:
        """The batch on a device; from pinned memory the copy runs beside what the caller does next."""
        annotated = None if self.annotated is None else self.annotated.to(device, non_blocking=True)
        return Batch(self.values.to(device, non_blocking=True), self.labels.to(device, non_blocking=True), annotated)


class Loader:
    """Reads batches in the order of their steps, some of them ahead; made by :func:`open_loader`."""

    def __init__(self, sampler: PatchSampler, draw: Drawing, pool: ThreadPoolExecutor, *, pinned: bool) -> None:
        self._sampler = sampler
        self._draw = draw
        self._pool = pool
        self._pinned = pinned

    def batches(self, steps: Iterable[int]) -> Iterator[Batch]:
        """Batches of some steps.

        Which patches a step has is asked for when its reading begins, ``AHEAD`` steps before it is given out.
        """
        waiting: deque[tuple[Batch, list[Future[None]]]] = deque()
        left = iter(steps)
        try:
            for step in left:
                waiting.append(self._begin(step))
                if len(waiting) > AHEAD:
                    yield _finished(*waiting.popleft())
            while waiting:
                yield _finished(*waiting.popleft())
        finally:
            for _, tasks in waiting:
                for task in tasks:
                    task.cancel()

    def _begin(self, step: int) -> tuple[Batch, list[Future[None]]]:
        patches = self._draw(step)
        edge = [self._sampler.size] * 3
        values = torch.empty((len(patches), 1, *edge), pin_memory=self._pinned)
        labels = torch.empty((len(patches), *edge), dtype=torch.uint8, pin_memory=self._pinned)
        known = self._sampler.knowledge(patches)
        grey, truth = values.numpy(), labels.numpy()
        tasks = [
            self._pool.submit(self._sampler.read_one, patch, grey[number, 0], truth[number])
            for number, patch in enumerate(patches)
        ]
        return Batch(values, labels, None if known is None else torch.from_numpy(known)), tasks


@contextmanager
def open_loader(sampler: PatchSampler, draw: Drawing, threads: int, *, pinned: bool = False) -> Iterator[Loader]:
    """A loader with threads of its own.

    Parameters
    ----------
    sampler : PatchSampler
        What reads patches.
    draw : callable
        Gives the patches of a step.
    threads : int
        Threads that read.
    pinned : bool
        Whether batches lie in memory that a GPU can copy from by itself.
    """
    pool = ThreadPoolExecutor(threads, "patches")
    try:
        yield Loader(sampler, draw, pool, pinned=pinned)
    finally:
        pool.shutdown(cancel_futures=True)


def _finished(batch: Batch, tasks: list[Future[None]]) -> Batch:
    for task in tasks:
        task.result()
    return batch
