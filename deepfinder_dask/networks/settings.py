"""Settings of ``deepfinder weights import``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class ImportWeightsSettings:
    """What a file of the original DeepFinder does not say about its network."""

    classes: Path | None = None
    """TOML file with the classes (name, label, radius in Å, …); without one they are called class_1, class_2, …"""
    voxel_size: float = 10.0
    """Å per voxel of the tomograms the network was trained on."""
    contrast: Literal["dark", "bright"] = "dark"
    """Grey value of particles against their surroundings in those tomograms."""
    tilt_axis: Literal["x", "y", "z"] = "y"
    """Their tilt axis."""
    overwrite: bool = False
    """Replace the output if it exists."""
