"""What a network is trained on and how, as read from a TOML file.

::

    steps = 450
    patch_size = 40                           # voxels
    batch = 4
    learning_rate = 1e-3
    held_out = ["demo"]                       # simulations that must stay unseen

    [[train]]
    tomogram = "train_1.zarr"                 # paths count from the folder of this file, or from --data
    target = "train_1_labels.zarr"
    particles = "train_1_particles.parquet"
    negatives = "ice_1.parquet"               # optional: places that are no particles, visited too
    mask = "inside_1.mrc"                     # optional: voxels that count for a robust normalisation
    annotated = ["ribosome"]                  # optional: classes annotated here; default as the target says, or all

    [[validation]]
    tomogram = "validation.zarr"
    ...
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from deepfinder_dask.execution.toml_files import KeyedError, find_toml, toml_tables

SHIPPED = Path(__file__).parent / "configs"
"""Folder of the configurations that come with the package."""

LossName = Literal["dice+cross-entropy", "dice", "cross-entropy", "tversky", "tversky+cross-entropy"]
"""What is minimised."""
CHOICES = {
    "loss": get_args(LossName),
    "precision": ("auto", "fp32", "bf16"),
    "normalisation": ("mean-std", "robust"),
    "decay": ("linear", "constant"),
    "clustering": ("components", "mean-shift"),
}
"""Keys that take one of a few words."""


@dataclass(frozen=True)
class Example:
    """A tomogram with its truth."""

    tomogram: str
    """Path of the tomogram, an OME-Zarr."""
    target: str
    """Path of its label map, a Zarr of the same shape; 255 is ignored."""
    particles: str
    """Path of its particles: where to look."""
    negatives: str | None = None
    """Path of positions that are no particles (ice, gold, carbon): patches are drawn around them too."""
    mask: str | None = None
    """Path of a mask of the tomogram: where it is not 0, voxels count for a robust normalisation, and when particles
    are found in a whole validation tomogram."""
    annotated: tuple[str, ...] | None = None
    """Classes that are annotated in this tomogram; others bring no loss here. By default as the target says, or all."""


@dataclass(frozen=True)
class TrainingConfig:
    """Everything a run depends on, but for the data themselves."""

    train: tuple[Example, ...]
    """Tomograms to learn from."""
    validation: tuple[Example, ...]
    """Tomograms to judge by; not learnt from."""
    steps: int = 500
    """Batches to learn from."""
    patch_size: int = 48
    """Edge of a patch in voxels, a multiple of 4; the paper: 56."""
    batch: int = 4
    """Patches of a step (of all processes together); the classes take turns. The paper: 25."""
    shift: int = 13
    """A particle lies up to this many voxels from the middle of its patch, on each axis."""
    background: bool = False
    """Whether places anywhere in the tomograms take turns with the classes; the paper only looks at positions."""
    hard_negatives: bool = False
    """Whether places of false positives in the training tomograms, sought at each check, take their turn."""
    loss: LossName = "dice+cross-entropy"
    """What is minimised; the paper: dice."""
    tversky: tuple[float, float] = (0.5, 0.5)
    """Weights of false positives and of false negatives in the Tversky loss; 0.5 and 0.5 make it Dice."""
    learning_rate: float = 1e-3
    """Of Adam at its highest; the paper: 1e-4, constant."""
    warm_up: int = 20
    """Steps over which the learning rate rises."""
    decay: Literal["linear", "constant"] = "linear"
    """Whether the learning rate falls linearly to 0 at the last step, or stays."""
    average: float = 0.0
    """Decay of a moving average of the weights, such as 0.99, which is then judged and kept in their place; 0: none."""
    augment_intensity: float = 0.0
    """Standard deviation of a random offset and of the logarithm of a random factor of a patch's grey values."""
    augment_amplitudes: float = 0.0
    """Standard deviation of the logarithm of a random smooth factor of a patch's Fourier amplitudes, by frequency."""
    normalisation: Literal["mean-std", "robust"] = "robust"
    """How grey values are normalised, here and wherever the weights are used: by mean and standard deviation of all
    voxels, or of those that are no padding, after clipping to the percentiles 1 and 99, so that gold does not count."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Numbers of the layers; auto is bf16 (mixed precision) where the hardware multiplies it, fp32 elsewhere."""
    seed: int = 0
    """Decides first weights and patches."""
    check_every: int = 25
    """Steps between two looks at the validation patches, and between checkpoints."""
    validation_patches: int = 12
    """Patches to judge by, always the same."""
    particles_every: int = 0
    """Steps, a multiple of check_every, between two counts of the particles found in the whole validation tomograms
    by segmenting and clustering them; their F1 then decides which weights are best. 0: none."""
    clustering: Literal["components", "mean-shift"] = "components"
    """How particles are clustered for that."""
    tolerance: str = "1r"
    """How far off a particle may be there, as in `deepfinder evaluate`."""
    patience: int = 0
    """Stop after this many checks (counts of particles, where these decide) without better weights; 0: never."""
    held_out: tuple[str, ...] = ()
    """Simulations (names or TOML files) whose seeds and imaging no tomogram here may have."""

    def __post_init__(self) -> None:
        need(bool(self.train), "train", "at least one [[train]] table", "none")
        need(bool(self.validation), "validation", "at least one [[validation]] table", "none")
        for key in ("steps", "batch", "warm_up", "check_every", "validation_patches"):
            need(getattr(self, key) >= 1, key, "1 or more", getattr(self, key))
        for key in ("shift", "seed", "patience", "particles_every", "augment_intensity", "augment_amplitudes"):
            need(getattr(self, key) >= 0, key, "0 or more", getattr(self, key))
        for key, words in CHOICES.items():
            need(getattr(self, key) in words, key, f"one of {', '.join(words)}", getattr(self, key))
        size = self.patch_size
        need(size >= 8 and size % 4 == 0, "patch_size", "a multiple of 4, 8 or more", size)
        need(self.learning_rate > 0, "learning_rate", "more than 0", self.learning_rate)
        need(0 <= self.average < 1, "average", "0 or more and less than 1", self.average)
        good = len(self.tversky) == 2 and min(self.tversky) >= 0 and sum(self.tversky) > 0
        need(good, "tversky", "two numbers, 0 or more, not both 0", list(self.tversky))
        every = self.particles_every
        need(every % self.check_every == 0, "particles_every", f"a multiple of check_every = {self.check_every}", every)


