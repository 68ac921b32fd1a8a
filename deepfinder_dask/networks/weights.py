"""Weights files: safetensors whose metadata say what the network is, what it finds, and in what tomograms.

Format: https://github.com/huggingface/safetensors; one metadata entry, ``deepfinder``, holds JSON.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepfinder_dask.errors import SettingsError, WeightsError
from deepfinder_dask.networks.unet import UNet
from deepfinder_dask.particles import ParticleClass, check_classes
from deepfinder_dask.particles.cards import card, classes_line
from deepfinder_dask.particles.files import atomic_write, existing_file
from deepfinder_dask.tomograms import Imaging, Normalisation

ARCHITECTURE = "deepfinder-unet"
"""Name of the one architecture there is: the U-Net of the paper."""
PRETRAINED = Path(__file__).with_name("pretrained")
"""Folder of the weights that come with the package."""


@dataclass(frozen=True)
class Weights:
    """A trained network and what belongs to it."""

    state: Mapping[str, Tensor]
    """Parameters by name, float32, as ``UNet.state_dict()`` gives them."""
    classes: tuple[ParticleClass, ...]
    """Classes found, labels 1, 2, … without gaps; the background is not listed."""
    voxel_size: float
    """Å per voxel of the tomograms it was trained on, equal on all axes."""
    normalisation: Normalisation = field(default_factory=Normalisation)
    """How grey values are normalised before the network."""
    imaging: Imaging = field(default_factory=Imaging)
    """Contrast and axes of the tomograms it was trained on."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Where the weights come from: training data, settings, versions; JSON values."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", check_classes(self.classes))
        labels = [c.label for c in self.classes]
        if labels != list(range(1, len(labels) + 1)):
            raise WeightsError(f"expected classes with labels 1, 2, … without gaps, got {labels}")
        if not self.voxel_size > 0:
            raise WeightsError(f"expected a voxel size above 0 Å, got {self.voxel_size}")
        wanted = {name: tuple(p.shape) for name, p in _blank(len(labels) + 1).items()}
        found = {name: tuple(p.shape) for name, p in self.state.items()}
        for name in [*wanted, *found]:
            if wanted.get(name) != found.get(name):
                raise WeightsError(
                    f"weights of another architecture: {ARCHITECTURE} with {len(labels) + 1} classes (background "
                    f"included) has {wanted.get(name, 'no')} for {name!r}, found {found.get(name, 'none')}"
                )
        for name, values in self.state.items():
            if values.dtype != torch.float32:
                raise WeightsError(f"expected float32 weights, found {values.dtype} in {name!r}: convert them first")
            if not torch.isfinite(values).all():
                raise WeightsError(f"the weights hold values that are not finite, in {name!r}: train them again")

    @cached_property
    def sha256(self) -> str:
        """Hash of the parameters and of how they are applied: two networks with one hash give the same output."""
        normalisation = self.normalisation.to_dict() if self.normalisation.robust else "meanstd"  # as ever
        digest = hashlib.sha256(json.dumps([ARCHITECTURE, normalisation]).encode())
        for name in sorted(self.state):
            digest.update(name.encode())
            digest.update(self.state[name].contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _repr_html_(self) -> str:
        scores = self.provenance.get("validation") or {}
        facts = [
            ("finds", classes_line(self.classes)),
            ("voxel size", f"{self.voxel_size:g} Å"),
            ("particles are", self.imaging.contrast),
            ("tilt axis", self.imaging.tilt_axis),
            ("normalisation", self.normalisation),
            ("parameters", f"{sum(values.numel() for values in self.state.values()):,}"),
            ("made by", self.provenance.get("program")),
            ("steps", self.provenance.get("steps_taken")),
            ("F1, validation", scores.get("particles_f1", scores.get("f1"))),
            ("sha256", f"{self.sha256[:12]}…"),
        ]
        return card("Weights", facts)

    def build(self) -> UNet:
        """The network with these weights, ready for inference on the CPU."""
        network = UNet(len(self.classes) + 1)
        network.load_state_dict(dict(self.state))
        return network.eval().requires_grad_(False)

    def with_classes(self, classes: tuple[ParticleClass, ...]) -> Weights:
        """The same network with other names, radii and sizes for its labels.

        Raises
        ------
        WeightsError
            If the labels are not those of the network.
        """
        if sorted(c.label for c in classes) != [c.label for c in self.classes]:
            raise WeightsError(
                f"the network has labels 1 to {len(self.classes)}, got classes with {sorted(c.label for c in classes)}"
            )
        return replace(self, classes=classes)


def resolve_weights(path: str | Path) -> Path:
    """Path of a weights file, or of weights that come with the package, by name.

    Parameters
    ----------
    path : str or path
        A file, or a name such as ``demo``.

    Raises
    ------
    InputError
        If there is neither.
    """
    path = Path(path)
    shipped = PRETRAINED / f"{path.name}.safetensors"
    if not path.is_file() and len(path.parts) == 1 and shipped.is_file():
        return shipped
    return existing_file(path, "a weights file (.safetensors)")


def load_weights(path: str | Path) -> Weights:
    """Read weights.

    Parameters
    ----------
    path : str or path
        A ``.safetensors`` file, or the name of weights that come with the package (``demo``).

    Returns
    -------
    Weights
        Parameters, classes, voxel size (Å), normalisation, imaging and provenance.

    Raises
    ------
    InputError
        If there is no such file.
    WeightsError
        If it is damaged, or not of our architecture.
    """
    from safetensors import SafetensorError, safe_open

    path = resolve_weights(path)
    if path.suffix.lower() in (".h5", ".hdf5", ".keras"):
        raise WeightsError(f"{path}: Keras weights; turn them into ours with `deepfinder weights import {path}`")
    try:
        with safe_open(path, framework="pt", device="cpu") as stream:
            metadata = stream.metadata() or {}
            state = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118  # no mapping
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: expected safetensors, found a damaged or other file ({error})") from error
    try:
        facts = json.loads(metadata["deepfinder"])
        architecture = facts["architecture"]["name"]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise WeightsError(
            f"{path}: safetensors without the metadata of deepfinder_dask: not one of our networks"
        ) from error
    if architecture != ARCHITECTURE:
        raise WeightsError(
            f"{path}: weights of another architecture: expected {ARCHITECTURE!r}, found {architecture!r}"
        )
    try:
        return Weights(
            state=state,
            classes=tuple(ParticleClass.from_dict(c) for c in facts["classes"]),
            voxel_size=float(facts["voxel_size"]),
            normalisation=Normalisation.from_value(facts.get("normalisation", "mean-std")),
            imaging=Imaging.from_dict(facts["imaging"]),
            provenance=facts.get("provenance", {}),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: incomplete metadata ({error})") from error
    except (WeightsError, SettingsError) as error:
        raise WeightsError(f"{path}: {error}") from error


def save_weights(weights: Weights, path: str | Path) -> None:
    """Write weights, whole or not at all.

    Parameters
    ----------
    weights : Weights
        What to write.
    path : str or path
        A ``.safetensors`` file; an older one is replaced.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    from safetensors.torch import save

    facts = {
        "architecture": {"name": ARCHITECTURE, "classes": len(weights.classes) + 1},
        "classes": [c.to_dict() for c in weights.classes],
        "voxel_size": weights.voxel_size,
        "normalisation": weights.normalisation.to_dict(),
        "imaging": weights.imaging.to_dict(),
        "provenance": dict(weights.provenance),
    }
    state = {name: values.detach().to("cpu", torch.float32).contiguous() for name, values in weights.state.items()}
    content = save(state, metadata={"deepfinder": json.dumps(facts, sort_keys=True)})
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


@lru_cache(maxsize=16)
def _blank(classes: int) -> dict[str, Tensor]:
    with torch.device("meta"):
        return dict(UNet(classes).state_dict())
