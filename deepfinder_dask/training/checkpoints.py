"""What a run leaves behind to be resumed from: a state, and a log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepfinder_dask.errors import FormatError
from deepfinder_dask.particles.files import atomic_write, existing_file
from deepfinder_dask.training.state import State

MOMENTS = ("exp_avg", "exp_avg_sq", "step")
"""What Adam keeps for each parameter."""


def save_state(state: State, path: Path, identity: str, began: Mapping[str, Any]) -> None:
    """Write networks, optimizer and record into one file, whole or not at all.

    Parameters
    ----------
    state : State
    path : Path
        ``.safetensors``.
    identity : str
        Hash of the configuration and the data; a resume needs the same.
    began : mapping
        What decides the last bits and was chosen for this machine, such as precision and threads: a resume keeps it.
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    for name, parameter in state.network.named_parameters():
        tensors[f"network.{name}"] = parameter.detach().contiguous()
        for moment in MOMENTS if parameter in state.optimizer.state else ():
            tensors[f"{moment}.{name}"] = state.optimizer.state[parameter][moment].contiguous()
    for name, parameter in state.averaged.named_parameters() if state.averaged else ():
        tensors[f"averaged.{name}"] = parameter.detach().contiguous()
    facts = {
        "step": state.step,
        "best": state.best,
        "idle": state.idle,
        "stopped": state.stopped,
        "record": state.record,
        "hard": sorted(state.hard.items()),
        "identity": identity,
        "began": dict(began),
    }
    with atomic_write(path) as temporary:
        temporary.write_bytes(save(tensors, metadata={"run": json.dumps(facts)}))


def read_facts(path: Path, identity: str) -> dict[str, Any]:
    """What a checkpoint says beside its tensors.

    Raises
    ------
    InputError
        If there is no checkpoint.
    FormatError
        If it is damaged, or belongs to another configuration or other data.
    """
    from safetensors import SafetensorError, safe_open

    existing_file(path, "a checkpoint to resume from; without one, train anew with --overwrite")
    try:
        with safe_open(path, framework="pt", device="cpu") as stream:
            facts: dict[str, Any] = json.loads((stream.metadata() or {})["run"])
            same = facts["identity"] == identity
            _ = facts["began"], facts["hard"], facts["idle"]
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise FormatError(f"{path}: expected the checkpoint of a run, found a damaged or other file") from error
    if not same:
        raise FormatError(f"{path}: the run had another configuration or other data; start a new one in another folder")
    return facts


def load_state(state: State, path: Path, identity: str) -> None:
    """Bring a fresh state to where `save_state` left another of the same run; raises as `read_facts`."""
    from safetensors.torch import load_file

    facts = read_facts(path, identity)
    tensors = load_file(path)
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
        for name, parameter in state.averaged.named_parameters() if state.averaged else ():
            parameter.copy_(tensors[f"averaged.{name}"])
    state.step, state.best, state.record = facts["step"], facts["best"], facts["record"]
    state.idle, state.stopped = facts["idle"], facts["stopped"]
    state.hard = {int(step): [(int(t), z, y, x) for t, z, y, x in places] for step, places in facts["hard"]}


def write_log(record: Sequence[Mapping[str, float]], path: Path) -> None:
    """Write one JSON object per step: step, loss, seconds, and the F1 figures where they were taken."""
    with atomic_write(path) as temporary:
        temporary.write_text("".join(json.dumps(entry) + "\n" for entry in record), encoding="utf-8")


def append_log(entry: Mapping[str, float], path: Path) -> None:
    """Add the latest step to a log."""
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(entry) + "\n")
