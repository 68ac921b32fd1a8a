"""What a run leaves behind: weights, a state to resume from, a log, and curves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from deepfinder_dask.errors import FormatError
from deepfinder_dask.particles.files import atomic_write, existing_file

if TYPE_CHECKING:
    from deepfinder_dask.particles import ParticleClass
    from deepfinder_dask.training.loop import State

MOMENTS = ("exp_avg", "exp_avg_sq", "step")
"""What Adam keeps for each parameter."""


def save_state(state: State, path: Path, identity: str) -> None:
    """Write network, optimizer and record into one file, whole or not at all.

    Parameters
    ----------
    state : State
    path : Path
        ``.safetensors``.
    identity : str
        Hash of the configuration and the data; a resume needs the same.
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    for name, parameter in state.network.named_parameters():
        tensors[f"network.{name}"] = parameter.detach().contiguous()
        for moment in MOMENTS if parameter in state.optimizer.state else ():
            tensors[f"{moment}.{name}"] = state.optimizer.state[parameter][moment].contiguous()
    facts = {"step": state.step, "best": state.best, "record": state.record, "identity": identity}
    with atomic_write(path) as temporary:
        temporary.write_bytes(save(tensors, metadata={"run": json.dumps(facts)}))


def load_state(state: State, path: Path, identity: str) -> None:
    """Bring a fresh state to where `save_state` left another of the same run.

    Raises
    ------
    InputError
        If there is no checkpoint.
    FormatError
        If it is damaged, or belongs to another configuration or other data.
    """
    from safetensors import SafetensorError, safe_open

    existing_file(path, "a checkpoint to resume from")
    try:
        with safe_open(path, framework="pt", device="cpu") as stream:
            facts = json.loads((stream.metadata() or {})["run"])
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118  # no mapping
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise FormatError(f"{path}: expected the checkpoint of a run, found a damaged or other file") from error
    if facts["identity"] != identity:
        raise FormatError(f"{path}: the run had another configuration or other data; start a new one in another folder")
    with torch.no_grad():
        for name, parameter in state.network.named_parameters():
            parameter.copy_(tensors[f"network.{name}"])
            if f"step.{name}" in tensors:
                state.optimizer.state[parameter] = {
                    moment: torch.empty_like(parameter).copy_(tensors[f"{moment}.{name}"])
                    if moment != "step"
                    else tensors[f"step.{name}"]
                    for moment in MOMENTS
                }
    state.step, state.best, state.record = facts["step"], facts["best"], facts["record"]


def write_log(record: Sequence[dict[str, float]], path: Path) -> None:
    """Write one JSON object per step: step, loss, seconds, and the F1 figures where they were taken."""
    with atomic_write(path) as temporary:
        temporary.write_text("".join(json.dumps(entry) + "\n" for entry in record), encoding="utf-8")


def append_log(entry: dict[str, float], path: Path) -> None:
    """Add the latest step to a log."""
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(entry) + "\n")


def draw_curves(record: Sequence[dict[str, float]], classes: Sequence[ParticleClass], path: Path) -> None:
    """Draw loss and validation F1 of each class over the steps into a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(2, 1, sharex=True)
    axes[0].plot([e["step"] for e in record], [e["loss"] for e in record], color="0.4", linewidth=0.8)
    axes[0].set_ylabel("loss")
    checked = [e for e in record if "f1" in e]
    for one in classes:
        steps, scores = [e["step"] for e in checked], [e[f"f1_{one.label}"] for e in checked]
        axes[1].plot(steps, scores, color=one.colour, marker=".", label=one.name)
    axes[1].set_ylim(0, 1)
    axes[1].set_ylabel("F1 of voxels, validation")
    axes[1].set_xlabel("step")
    axes[1].legend(loc="lower right", frameon=False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
