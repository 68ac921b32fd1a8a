"""Networks: the 3D U-Net, its weights files, and the voxels it needs for a block.

In: normalised grey values with a halo, and a weights file. Out: logits of a block's core, bit-identical to one pass
over the whole volume; the halo is derived from the network itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deepfinder_dask.networks.settings import ImportWeightsSettings

if TYPE_CHECKING:
    from deepfinder_dask.networks.devices import Precision, bf16_supported, machine_kind
    from deepfinder_dask.networks.inference import NUMERICS, Inference, inference_program, prepare
    from deepfinder_dask.networks.keras_weights import import_keras_weights
    from deepfinder_dask.networks.regions import derive_halo, needed_regions, padded_shape
    from deepfinder_dask.networks.unet import DIVISOR, UNet
    from deepfinder_dask.networks.weights import Weights, load_weights, resolve_weights, save_weights

_HOMES = {
    **dict.fromkeys(("Precision", "bf16_supported", "machine_kind"), "devices"),
    **dict.fromkeys(("NUMERICS", "Inference", "inference_program", "prepare"), "inference"),
    "import_keras_weights": "keras_weights",
    **dict.fromkeys(("derive_halo", "needed_regions", "padded_shape"), "regions"),
    **dict.fromkeys(("DIVISOR", "UNet"), "unet"),
    **dict.fromkeys(("Weights", "load_weights", "resolve_weights", "save_weights"), "weights"),
}

__all__ = [
    "DIVISOR",
    "NUMERICS",
    "ImportWeightsSettings",
    "Inference",
    "Precision",
    "UNet",
    "Weights",
    "bf16_supported",
    "derive_halo",
    "import_keras_weights",
    "inference_program",
    "load_weights",
    "machine_kind",
    "needed_regions",
    "padded_shape",
    "prepare",
    "resolve_weights",
    "save_weights",
]


def __getattr__(name: str) -> Any:
    """Load what needs torch only when asked for."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
