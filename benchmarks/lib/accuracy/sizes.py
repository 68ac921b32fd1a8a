"""Three sizes of the same experiments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

SCENES = Path(__file__).resolve().parents[2] / "scenes"

KILODALTONS: Mapping[str, float] = MappingProxyType(
    {
        "3qm1": 31,
        "1s3x": 43,
        "3h84": 79,
        "3gl1": 85,
        "2cg9": 189,
        "3d2f": 236,
        "1u6g": 239,
        "3cf3": 266,
        "1bxn": 284,
        "1qvr": 302,
        "4cr2": 1309,
        "5mrc": 3325,
    }
)
"""Mass of what the density maps hold, judged by their density; several maps are half of an assembly."""

PUBLISHED: Mapping[str, float] = MappingProxyType(
    {
        "1s3x": 0.610,
        "3qm1": 0.729,
        "3gl1": 0.800,
        "3h84": 0.911,
        "2cg9": 0.783,
        "3d2f": 0.848,
        "1u6g": 0.866,
        "3cf3": 0.939,
        "1bxn": 1.000,
        "1qvr": 0.984,
        "4cr2": 0.993,
    }
)
"""F1 of DeepFinder in SHREC'20 by species: other tomograms than ours."""


@dataclass(frozen=True)
class Size:
    """How large the experiments are."""

    scene: str
    """Scenes are ``scenes/accuracy_<scene>_training.toml`` and ``…_test.toml``."""
    train: tuple[str, ...]
    """Tomograms to learn from."""
    validation: str
    """Tomogram that the best weights and the thresholds are chosen on."""
    test: tuple[str, ...]
    """Tomograms to judge on."""
    training: Mapping[str, Any]
    """Keys of the training's configuration."""
    amounts: tuple[int, ...]
    """Training particles of each class, for the study of their number."""
    needs_maps: bool = True
    """Whether the species are density maps in the folder DEEPFINDER_DATA."""

    def scenes(self, part: str) -> Path:
        """Path of the scenes ``training`` or ``test``."""
        return SCENES / f"accuracy_{self.scene}_{part}.toml"


SIZES: Mapping[str, Size] = MappingProxyType(
    {
        "tiny": Size(
            scene="tiny",
            train=("train_1",),
            validation="validation",
            test=("test",),
            training={"steps": 4, "patch_size": 24, "batch": 2, "shift": 4, "check_every": 2, "validation_patches": 2},
            amounts=(2,),
            needs_maps=False,
        ),
        "cpu": Size(
            scene="cpu",
            train=("train_1", "train_2", "train_3", "train_4"),
            validation="validation",
            test=("test", "test_noisy"),
            training={
                "normalisation": "mean-std",
                "steps": 700,
                "patch_size": 48,
                "batch": 4,
                "shift": 13,
                "learning_rate": 1.5e-3,
                "warm_up": 40,
                "seed": 1,
                "check_every": 50,
                "validation_patches": 12,
            },
            amounts=(10, 30, 100),
        ),
        "full": Size(
            scene="full",
            train=tuple(f"train_{number}" for number in range(1, 9)),
            validation="validation",
            test=("test", "test_noisy"),
            training={  # the paper's
                "steps": 10000,
                "patch_size": 56,
                "batch": 25,
                "shift": 13,
                "loss": "dice",
                "learning_rate": 1e-4,
                "warm_up": 1,
                "decay": "constant",
                "seed": 1,
                "check_every": 250,
                "validation_patches": 50,
            },
            amounts=(25, 50, 100, 200, 400),
        ),
    }
)
