"""The training loop, to be read in one sitting."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepfinder_dask.errors import PartialFailure
from deepfinder_dask.networks.unet import UNet
from deepfinder_dask.particles.classes import IGNORE
from deepfinder_dask.training.losses import dice_and_cross_entropy
from deepfinder_dask.training.patches import PatchSampler
from deepfinder_dask.training.steps import Workers, open_workers


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to learn."""

    steps: int
    """Batches to learn from."""
    learning_rate: float = 1e-3
    """Of Adam at its highest; falls linearly to 0 at the last step."""
    warm_up: int = 20
    """Steps over which the learning rate rises to its line: Adam's first steps are as long as any, but know least."""
    threads: int = 2
    """Threads that share each batch."""
    check_every: int = 25
    """Steps between two looks at the validation patches."""
    seed: int = 0
    """Decides the first weights."""

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        return self.learning_rate * min(1.0, (step + 1) / self.warm_up) * (1 - step / self.steps)


@dataclass
class State:
    """All that a run needs to go on."""

    network: UNet
    """The network as it is."""
    optimizer: torch.optim.Adam
    """Its optimizer, with both moments."""
    step: int = 0
    """Steps taken."""
    best: float = -1.0
    """Highest mean F1 on the validation patches so far."""
    record: list[dict[str, float]] = field(default_factory=list)
    """One entry per step: step, loss, seconds; at a check also ``f1_<label>`` and ``f1``."""


Report = Callable[[State, bool], None]
"""Called after each step with the state and whether it is the best so far; writes logs and checkpoints."""


def new_state(classes: int, schedule: Schedule) -> State:
    """A network with fresh weights, ``classes`` counting the background."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(schedule.seed)
        network = UNet(classes)
    network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # missing from torch's stubs
    return State(network, torch.optim.Adam(network.parameters(), lr=schedule.learning_rate))


def run(state: State, training: PatchSampler, validation: PatchSampler, schedule: Schedule, report: Report) -> None:
    """Take the steps that are left.

    Parameters
    ----------
    state : State
        Changed in place.
    training, validation : PatchSampler
        Step 0 of ``validation`` gives the fixed patches to judge by.
    schedule : Schedule
    report : callable
        Called after each step.

    Raises
    ------
    PartialFailure
        If loss or gradients are no longer finite; the state then holds the last weights with a finite loss.
    """
    fixed, truth = validation.read(validation.draw(0))
    parameters = list(state.network.parameters())
    with open_workers(schedule.threads) as workers:
        good = [p.detach().clone() for p in parameters]
        while state.step < schedule.steps:
            start = time.monotonic()
            for group in state.optimizer.param_groups:
                group["lr"] = schedule.rate(state.step)
            values, labels = training.read(training.draw(state.step))
            loss = workers.gradients(
                state.network, torch.from_numpy(values), torch.from_numpy(labels), dice_and_cross_entropy
            )
            if not np.isfinite(loss) or not all(_finite(p.grad) for p in parameters):
                _restore(parameters, good)
                raise PartialFailure(
                    f"training stopped at step {state.step + 1} of {schedule.steps}: loss {loss:g} or its gradients "
                    "are not finite; the last good weights are kept; use a lower learning_rate"
                )
            for kept, parameter in zip(good, parameters, strict=True):
                kept.copy_(parameter.detach())
            state.optimizer.step()
            state.step += 1
            entry = {"step": state.step, "loss": loss, "seconds": time.monotonic() - start}
            improved = False
            if state.step % schedule.check_every == 0 or state.step == schedule.steps:
                scores = f1_of_voxels(_predict(workers, state.network, fixed), truth, state.network.classes)
                entry |= {f"f1_{label}": score for label, score in scores.items()}
                entry["f1"] = float(np.mean(list(scores.values())))
                improved = entry["f1"] > state.best
                state.best = max(state.best, entry["f1"])
            state.record.append(entry)
            report(state, improved)


def f1_of_voxels(found: NDArray[np.uint8], truth: NDArray[np.int64], classes: int) -> Mapping[int, float]:
    """F1 of the voxels of each class but the background; 1 for a class absent from both.

    Voxels that are 255 (ignore) in ``truth`` do not count.

    Parameters
    ----------
    found, truth : (n, z, y, x)
    classes : int
        Number of classes, background among them.
    """
    known = truth != IGNORE
    scores = {}
    for label in range(1, classes):
        predicted, actual = (found == label) & known, truth == label
        both, either = int((predicted & actual).sum()), int(predicted.sum()) + int(actual.sum())
        scores[label] = 2 * both / either if either else 1.0
    return scores


def _predict(workers: Workers, network: UNet, patches: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.asarray(workers.predict(network, torch.from_numpy(patches)).numpy())


def _finite(gradient: Tensor | None) -> bool:
    return gradient is None or bool(torch.isfinite(gradient).all())


def _restore(parameters: list[torch.nn.Parameter], good: list[Tensor]) -> None:
    with torch.no_grad():
        for parameter, kept in zip(parameters, good, strict=True):
            parameter.copy_(kept)
