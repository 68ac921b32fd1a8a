"""``train``: from tomograms, targets and positions to weights."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deepfinder_dask import __version__
from deepfinder_dask.errors import OutputExistsError
from deepfinder_dask.execution import Progress, options_to_settings
from deepfinder_dask.networks import Weights, save_weights
from deepfinder_dask.training.checkpoints import append_log, draw_curves, load_state, save_state, write_log
from deepfinder_dask.training.config import TrainingConfig, find_config, read_config
from deepfinder_dask.training.data import TrainingData, open_data
from deepfinder_dask.training.loop import Schedule, State, new_state, run
from deepfinder_dask.training.patches import PatchSampler
from deepfinder_dask.training.settings import TrainSettings

KEPT = ("best.safetensors", "last.safetensors", "state.safetensors", "curves.png")
"""What checkpoints leave in a run's folder."""


def train(
    config: str | Path,
    output: str | Path,
    settings: TrainSettings | None = None,
    *,
    progress: bool = True,
    **options: Any,
) -> Path:
    """Train a network.

    The folder gets ``best.safetensors`` (highest mean F1 of the validation patches' voxels) and ``last.safetensors``,
    ``log.jsonl`` (one line per step), ``curves.png``, and ``state.safetensors`` to resume from.

    Parameters
    ----------
    config : str or path
        TOML file (see :mod:`deepfinder_dask.training.config`), or ``demo``, which comes with the package.
    output : str or path
        Folder of the run; made if it is not there.
    settings : TrainSettings, optional
        How; default the defaults.
    progress : bool
        Show a bar where standard error is a terminal.
    **options
        Single fields of the settings, such as ``resume=True``.

    Returns
    -------
    Path
        The best weights.

    Raises
    ------
    InputError
        If configuration or data cannot work (see :func:`~deepfinder_dask.training.data.open_data`), or the folder holds
        a run already.
    PartialFailure
        If the loss is no longer finite; ``last.safetensors`` then holds the last good weights.
    """
    chosen = options_to_settings(TrainSettings, settings, options)
    what = read_config(config)
    folder = Path(output)
    if (folder / "log.jsonl").exists() and not (chosen.resume or chosen.overwrite):
        raise OutputExistsError(f"{folder} holds a run already: go on with --resume, or replace it with --overwrite")
    data = open_data(what, chosen.data or find_config(config).parent)
    threads = chosen.threads or os.cpu_count() or 1
    schedule = Schedule(what.steps, what.learning_rate, what.warm_up, threads, what.check_every, what.seed)
    state = new_state(len(data.classes) + 1, schedule)
    identity = _identity(what, data)
    if chosen.resume:
        load_state(state, folder / "state.safetensors", identity)
    training = PatchSampler(data.train, what.patch_size, what.batch, what.shift, what.seed, len(data.classes))
    fixed = PatchSampler(
        data.validation, what.patch_size, what.validation_patches, what.shift, what.seed, len(data.classes)
    )

    def keep(name: str) -> None:
        save_weights(weights_of(state, what, data), folder / name)

    def checkpoint(improved: bool) -> None:
        if improved:
            keep("best.safetensors")
        keep("last.safetensors")
        save_state(state, folder / "state.safetensors", identity)
        draw_curves(state.record, data.classes, folder / "curves.png")

    if not chosen.resume:
        for name in KEPT:  # weights of a run that is replaced would pass for this one's
            (folder / name).unlink(missing_ok=True)
    write_log(state.record, folder / "log.jsonl")  # without steps that a killed run took after its checkpoint
    with Progress(f"train {folder.name}", what.steps, unit="step", enabled=None if progress else False) as bar:
        bar.advance(state.step)

        def report(_: State, improved: bool) -> None:
            bar.advance()
            append_log(state.record[-1], folder / "log.jsonl")
            if "f1" in state.record[-1]:
                checkpoint(improved)

        try:
            run(state, training, fixed, schedule, report)
        finally:
            if state.record:
                keep("last.safetensors")
    return folder / "best.safetensors"


def weights_of(state: State, config: TrainingConfig, data: TrainingData) -> Weights:
    """The network as it is, with all that belongs to it and where it comes from."""
    checks = [entry for entry in state.record if "f1" in entry]
    settings = {k: v for k, v in asdict(config).items() if k not in ("train", "validation", "held_out")}
    return Weights(
        state={name: values.detach().contiguous() for name, values in state.network.state_dict().items()},
        classes=data.classes,
        voxel_size=data.voxel_size,
        imaging=data.imaging,
        provenance={
            "program": f"deepfinder_dask {__version__}",
            "training": settings,
            "steps_taken": state.step,
            "data": data.provenance,
            "validation": {k: round(v, 4) for k, v in checks[-1].items() if k.startswith("f1")} if checks else {},
        },
    )


def _identity(config: TrainingConfig, data: TrainingData) -> str:
    """Hash of all that decides the weights: configuration, tomograms, positions."""
    digest = hashlib.sha256(json.dumps([asdict(config), data.provenance], sort_keys=True).encode())
    for one in (*data.train, *data.validation):
        digest.update(json.dumps([one.name, one.shape, one.mean, one.std]).encode())
        digest.update(one.positions.tobytes())
        digest.update(one.position_labels.tobytes())
    return digest.hexdigest()
