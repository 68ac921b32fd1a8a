from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from deepfinder_dask.errors import FormatError
from deepfinder_dask.tomograms import Scaling
from deepfinder_dask.training.loading import AHEAD, Batch, open_loader
from deepfinder_dask.training.patches import Annotated, ArraySource, PatchSampler


def sampler(known=None, truth=None):
    rng = np.random.default_rng(0)
    shape = (20, 24, 28)
    labels = rng.integers(0, 3, size=shape).astype(np.uint8) if truth is None else truth
    one = Annotated(
        "t",
        shape,
        ArraySource(rng.normal(size=shape).astype(np.float32)),
        ArraySource(labels),
        Scaling(0.5, 2.0),
        rng.uniform(4, 16, size=(5, 3)),
        np.array([1, 1, 2, 2, 2]),
        known,
    )
    return PatchSampler([one], size=8, batch=3, shift=2, seed=5, classes=2)


@pytest.mark.parametrize("readers", [1, 4])
def test_batches_are_those_of_their_steps_in_order(readers):
    source = sampler()
    with open_loader(source, source.draw, readers) as loader:
        got = list(loader.batches(range(3, 9)))
    assert len(got) == 6
    for step, batch in zip(range(3, 9), got, strict=True):
        values, labels = source.read(source.draw(step))
        assert torch.equal(batch.values, torch.from_numpy(values))
        assert torch.equal(batch.labels, torch.from_numpy(labels))


def test_batches_are_read_ahead_and_no_more_than_that():
    """While the first batch is in use, those ahead are read; a slow consumer never makes memory grow."""
    source, begun, read = sampler(), [], threading.Event()

    def draw(step):
        begun.append(step)
        return source.draw(step)

    with open_loader(source, draw, 1) as loader:
        batches = loader.batches(range(100))
        next(batches)
        loader._pool.submit(read.set)
        assert read.wait(30), "the batches ahead are read while nobody asks for them"
        assert begun == list(range(AHEAD + 1))
        next(batches)
        assert begun == list(range(AHEAD + 2))


def test_what_goes_wrong_in_a_reader_reaches_the_caller():
    source = sampler(truth=np.full((20, 24, 28), 9, np.uint8))
    with open_loader(source, source.draw, 2) as loader, pytest.raises(FormatError, match="holds label 9"):
        next(loader.batches(range(3)))


@dataclass
class Counting:
    """Counts the readers that are at work at once."""

    values: np.ndarray
    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(2))

    def read(self, box):
        self.barrier.wait(30)
        return self.values[box.slices()]


def test_patches_of_one_batch_are_read_at_once():
    source = sampler()
    one = source.tomograms[0]
    counting = Counting(one.values.values)
    object.__setattr__(one, "values", counting)
    object.__setattr__(source, "batch", 4)
    with open_loader(source, source.draw, 2) as loader:
        batch = next(loader.batches(range(1)))  # a single reader would wait in vain, and break the barrier
    assert len(batch.values) == 4
    assert not counting.barrier.broken


def test_parts_of_a_batch():
    batch = Batch(torch.arange(5.0).reshape(5, 1, 1, 1, 1), torch.arange(5).reshape(5, 1, 1, 1), torch.eye(5) > 0)
    parts = batch.split(2)
    assert [len(p.values) for p in parts] == [3, 2]
    assert torch.equal(torch.cat([p.annotated for p in parts]), batch.annotated)
    assert [len(p.values) for p in batch.split(9)] == [1] * 5
