"""One step of training: forward, loss, backward, on the cores of this machine or on a GPU, alone or one of many."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from deepfinder_dask.networks.devices import Precision
from deepfinder_dask.networks.unet import UNet
from deepfinder_dask.training.loading import Batch
from deepfinder_dask.training.losses import Loss
from deepfinder_dask.training.processes import Processes


class Engine(Protocol):
    """What takes a batch through a network."""

    def gradients(self, network: UNet, batch: Batch, loss: Loss) -> float:
        """Loss of a batch, of all processes together; its gradients are left in ``.grad`` of the parameters.

        Returns
        -------
        float
            The loss, perhaps not finite.
        """

    def predict(self, network: UNet, values: Tensor) -> tuple[Tensor, bool]:
        """Labels (n, z, y, x) uint8 that the network gives to patches (n, 1, z, y, x), and whether all its logits are
        finite.
        """


class Workers:
    """Threads that each take a part of the batch through the network, one core each.

    The loss is that of the whole batch: the sums that it follows from are added up, its gradient by these is computed
    once, and each thread carries that back through its part. So the result is that of one pass, but for the order of
    sums. Torch's own threads inside each convolution would do the same work; but they wait for each other by spinning,
    which on a machine with other work cost a factor of 3 to 6 (measured, gradient by the weights at 48³).
    """

    def __init__(self, pool: ThreadPoolExecutor, threads: int, precision: Precision = "fp32") -> None:
        self._pool = pool
        self._threads = threads
        self._precision = precision

    def gradients(self, network: UNet, batch: Batch, loss: Loss) -> float:
        """As :meth:`Engine.gradients`."""
        parameters = list(network.parameters())

        def forth(part: Batch) -> Tensor:
            with mixed("cpu", self._precision):
                logits = network(part.values)
            return loss.sums(logits, part.labels, part.annotated)

        def back(sums: Tensor) -> tuple[Tensor, ...]:
            return torch.autograd.grad(sums, parameters, downward)

        parts = list(self._pool.map(forth, batch.split(self._threads)))
        total = torch.stack([sums.detach() for sums in parts]).sum(0).requires_grad_()
        value = loss.value(total)
        (downward,) = torch.autograd.grad(value, total)
        shares = list(self._pool.map(back, parts))
        for parameter, *gradients in zip(parameters, *shares, strict=True):
            parameter.grad = torch.stack(gradients).sum(0)
        return float(value.detach())

    def predict(self, network: UNet, values: Tensor) -> tuple[Tensor, bool]:
        """As :meth:`Engine.predict`."""

        def labels_of(patch: Tensor) -> tuple[Tensor, bool]:
            return _labels_of(network, patch, "cpu", self._precision)

        found = list(self._pool.map(labels_of, values.chunk(len(values))))
        return torch.cat([labels for labels, _ in found]), all(finite for _, finite in found)


class DeviceEngine:
    """One pass over the whole batch on a GPU, or on the part of a batch that is this process's.

    Several processes share a batch through torch's DistributedDataParallel. The sums that the loss follows from are
    added up over all of them first; so loss and gradients are those of the whole batch, not means over its parts,
    which for Dice would be another loss.
    """

    def __init__(self, network: UNet, device: torch.device, precision: Precision, processes: Processes) -> None:
        self._network: nn.Module = network
        self._device = device
        self._precision = precision
        self._processes = processes
        if processes.count > 1:
            from torch.nn.parallel import DistributedDataParallel

            ids = [device] if device.type == "cuda" else None
            self._network = DistributedDataParallel(network, device_ids=ids)

    def gradients(self, network: UNet, batch: Batch, loss: Loss) -> float:
        """As :meth:`Engine.gradients`."""
        here = batch.to(self._device)
        network.zero_grad(set_to_none=True)
        with mixed(self._device.type, self._precision):
            logits = self._network(here.values)
        sums = loss.sums(logits, here.labels, here.annotated)
        total = self._processes.sum(sums.detach())
        value = loss.value(sums + (total - sums.detach()))
        # DistributedDataParallel takes the mean of the gradients; wanted is their sum.
        torch.autograd.backward(value * self._processes.count)
        return float(value.detach())

    def predict(self, network: UNet, values: Tensor) -> tuple[Tensor, bool]:
        """As :meth:`Engine.predict`."""
        found = [
            _labels_of(network, patch.to(self._device), self._device.type, self._precision)
            for patch in values.chunk(len(values))
        ]
        return torch.cat([labels.cpu() for labels, _ in found]), all(finite for _, finite in found)


@contextmanager
def open_workers(threads: int, precision: Precision = "fp32") -> Iterator[Workers]:
    """Workers for the duration of a run; torch computes with one thread in each of them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield Workers(pool, threads, precision)
    finally:
        torch.set_num_threads(before)


@contextmanager
def open_engine(
    network: UNet, device: torch.device, precision: Precision, threads: int, processes: Processes
) -> Iterator[Engine]:
    """What takes batches through a network for the duration of a run.

    Parameters
    ----------
    network : UNet
        Already on the device.
    device : torch.device
    precision : str
        ``bf16`` computes layers in bf16, and keeps weights, their gradients and the loss in fp32.
    threads : int
        Threads that share a batch on a CPU.
    processes : Processes
        Those that share the work.
    """
    if device.type == "cpu" and processes.count == 1:
        with open_workers(threads, precision) as workers:
            yield workers
    else:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            yield DeviceEngine(network, device, precision, processes)
        finally:
            torch.set_num_threads(before)


def mixed(device: str, precision: Precision) -> AbstractContextManager[None]:
    """Layers in bf16 where that is the precision; it holds for the thread that enters it."""
    # Without the cache of cast weights, which threads would share; each weight is used once in a pass anyway.
    context = torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16", cache_enabled=False)
    return cast("AbstractContextManager[None]", context)


def _labels_of(network: UNet, patch: Tensor, device: str, precision: Precision) -> tuple[Tensor, bool]:
    with torch.inference_mode(), mixed(device, precision):
        logits = network(patch)
        return logits.argmax(1).to(torch.uint8), bool(torch.isfinite(logits).all())
