"""``deepfinder train``."""

from __future__ import annotations

import os

from deepfinder_dask.cli.options import Output, verb
from deepfinder_dask.training.settings import TrainSettings


@verb(TrainSettings)
def train(config: str, /, *, output: Output, settings: TrainSettings) -> str | None:
    """Train a network on tomograms whose particles are known.

    Leaves best.safetensors, last.safetensors, log.jsonl, curves.png, curves.html (renews itself in a browser) and what
    it takes to resume. With several GPUs: torchrun --nproc-per-node N -m deepfinder_dask train …

    Parameters
    ----------
    config
        TOML file, or demo for the configuration that comes with the package.
    output
        Folder of the run.
    """
    from deepfinder_dask.training import describe_init, train

    best = train(config, output, settings)
    if os.environ.get("RANK", "0") != "0":
        return None
    return f"trained → {best}{describe_init(best)}"
