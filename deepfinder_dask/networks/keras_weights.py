"""Weights of the original DeepFinder, saved by Keras as HDF5, turned into ours.

The original fills the axes of a volume into Keras' three spatial axes in the order z, y, x, so kernels are
(z, y, x, in, out) and become (out, in, z, y, x).
"""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from deepfinder_dask.errors import OutputExistsError, WeightsError
from deepfinder_dask.networks.settings import ImportWeightsSettings
from deepfinder_dask.networks.unet import Conv, deepfinder_program
from deepfinder_dask.networks.weights import Weights, save_weights
from deepfinder_dask.particles import placeholder_classes, read_classes
from deepfinder_dask.particles.files import existing_file, refuse_existing
from deepfinder_dask.tomograms import Imaging


def import_keras_weights(
    source: str | Path, output: str | Path | None = None, settings: ImportWeightsSettings | None = None
) -> Weights:
    """Turn weights of the original DeepFinder into ours.

    Parameters
    ----------
    source : str or path
        The original's ``.h5`` weights.
    output : str or path, optional
        Where to write them, ``.safetensors``.
    settings : ImportWeightsSettings, optional
        Classes, voxel size and imaging, which the original's file does not hold.

    Returns
    -------
    Weights
        The weights, as written.

    Raises
    ------
    InputError
        If there is no such file.
    WeightsError
        If it is not HDF5, or holds another network, or the classes are not as many as the network's.
    OutputExistsError
        If the output exists and may not be overwritten.
    """
    settings = settings or ImportWeightsSettings()
    source = existing_file(source, "Keras weights (.h5)")
    if output is not None:
        output = Path(output)
        if output.is_dir():
            raise OutputExistsError(f"{output} is a folder: give the name of a .safetensors file")
        refuse_existing([output], settings.overwrite)
    state, labels = _read_state(source)
    classes = placeholder_classes(range(1, labels))
    if settings.classes is not None:
        classes = tuple(c for c in read_classes(settings.classes) if c.label != 0)
        if len(classes) != labels - 1:
            raise WeightsError(
                f"{settings.classes} names {len(classes)} classes, but the network in {source} has {labels - 1} "
                "beside the background"
            )
    weights = Weights(
        state=state,
        classes=classes,
        voxel_size=settings.voxel_size,
        imaging=Imaging(contrast=settings.contrast, tilt_axis=settings.tilt_axis),
        provenance={"imported": {"file": source.name, "format": "Keras weights of the original DeepFinder"}},
    )
    if output is not None:
        save_weights(weights, output)
    return weights


def _read_state(source: Path) -> tuple[dict[str, Tensor], int]:
    """Our parameters from a Keras file, and the number of classes with the background."""
    try:
        with h5py.File(source, "r") as stream:
            found: dict[str, np.ndarray] = {}

            def visit(name: str, node: object) -> None:
                if isinstance(node, h5py.Dataset) and _leaf(name) in ("kernel", "bias"):
                    found[name] = node[()]

            stream.get("model_weights", stream).visititems(visit)
    except OSError as error:
        raise WeightsError(f"{source}: expected Keras weights in HDF5, found a damaged or other file") from error
    kernels, biases = ({_layer(n): v for n, v in found.items() if _leaf(n) == leaf} for leaf in ("kernel", "bias"))
    order = sorted(kernels, key=_number)
    classes = int(kernels[order[-1]].shape[-1]) if order and kernels[order[-1]].ndim == 5 else 0
    convs = {n: s for n, s in deepfinder_program(max(classes, 1)).items() if isinstance(s, Conv)}
    if len(order) != len(convs):
        raise WeightsError(
            f"{source}: weights of another architecture: expected {len(convs)} convolutions, found {len(order)}"
        )
    state: dict[str, Tensor] = {}
    for layer, (name, step) in zip(order, convs.items(), strict=True):
        kernel, bias = kernels[layer], biases.get(layer)
        shape = (step.kernel,) * 3 + (step.channels_in, step.channels_out)
        if kernel.shape != shape or bias is None or bias.shape != (step.channels_out,):
            raise WeightsError(
                f"{source}: weights of another architecture: layer {layer!r} should have a kernel of {shape} with its "
                f"bias, found {kernel.shape}{' without one' if bias is None else ''}"
            )
        state[f"convs.{name}.weight"] = torch.from_numpy(
            np.ascontiguousarray(kernel.transpose(4, 3, 0, 1, 2), np.float32)
        )
        state[f"convs.{name}.bias"] = torch.from_numpy(np.ascontiguousarray(bias, np.float32))
    return state, classes


def _leaf(name: str) -> str:
    return name.rsplit("/", 1)[-1].split(":")[0]


def _layer(name: str) -> str:
    return name.split("/", 1)[0]


def _number(layer: str) -> int:
    """Place of a layer: Keras counts them up in one session, the first has no number."""
    match = re.search(r"_(\d+)$", layer)
    return int(match.group(1)) if match else 0
