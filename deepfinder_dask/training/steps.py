"""One step of training: forward, loss, backward, the batch shared between threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]
"""Maps logits (n, class, z, y, x) and labels (n, z, y, x) to a loss ()."""


class Workers:
    """Threads that each take a part of the batch through the network, one core each.

    The loss is that of the whole batch: logits are gathered, the loss and its gradient by the logits are computed once,
    and each thread carries its part of that gradient back. So the result is that of one pass, but for the order of
    sums. Torch's own threads inside each convolution would do the same work; but they wait for each other by spinning,
    which on a machine with other work cost a factor of 3 to 6 (measured, gradient by the weights at 48³).
    """

    def __init__(self, pool: ThreadPoolExecutor, threads: int) -> None:
        self._pool = pool
        self._threads = threads

    def gradients(self, network: nn.Module, values: Tensor, labels: Tensor, loss: Loss) -> float:
        """Loss of a batch; its gradients are left in ``.grad`` of the parameters.

        Parameters
        ----------
        network : nn.Module
        values : (n, 1, z, y, x) float32
        labels : (n, z, y, x) int64
        loss : callable

        Returns
        -------
        float
            The loss, perhaps not finite.
        """
        parameters = list(network.parameters())
        logits: list[Tensor] = list(self._pool.map(network, values.chunk(self._threads)))
        leaves = [part.detach().requires_grad_() for part in logits]
        total = loss(torch.cat(leaves), labels)
        downward = torch.autograd.grad(total, leaves)

        def back(part: Tensor, gradient: Tensor) -> tuple[Tensor, ...]:
            return torch.autograd.grad(part, parameters, gradient)

        parts = list(self._pool.map(back, logits, downward))
        for parameter, *gradients in zip(parameters, *parts, strict=True):
            parameter.grad = torch.stack(gradients).sum(0)
        return float(total.detach())

    def predict(self, network: nn.Module, values: Tensor) -> Tensor:
        """Labels (n, z, y, x) uint8 that the network gives to patches (n, 1, z, y, x)."""

        def labels_of(patch: Tensor) -> Tensor:
            with torch.inference_mode():
                return cast("Tensor", network(patch)).argmax(1).to(torch.uint8)

        return torch.cat(list(self._pool.map(labels_of, values.chunk(len(values)))))


@contextmanager
def open_workers(threads: int) -> Iterator[Workers]:
    """Workers for the duration of a run; torch computes with one thread in each of them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield Workers(pool, threads)
    finally:
        torch.set_num_threads(before)
