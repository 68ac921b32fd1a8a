"""Training: from tomograms, targets and positions to weights.

In: a TOML file that names tomograms, label maps and particles. Out: weights with their provenance, a log, curves and
example patches, and a view of all that in a notebook.

::

    positions ──► patches ──► loader ──► network ──► Dice + cross-entropy ──► Adam ──► weights
                  one class   reads        ▲                                             │
                  as often    ahead        └── judged on patches, and by segmenting, ◄───┘
                  as another                   clustering and evaluating whole tomograms
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deepfinder_dask.training.settings import TrainSettings

if TYPE_CHECKING:
    from deepfinder_dask.training.config import Example, TrainingConfig, read_config
    from deepfinder_dask.training.losses import Loss, dice, dice_and_cross_entropy
    from deepfinder_dask.training.patches import Annotated, PatchSampler
    from deepfinder_dask.training.verb import describe_init, train
    from deepfinder_dask.training.watching.view import TrainingView, watch

_HOMES = {
    **dict.fromkeys(("describe_init", "train"), "verb"),
    **dict.fromkeys(("Example", "TrainingConfig", "read_config"), "config"),
    **dict.fromkeys(("Loss", "dice", "dice_and_cross_entropy"), "losses"),
    **dict.fromkeys(("Annotated", "PatchSampler"), "patches"),
    **dict.fromkeys(("TrainingView", "watch"), "watching.view"),
}

__all__ = [
    "Annotated",
    "Example",
    "Loss",
    "PatchSampler",
    "TrainSettings",
    "TrainingConfig",
    "TrainingView",
    "describe_init",
    "dice",
    "dice_and_cross_entropy",
    "read_config",
    "train",
    "watch",
]


def __getattr__(name: str) -> Any:
    """Load what needs torch only when asked for."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
