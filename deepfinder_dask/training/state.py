"""What a run needs to go on: network, optimizer, averaged weights, record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from deepfinder_dask.networks.unet import UNet
from deepfinder_dask.training.loading import AHEAD
from deepfinder_dask.training.patches import Place


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to learn."""

    steps: int
    """Batches to learn from."""
    learning_rate: float = 1e-3
    """Of Adam at its highest."""
    warm_up: int = 20
    """Steps over which the learning rate rises to its line: Adam's first steps are as long as any, but know least."""
    check_every: int = 25
    """Steps between two looks at the validation patches."""
    seed: int = 0
    """Decides the first weights."""
    decay: str = "linear"
    """``linear``: the rate falls to 0 at the last step; ``constant``: it stays."""
    average: float = 0.0
    """Decay of the moving average of the weights; 0: none."""
    patience: int = 0
    """Checks without better weights after which to stop; 0: never."""
    particles_every: int = 0
    """Steps between two counts of particles in whole tomograms; 0: none."""
    mining: bool = False
    """Whether to seek hard negatives at each check."""

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        left = 1 - step / self.steps if self.decay == "linear" else 1.0
        return self.learning_rate * min(1.0, (step + 1) / self.warm_up) * left

    def checks(self, step: int) -> bool:
        """Whether to look at the validation patches after this many steps."""
        return step % self.check_every == 0 or step == self.steps

    def counts(self, step: int) -> bool:
        """Whether to count particles after this many steps."""
        return bool(self.particles_every) and (step % self.particles_every == 0 or step == self.steps)


@dataclass
class State:
    """All that a run needs to go on."""

    network: UNet
    """The network as it is."""
    optimizer: torch.optim.Adam
    """Its optimizer, with both moments."""
    averaged: UNet | None = None
    """The network with the moving average of the weights."""
    step: int = 0
    """Steps taken."""
    best: float = -1.0
    """Highest score so far: mean F1 on the validation patches, or of the particles where these are counted."""
    idle: int = 0
    """Judgements since the best."""
    stopped: bool = False
    """Whether the run ended early, its patience at an end."""
    record: list[dict[str, float]] = field(default_factory=list)
    """One entry per step: step, loss, seconds; at a check also ``f1_<label>`` and ``f1``; at a count of particles also
    ``particles_f1_<label>``, ``particles_f1`` and ``particles_localisation``."""
    hard: dict[int, list[Place]] = field(default_factory=dict)
    """Hard negatives, by the step after which they were found."""

    @property
    def judged(self) -> UNet:
        """The network that is judged and kept: with averaged weights, where there are such."""
        return self.averaged or self.network

    def hard_at(self, step: int) -> list[Place]:
        """Hard negatives that a step, counted from 0, draws from.

        Batches are drawn ahead of the device; so what a check finds is used from the first step on that no loader can
        have drawn by then, and a resumed run draws what an uninterrupted one draws.
        """
        usable = [found for found in self.hard if found + AHEAD < step]
        return self.hard[max(usable)] if usable else []

    def add_hard(self, places: Sequence[Place]) -> None:
        """Keep what was found after the latest step, and of earlier finds what steps to come still draw from."""
        self.hard[self.step] = list(places)
        old = [found for found in self.hard if found + AHEAD < self.step]
        for found in sorted(old)[:-1]:
            del self.hard[found]

    def move_average(self, decay: float) -> None:
        """Take the latest weights into the average; the first steps count for more, as they are few."""
        if self.averaged is None:
            return
        share = min(decay, self.step / (self.step + 9))
        with torch.no_grad():
            for mean, latest in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(latest, 1 - share)


def new_state(classes: int, schedule: Schedule, device: torch.device | None = None) -> State:
    """A network with fresh weights, ``classes`` counting the background."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(schedule.seed)
        network = UNet(classes)
    return state_of(network, schedule, device)


def state_of(network: UNet, schedule: Schedule, device: torch.device | None = None) -> State:
    """The state at the start of a run."""
    network = network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # missing from torch's stubs
    averaged = None
    if schedule.average:
        averaged = UNet(network.classes).requires_grad_(False)
        averaged.load_state_dict(network.state_dict())
        averaged = averaged.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return State(network, torch.optim.Adam(network.parameters(), lr=schedule.learning_rate), averaged)


def all_finite(tensors: Sequence[Tensor | None]) -> bool:
    """Whether every value is finite."""
    return bool(torch.stack([t.detach().isfinite().all() for t in tensors if t is not None]).all())


def scores_of(entry: Mapping[str, float]) -> dict[str, float]:
    """The F1 figures of an entry of the record."""
    return {key: value for key, value in entry.items() if "f1" in key or key == "particles_localisation"}