def find_config(source: str | Path) -> Path:
    """Path of a configuration: a TOML file, or the name of one that comes with the package (``demo``).

    Raises
    ------
    SettingsError
        If there is neither.
    """
    return find_toml(source, SHIPPED, "training")


def read_config(source: str | Path) -> TrainingConfig:
    """Read a configuration.

    Raises
    ------
    SettingsError
        If there is no such file, it is no TOML, or a key is missing, unknown or cannot work; key and line are named.
    """
    with toml_tables(find_config(source)) as tables:
        return config_of(tables)


def config_of(tables: Mapping[str, Any]) -> TrainingConfig:
    """Configuration from the tables of a TOML file; raises as `read_config`, without the line."""
    known = {f.name: str(f.type) for f in fields(TrainingConfig)}
    values: dict[str, Any] = {}
    for key, value in tables.items():
        need(key in known, key, f"a key among {_nearest(key, known)}", "an unknown key")
        values[key] = _value(key, known[key], value)
    for key in ("train", "validation"):
        need(key in values, key, f"at least one [[{key}]] table", "none")
    return TrainingConfig(**values)


def _value(key: str, kind: str, value: Any) -> Any:
    """A TOML value as the type of a field."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "bool":
        need(isinstance(value, bool), key, "true or false", value)
        return value
    if kind == "int":
        need(number and isinstance(value, int), key, "a whole number", value)
        return value
    if kind == "float":
        need(number, key, "a number", value)
        return float(value)
    if kind == "str" or kind.startswith("Literal") or kind == "LossName":
        need(isinstance(value, str), key, "a word in quotes", value)
        return value
    need(isinstance(value, list), key, "a list", value)
    if kind == "tuple[str, ...]":
        need(all(isinstance(v, str) for v in value), key, "a list of names", value)
        return tuple(value)
    if kind == "tuple[float, float]":
        need(all(isinstance(v, int | float) for v in value), key, "a list of two numbers", value)
        return tuple(float(v) for v in value)
    return tuple(_example(key, number, table) for number, table in enumerate(value))


def _example(where: str, number: int, table: Any) -> Example:
    """One [[train]] or [[validation]] table."""
    known = {f.name: f.default is MISSING for f in fields(Example)}
    required = [name for name, needed in known.items() if needed]
    need(isinstance(table, dict), where, f"tables with the paths {', '.join(required)}", table)
    for key, value in table.items():
        if key not in known:
            raise KeyedError(
                f"{key} must be a key among {_nearest(key, known)} in [[{where}]], got an unknown key",
                key,
                where,
                number,
            )
        if key == "annotated":
            good = isinstance(value, list) and all(isinstance(v, str) for v in value)
        else:
            good = isinstance(value, str)
        if not good:
            wanted = "a list of class names" if key == "annotated" else "a path in quotes"
            raise KeyedError(f"{key} in [[{where}]] must be {wanted}, got {value!r}", key, where, number)
    missing = [name for name in required if name not in table]
    if missing:
        raise KeyedError(
            f"{where} must be tables with the paths {', '.join(required)}; table {number + 1} has no {missing[0]}",
            "",
            where,
            number,
        )
    values: dict[str, Any] = {k: tuple(v) if k == "annotated" else v for k, v in table.items()}
    return Example(**values)


def need(ok: bool, key: str, wanted: str, got: object) -> None:
    """Raise a `SettingsError` that names the key unless ``ok``."""
    if not ok:
        raise KeyedError(f"{key} must be {wanted}, got {got!r}", key)


def _nearest(key: str, known: Mapping[str, Any]) -> str:
    """The known keys, with the one that was meant if it is plain."""
    near = difflib.get_close_matches(key, known, n=1)
    return f"{sorted(known)}" + (f" (did you mean {near[0]!r}?)" if near else "")
