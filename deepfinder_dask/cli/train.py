"""``deepfinder train``."""

from __future__ import annotations

from deepfinder_dask.cli.options import Output, verb
from deepfinder_dask.training.settings import TrainSettings


@verb(TrainSettings)
def train(config: str, /, *, output: Output, settings: TrainSettings) -> str:
    """Train a network on tomograms whose particles are known.

    Leaves best.safetensors, last.safetensors, log.jsonl, curves.png and what it takes to resume.

    Parameters
    ----------
    config
        TOML file, or demo for the configuration that comes with the package.
    output
        Folder of the run.
    """
    from deepfinder_dask.training import train

    return f"trained → {train(config, output, settings)}"
