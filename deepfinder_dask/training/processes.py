"""The processes that train one network together: one, or as many as ``torchrun`` started."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed

from deepfinder_dask.errors import SettingsError

CPU = torch.device("cpu")
PATIENCE = timedelta(hours=6)
"""How long a process waits for another: the first one also judges whole tomograms, alone."""


@dataclass(frozen=True)
class Processes:
    """One process among those that train together."""

    number: int = 0
    """Of this process, counted from 0."""
    count: int = 1
    """Processes."""
    device: torch.device = CPU
    """Where this process computes."""

    @property
    def first(self) -> bool:
        """Whether this process judges, and writes the run's files."""
        return self.number == 0

    def share(self, total: int) -> tuple[int, int]:
        """First patch of a batch that is this process's, and one past the last."""
        return self.number * total // self.count, (self.number + 1) * total // self.count

    def sum(self, values: Tensor) -> Tensor:
        """Values added up over all processes."""
        if self.count > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values

    def told(self, numbers: Sequence[float]) -> list[float]:
        """Numbers of the first process, in all of them."""
        if self.count == 1:
            return list(numbers)
        size = torch.tensor([len(numbers)], device=self.device)
        distributed.broadcast(size, 0)
        values = torch.zeros(int(size), dtype=torch.float64, device=self.device)
        if self.first:
            values.copy_(torch.tensor(numbers, dtype=torch.float64))
        distributed.broadcast(values, 0)
        return [float(v) for v in values]


@contextmanager
def open_processes(device: str = "auto") -> Iterator[Processes]:
    """The process alone, or among those of ``torchrun``.

    Parameters
    ----------
    device : str
        ``cpu``, ``cuda`` or ``auto``, a GPU where there is one.

    Raises
    ------
    SettingsError
        If there is no GPU for a process that wants one.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "cuda" and not gpus:
        raise SettingsError("expected a GPU that torch can use, found none: leave out --device cuda")
    count, number = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    place = torch.device("cuda", local) if gpus and device != "cpu" else torch.device("cpu")
    if place.type == "cuda" and local >= gpus:
        raise SettingsError(f"expected one GPU for each process, found {gpus}: use --nproc-per-node {gpus}")
    if count == 1:
        yield Processes(device=place)
        return
    if place.type == "cuda":
        torch.cuda.set_device(place)
    distributed.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Processes(number, count, place)
    finally:
        distributed.destroy_process_group()
