"""``deepfinder simulate``."""

from __future__ import annotations

from deepfinder_dask.cli.options import Outcome, Output, verb
from deepfinder_dask.simulation.settings import SimulateSettings


@verb(SimulateSettings)
def simulate(config: str, /, *, output: Output, settings: SimulateSettings) -> Outcome:
    """Simulate tomograms whose particles are known.

    Each tomogram NAME of the configuration gives NAME.zarr, its truth NAME_labels.zarr, NAME_instances.zarr and
    NAME_particles.parquet, and the picture NAME.png; classes.toml names the classes, summary.json tells what was placed
    and the signal-to-noise ratio that was measured.

    Parameters
    ----------
    config
        TOML file, or the name of a configuration that comes with the package: cell, demo, quick or training.
    output
        Folder.

    Examples
    --------
    deepfinder simulate demo -o demo
    deepfinder simulate scene.toml -o scene --seed 7 --workers 4
    """
    from deepfinder_dask.simulation import simulate

    made = simulate(config, output, settings)
    words = f"simulated {len(made)} tomogram{'s' if len(made) != 1 else ''} in {output}"
    return Outcome(words, {"folder": output, "count": len(made)})
