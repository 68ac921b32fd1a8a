"""Which workers segment: one kind of them, since another device or instruction set gives other last bits."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from deepfinder_dask.errors import InputError, SettingsError
from deepfinder_dask.execution import Executor, computing_cores, open_executor
from deepfinder_dask.networks import NUMERICS, Inference, Precision, Weights, bf16_supported, machine_kind, prepare
from deepfinder_dask.segmentation.settings import DEFAULT_MEMORY, SegmentSettings

Device = Literal["cpu", "cuda"]
"""Where networks run."""
GPU_SHARE = 0.8
"""Part of a GPU's memory that blocks may use where nobody says; the rest is torch's and the driver's."""


@dataclass(frozen=True)
class WorkerKind:
    """What decides the bits of a segmentation beside tomogram, weights and settings."""

    device: Device
    """Where the network runs."""
    precision: Precision
    """Numbers of the network's layers."""
    machine: str
    """Instruction set, or the GPU's name."""
    torch: str
    """Version of PyTorch."""
    numerics: int = NUMERICS
    """Version of the arithmetic of the forward pass."""

    def check_here(self) -> None:
        """Refuse to compute on a worker of another kind.

        Raises
        ------
        SettingsError
            If this process is of another kind.
        """
        here = _describe()
        found = (here.machines.get(self.device, f"no {self.device}"), here.torch)
        if found != (self.machine, self.torch):
            raise SettingsError(
                f"expected a worker with {self.machine} and torch {self.torch}, found one with {found[0]} and torch "
                f"{found[1]} (process {os.getpid()}): its results would differ in the last bits; give it a cluster of "
                "its own"
            )


@dataclass(frozen=True)
class Workers:
    """Workers that are fit for a segmentation."""

    kind: WorkerKind
    """What they have in common."""
    among: Collection[str] | None
    """Their addresses; None where all workers are of this kind."""
    memory: int
    """Memory that one of them may use for a block where nobody says, in bytes."""
    threads: int
    """Cores that compute a block, at most."""


@dataclass(frozen=True)
class _Description:
    machines: Mapping[str, str]
    """Machine kind by device."""
    bf16: Collection[str]
    """Devices that multiply bf16."""
    torch: str
    threads: int
    """Cores that compute here."""
    memory: int | None
    """Free memory of the GPU, in bytes."""


def open_workers(settings: SegmentSettings) -> AbstractContextManager[Executor]:
    """The executor that the settings ask for: one process per GPU where this machine has GPUs."""
    gpus = False
    if settings.workers is not None and settings.device != "cpu":
        import torch

        gpus = torch.cuda.is_available()
    return open_executor(settings.workers, settings.scheduler, gpus=gpus)


def choose_workers(executor: Executor, settings: SegmentSettings, begun: Mapping[str, Any] | None = None) -> Workers:
    """The kind of workers that a segmentation runs on.

    Parameters
    ----------
    executor : Executor
        Where blocks run.
    settings : SegmentSettings
        Device and precision asked for.
    begun : mapping, optional
        Identity of the work to be resumed, which settles what ``auto`` leaves open.

    Raises
    ------
    SettingsError
        If no worker has the device or precision asked for.
    InputError
        If the cluster has no workers.
    """
    answers = executor.ask(_describe)
    if not answers:
        raise InputError("the cluster has no workers yet: start some, then run the same command again")
    device: Device = "cuda" if any("cuda" in a.machines for a in answers.values()) else "cpu"
    if settings.device != "auto":
        device = settings.device
    elif begun and any(begun["device"] in a.machines for a in answers.values()):
        device = begun["device"]
    fit = {address: answer for address, answer in answers.items() if device in answer.machines}
    if not fit:
        raise SettingsError("expected a worker with a CUDA device, found none: leave out --device, or use --device cpu")
    # Of several kinds the one that began the work, else the most frequent one.
    kinds = Counter((answer.machines[device], answer.torch) for answer in fit.values())
    machine, torch = min(kinds, key=lambda kind: (-kinds[kind], kind))
    if begun and (begun["machine"], begun["torch"]) in kinds:
        machine, torch = begun["machine"], begun["torch"]
    same = {place: a for place, a in fit.items() if (a.machines[device], a.torch) == (machine, torch)}
    supported = all(device in answer.bf16 for answer in same.values())
    precision = settings.precision
    if precision == "auto":
        best: Precision = "bf16" if supported else "fp32"
        precision = "fp32" if begun and begun["precision"] == "fp32" else best
    if precision == "bf16" and not supported:
        raise SettingsError(f"expected hardware that multiplies bf16, found {machine}: use --precision fp32")
    free = [answer.memory for answer in same.values() if answer.memory is not None]
    return Workers(
        kind=WorkerKind(device, precision, machine, torch),
        among=None if len(same) == len(answers) else sorted(same),
        threads=max(answer.threads for answer in same.values()),
        memory=int(GPU_SHARE * min(free)) if device == "cuda" and free else DEFAULT_MEMORY,
    )


@lru_cache(maxsize=1)
def _describe() -> _Description:
    """What this process can compute with."""
    import torch

    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    return _Description(
        machines={device: machine_kind(device) for device in devices},
        bf16=tuple(device for device in devices if bf16_supported(device)),
        torch=str(torch.__version__),
        threads=computing_cores(),
        memory=torch.cuda.mem_get_info()[0] if "cuda" in devices else None,
    )


def _in_worker() -> bool:
    """Whether this process is a Dask worker."""
    module = sys.modules.get("distributed.worker")
    return module is not None and len(module.Worker._instances) > 0


_ready: dict[tuple[str, WorkerKind], Inference] = {}


def inference_of(weights: Weights, kind: WorkerKind) -> Inference:
    """The network of these weights, made ready once in a process; to be called on the compute thread."""
    import torch

    key = weights.sha256, kind
    inference = _ready.get(key)
    if inference is None:
        kind.check_here()
        if _in_worker() and torch.get_num_threads() != computing_cores():
            # Dask allows libraries one; only the compute thread has need of any.
            torch.set_num_threads(computing_cores())
        _ready.clear()  # one network in memory at a time
        inference = _ready[key] = prepare(weights, device=kind.device, precision=kind.precision)
    return inference
