"""Training that starts from other weights: layers are taken over, and the outputs of classes of the same name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from deepfinder_dask.errors import SettingsError, VoxelSizeError
from deepfinder_dask.networks import Weights
from deepfinder_dask.networks.unet import UNet
from deepfinder_dask.training.data import TOLERANCE, TrainingData

HEAD = "classify"
"""The step of the network that gives a channel to each class."""


@dataclass(frozen=True)
class TakenOver:
    """What a network took over from other weights."""

    sha256: str
    """Which weights."""
    kept: tuple[str, ...]
    """Classes that have their output from there."""
    new: tuple[str, ...]
    """Classes whose output starts anew."""
    dropped: tuple[str, ...]
    """Classes of those weights that are none any more."""
    normalisations: tuple[str, str] = ("mean-std", "mean-std")
    """How grey values were normalised for those weights, and are now."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "sha256": self.sha256,
            "kept": list(self.kept),
            "new": list(self.new),
            "dropped": list(self.dropped),
            "normalisations": list(self.normalisations),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TakenOver:
        """The inverse of :meth:`to_dict`."""
        kept, new, dropped = (tuple(values[key]) for key in ("kept", "new", "dropped"))
        before, now = values.get("normalisations", ("mean-std", "mean-std"))
        return cls(str(values["sha256"]), kept, new, dropped, (str(before), str(now)))

    def words(self) -> str:
        """What was taken over, for people."""
        parts = [f"all layers below the classes, and classes {', '.join(self.kept) or 'none'}"]
        parts += [f"new: {', '.join(self.new)}"] if self.new else []
        parts += [f"dropped: {', '.join(self.dropped)}"] if self.dropped else []
        before, now = self.normalisations
        parts += [f"they were trained with normalisation {before}, now it is {now}"] if before != now else []
        return "; ".join(parts)


def take_over(network: UNet, weights: Weights, data: TrainingData) -> TakenOver:
    """Bring a fresh network to other weights, as far as their classes go.

    Classes are the same if their names are, whatever their labels. All other layers are taken over as they are.

    Parameters
    ----------
    network : UNet
        Changed in place.
    weights : Weights
        Where to start from.
    data : TrainingData
        What is trained on now.

    Raises
    ------
    VoxelSizeError, SettingsError
        If the weights were trained at another voxel size, or on tomograms of other contrast or axes.
    """
    if abs(weights.voxel_size / data.voxel_size - 1) > TOLERANCE:
        raise VoxelSizeError(
            f"the weights to start from were trained at {weights.voxel_size:g} Å, the tomograms have "
            f"{data.voxel_size:g} Å: resample the tomograms, or use other weights"
        )
    if weights.imaging != data.imaging:
        raise SettingsError(
            f"the weights to start from were trained on tomograms with {weights.imaging}, these have {data.imaging}: "
            "convert them again, or use other weights"
        )
    theirs = {c.name: c.label for c in weights.classes}
    pairs = {0: 0, **{c.label: theirs[c.name] for c in data.classes if c.name in theirs}}
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            source = weights.state[name]
            if f".{HEAD}." not in name:
                parameter.copy_(source)
                continue
            for label, other in pairs.items():
                parameter[label].copy_(source[other])
    mine = [c.name for c in data.classes]
    return TakenOver(
        weights.sha256,
        tuple(name for name in mine if name in theirs),
        tuple(name for name in mine if name not in theirs),
        tuple(name for name in theirs if name not in mine),
        (weights.normalisation.name, data.normalisation.name),
    )
