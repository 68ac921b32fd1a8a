"""``deepfinder weights``: files of trained networks."""

from __future__ import annotations

from cyclopts import App

from deepfinder_dask.cli.options import Output, verb
from deepfinder_dask.networks.settings import ImportWeightsSettings

weights = App(name="weights", help="Import weights of other programs.")


@weights.command(name="import")
@verb(ImportWeightsSettings)
def import_(source: str, /, *, output: Output, settings: ImportWeightsSettings) -> str:
    """Turn the original DeepFinder's Keras weights (.h5) into ours.

    Parameters
    ----------
    source
        The original's weights, OLD.h5.
    output
        NEW.safetensors.
    """
    from deepfinder_dask.networks import import_keras_weights

    made = import_keras_weights(source, output, settings)
    return f"imported weights of {len(made.classes)} classes at {made.voxel_size:g} Å → {output}"
