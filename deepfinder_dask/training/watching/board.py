"""What TensorBoard reads."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepfinder_dask.training.watching.following import Entry

if TYPE_CHECKING:
    from deepfinder_dask.particles import ParticleClass

SCORES = ("f1", "precision", "recall", "particles_f1")
"""Figures that there are of each class."""


class Board:
    """TensorBoard's logs of a run, in the folder ``tensorboard``; nothing where that package is not installed."""

    def __init__(self, writer: Any, classes: Sequence[ParticleClass]) -> None:
        self._writer = writer
        self._names = {str(one.label): one.name for one in classes}

    def add(self, entry: Entry) -> None:
        """Log a step."""
        if self._writer is None:
            return
        step = int(entry["step"])
        for key, value in entry.items():
            if key != "step":
                tag, _, label = key.rpartition("_")
                known = tag in SCORES and label in self._names
                self._writer.add_scalar(f"{tag}/{self._names[label]}" if known else key, value, step)
        if "f1" in entry:
            self._writer.flush()


@contextmanager
def open_board(folder: Path, classes: Sequence[ParticleClass], step: int) -> Iterator[Board]:
    """Logs for TensorBoard from a step on: what a killed run logged after it is hidden."""
    writer: Any = None
    if importlib.util.find_spec("tensorboard") is not None:
        from torch.utils.tensorboard import SummaryWriter

        kind: Any = SummaryWriter  # without types
        writer = kind(str(folder / "tensorboard"), purge_step=step + 1)
    try:
        yield Board(writer, classes)
    finally:
        if writer is not None:
            writer.close()
