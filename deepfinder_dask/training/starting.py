"""What is settled before the first step: who works in the folder, which run it is, and in which numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deepfinder_dask.errors import InputError
from deepfinder_dask.execution import hold
from deepfinder_dask.networks import Precision, Weights, bf16_supported
from deepfinder_dask.training.config import TrainingConfig
from deepfinder_dask.training.data import TrainingData
from deepfinder_dask.training.processes import Processes


@contextmanager
def hold_folder(folder: Path, processes: Processes) -> Iterator[None]:
    """Keep other runs out of a folder; the first process holds it for all."""
    with ExitStack() as held:
        busy = ""
        try:
            if processes.first:
                held.enter_context(hold(folder / ".lock", folder))
        except InputError as error:
            busy = str(error)
        if processes.told([float(bool(busy))]) != [0.0]:
            raise InputError(busy or f"another process is at work in {folder}")
        yield


def precision_of(what: TrainingConfig, processes: Processes, began: dict[str, Any]) -> Precision:
    """Numbers of the layers; a resumed run keeps those it began with."""
    wanted = str(began.get("precision", what.precision))
    if wanted == "auto":
        wanted = "bf16" if bf16_supported(str(processes.device)) else "fp32"
    return "bf16" if wanted == "bf16" else "fp32"


def identity_of(config: TrainingConfig, data: TrainingData, init: Weights | None) -> str:
    """Hash of all that decides the weights: configuration, tomograms, positions, weights to start from."""
    what = asdict(config)
    if config.normalisation == "mean-std":  # as before there was another, so that older runs go on
        del what["normalisation"]
    for example in (*what["train"], *what["validation"]):
        if example["mask"] is None:
            del example["mask"]
    facts = [what, data.provenance, None if init is None else init.sha256]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for one in (*data.train, *data.validation):
        digest.update(json.dumps([one.name, one.shape, one.scaling.mean, one.scaling.std, one.known]).encode())
        digest.update(one.positions.tobytes())
        digest.update(one.position_labels.tobytes())
    return digest.hexdigest()
