"""``deepfinder weights``: files of trained networks."""

from __future__ import annotations

from cyclopts import Group

from deepfinder_dask.cli.options import Outcome, Output, verb
from deepfinder_dask.cli.pages import Command
from deepfinder_dask.networks.settings import ImportWeightsSettings

weights = Command(name="weights", help="Import weights of other programs.", group_commands=Group("Verbs"))
weights.examples = "deepfinder weights import net_weights.h5 -o weights.safetensors --voxel-size 10"


@weights.command(name="import")
@verb(ImportWeightsSettings)
def import_(source: str, /, *, output: Output, settings: ImportWeightsSettings) -> Outcome:
    """Turn the original DeepFinder's Keras weights (.h5) into ours.

    Parameters
    ----------
    source
        The original's weights, OLD.h5.
    output
        NEW.safetensors.

    Examples
    --------
    deepfinder weights import net_weights.h5 -o weights.safetensors --classes classes.toml --voxel-size 10
    """
    from deepfinder_dask.networks import import_keras_weights

    made = import_keras_weights(source, output, settings)
    words = f"imported weights of {len(made.classes)} classes at {made.voxel_size:g} Å → {output}"
    facts = {"weights": output, "classes": [one.name for one in made.classes], "voxel_size": made.voxel_size}
    return Outcome(words, facts)
