"""``deepfinder train``."""

from __future__ import annotations

import os

from deepfinder_dask.cli.options import Outcome, Output, verb
from deepfinder_dask.training.settings import TrainSettings


@verb(TrainSettings)
def train(config: str, /, *, output: Output, settings: TrainSettings) -> Outcome:
    """Train a network on tomograms whose particles are known.

    Leaves best.safetensors, last.safetensors, log.jsonl, curves.png, curves.html (renews itself in a browser) and what
    it takes to resume. With several GPUs: torchrun --nproc-per-node N -m deepfinder_dask train …

    Parameters
    ----------
    config
        TOML file, or the name of a configuration that comes with the package: demo or quick.
    output
        Folder of the run.

    Examples
    --------
    # on simulated tomograms, with the configuration that comes with the package
    deepfinder train demo --data training -o run
    # it was interrupted
    deepfinder train demo --data training -o run --resume
    # begin with trained weights
    deepfinder train training.toml -o run --init weights.safetensors
    """
    from deepfinder_dask.training import describe_init, train

    best = train(config, output, settings)
    if os.environ.get("RANK", "0") != "0":
        return Outcome("", {})
    return Outcome(f"trained → {best}{describe_init(best)}", {"best": str(best), "folder": output})
