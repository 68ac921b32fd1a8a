"""The training loop, to be read in one sitting."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite

import torch

from deepfinder_dask.errors import PartialFailure
from deepfinder_dask.networks.devices import Precision
from deepfinder_dask.training.judging import FixedPatches, find_hard_negatives
from deepfinder_dask.training.loading import open_loader
from deepfinder_dask.training.losses import Loss
from deepfinder_dask.training.patches import Patch, PatchSampler
from deepfinder_dask.training.processes import Processes
from deepfinder_dask.training.state import Schedule, State, all_finite
from deepfinder_dask.training.steps import Engine, open_engine
from deepfinder_dask.training.watching.examples import JudgedPatches

Report = Callable[[State, bool], None]
"""Called after each step with the state and whether it is the best so far; writes logs and checkpoints."""
CountParticles = Callable[[State], Mapping[str, float]]
"""Finds particles in whole tomograms with the weights as they are, and gives their F1 figures for the record."""
Look = Callable[[int, JudgedPatches], None]
"""Is given the step and what the network found in the validation patches."""


@dataclass(frozen=True)
class Place:
    """Where a run computes."""

    threads: int = 2
    """Threads that share each batch on a CPU."""
    readers: int = 2
    """Threads that read patches."""
    precision: Precision = "fp32"
    """Numbers of the layers."""
    processes: Processes = field(default_factory=Processes)
    """This process among those that share the work."""


def run(
    state: State,
    training: PatchSampler,
    validation: PatchSampler,
    schedule: Schedule,
    report: Report,
    *,
    loss: Loss | None = None,
    place: Place | None = None,
    count_particles: CountParticles | None = None,
    look: Look | None = None,
) -> None:
    """Take the steps that are left.

    Parameters
    ----------
    state : State
        Changed in place.
    training, validation : PatchSampler
        Step 0 of ``validation`` gives the fixed patches to judge by.
    schedule : Schedule
    report : callable
        Called after each step, in the first process.
    loss : Loss, optional
        Default Dice plus cross-entropy.
    place : Place, optional
        Where to compute; default this machine's processor.
    count_particles : callable, optional
        Called in the first process where the schedule says so.
    look : callable, optional
        Called in the first process at each check.

    Raises
    ------
    PartialFailure
        If loss, gradients or weights are no longer finite; the state then holds the last weights with a finite loss.
    """
    loss, place = loss or Loss(), place or Place()
    processes = place.processes
    first, last = processes.share(training.batch)
    parameters = list(state.network.parameters())
    good = [p.detach().clone() for p in parameters]
    good_average = [p.detach().clone() for p in state.averaged.parameters()] if state.averaged else []

    def draw(step: int) -> list[Patch]:
        return training.draw(step, state.hard_at(step))[first:last]

    def stop(what: str) -> PartialFailure:
        _restore(state, good, good_average)
        return PartialFailure(
            f"training stopped at step {state.step + 1} of {schedule.steps}: {what} not finite; the last good weights "
            "are kept; use a lower learning_rate, perhaps from these weights with --init"
        )

    fixed = FixedPatches(validation) if processes.first else None
    gpu = processes.device.type == "cuda"
    with (
        open_loader(training, draw, place.readers, pinned=gpu) as loader,
        open_engine(state.network, processes.device, place.precision, place.threads, processes) as engine,
    ):
        started = time.monotonic()
        for batch in loader.batches(range(state.step, schedule.steps)):
            if state.stopped:
                break
            for group in state.optimizer.param_groups:
                group["lr"] = schedule.rate(state.step)
            value = engine.gradients(state.network, batch, loss)
            if not (isfinite(value) and all_finite([p.grad for p in parameters])):
                raise stop(f"loss {value:g} or its gradients are")
            _remember(state, good, good_average)
            state.optimizer.step()
            if not all_finite(parameters):
                raise stop("the weights are")
            state.step += 1
            state.move_average(schedule.average)
            entry = {"step": state.step, "loss": value, "seconds": round(time.monotonic() - started, 4)}
            improved = False
            if schedule.checks(state.step):
                improved = _check(state, engine, fixed, training, schedule, entry, processes, count_particles, stop)
                if look is not None and fixed is not None:
                    look(state.step, fixed.judged())
            state.record.append(entry)
            if processes.first:
                report(state, improved)
            started = time.monotonic()


def _check(
    state: State,
    engine: Engine,
    fixed: FixedPatches | None,
    training: PatchSampler,
    schedule: Schedule,
    entry: dict[str, float],
    processes: Processes,
    count_particles: CountParticles | None,
    stop: Callable[[str], PartialFailure],
) -> bool:
    """Judge the weights; the figures go into the entry. Whether they are the best so far, in every process."""
    told: list[float] = []
    if fixed is not None:
        scores, finite = fixed.judge(engine, state.judged)
        if finite:
            entry |= scores
            counted = count_particles is not None and schedule.counts(state.step)
            if count_particles is not None and counted:
                entry |= count_particles(state)
            deciding = "particles_f1" if count_particles is not None else "f1"
            hard = find_hard_negatives(engine, state, training) if schedule.mining else []
            told = [float(counted or count_particles is None), entry.get(deciding, -1.0)]
            told += [number for place in hard for number in place]
    told = processes.told(told)
    if not told:
        state.step -= 1
        raise stop("the network's output is")
    decides, score, *places = told
    if schedule.mining:
        state.add_hard([(int(t), z, y, x) for t, z, y, x in zip(*[iter(places)] * 4, strict=True)])
    improved = bool(decides) and score > state.best
    if decides:
        state.best, state.idle = max(state.best, score), 0 if improved else state.idle + 1
        state.stopped = bool(schedule.patience) and state.idle >= schedule.patience
    return improved


def _remember(state: State, good: list[torch.Tensor], good_average: list[torch.Tensor]) -> None:
    """Keep the weights that have just given a finite loss."""
    with torch.no_grad():
        for kept, parameter in zip(good, state.network.parameters(), strict=True):
            kept.copy_(parameter)
        if state.averaged is not None:
            for kept, parameter in zip(good_average, state.averaged.parameters(), strict=True):
                kept.copy_(parameter)


def _restore(state: State, good: list[torch.Tensor], good_average: list[torch.Tensor]) -> None:
    with torch.no_grad():
        for parameter, kept in zip(state.network.parameters(), good, strict=True):
            parameter.copy_(kept)
        if state.averaged is not None:
            for parameter, kept in zip(state.averaged.parameters(), good_average, strict=True):
                parameter.copy_(kept)
