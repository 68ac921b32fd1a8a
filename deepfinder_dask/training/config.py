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

    [[validation]]
    tomogram = "validation.zarr"
    ...
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from deepfinder_dask.errors import SettingsError

SHIPPED = Path(__file__).parent / "configs"
"""Folder of the configurations that come with the package."""


@dataclass(frozen=True)
class Example:
    """A tomogram with its truth."""

    tomogram: str
    """Path of the tomogram, an OME-Zarr."""
    target: str
    """Path of its label map, a Zarr of the same shape; 255 is ignored."""
    particles: str
    """Path of its particles: where to look."""


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
    """Edge of a patch in voxels, a multiple of 4."""
    batch: int = 4
    """Patches of a step; the classes and the background take turns."""
    shift: int = 13
    """A particle lies up to this many voxels from the middle of its patch, on each axis."""
    learning_rate: float = 1e-3
    """Of Adam at its highest; falls linearly to 0 at the last step."""
    warm_up: int = 20
    """Steps over which the learning rate rises."""
    seed: int = 0
    """Decides first weights and patches."""
    check_every: int = 25
    """Steps between two looks at the validation patches, and between checkpoints."""
    validation_patches: int = 12
    """Patches to judge by, always the same."""
    held_out: tuple[str, ...] = ()
    """Simulations (names or TOML files) whose seeds and imaging no tomogram here may have."""

    def __post_init__(self) -> None:
        _need(bool(self.train), "train", "at least one [[train]] table", "none")
        _need(bool(self.validation), "validation", "at least one [[validation]] table", "none")
        for key in ("steps", "batch", "warm_up", "check_every", "validation_patches"):
            _need(getattr(self, key) >= 1, key, "1 or more", getattr(self, key))
        for key in ("shift", "seed"):
            _need(getattr(self, key) >= 0, key, "0 or more", getattr(self, key))
        _need(
            self.patch_size >= 8 and self.patch_size % 4 == 0,
            "patch_size",
            "a multiple of 4, 8 or more",
            self.patch_size,
        )
        _need(self.learning_rate > 0, "learning_rate", "more than 0", self.learning_rate)


def find_config(source: str | Path) -> Path:
    """Path of a configuration: a TOML file, or the name of one that comes with the package (``demo``).

    Raises
    ------
    SettingsError
        If there is neither.
    """
    path, shipped = Path(source), SHIPPED / f"{source}.toml"
    if path.is_file():
        return path
    if shipped.is_file():
        return shipped
    names = ", ".join(sorted(p.stem for p in SHIPPED.glob("*.toml")))
    raise SettingsError(f"no training file {str(source)!r}; give a TOML file or one of: {names}")


def read_config(source: str | Path) -> TrainingConfig:
    """Read a configuration.

    Raises
    ------
    SettingsError
        If there is no such file, it is no TOML, or a key is missing, unknown or cannot work; the key is named.
    """
    path = find_config(source)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path.name} is no valid TOML: {error}") from error
    return config_of(tables)


def config_of(tables: Mapping[str, Any]) -> TrainingConfig:
    """Configuration from the tables of a TOML file; raises as `read_config`."""
    known = {f.name: str(f.type) for f in fields(TrainingConfig)}
    values: dict[str, Any] = {}
    for key, value in tables.items():
        _need(key in known, key, f"a key among {sorted(known)}", "an unknown key")
        values[key] = _value(key, known[key], value)
    for key in ("train", "validation"):
        _need(key in values, key, f"at least one [[{key}]] table", "none")
    return TrainingConfig(**values)


def _value(key: str, kind: str, value: Any) -> Any:
    """A TOML value as the type of a field."""
    if kind == "int":
        _need(isinstance(value, int) and not isinstance(value, bool), key, "a whole number", value)
        return value
    if kind == "float":
        _need(isinstance(value, int | float) and not isinstance(value, bool), key, "a number", value)
        return float(value)
    _need(isinstance(value, list), key, "a list", value)
    if kind == "tuple[str, ...]":
        _need(all(isinstance(v, str) for v in value), key, "a list of names", value)
        return tuple(value)
    wanted = [f.name for f in fields(Example)]
    for table in value:
        ok = isinstance(table, dict) and set(table) == set(wanted) and all(isinstance(v, str) for v in table.values())
        _need(ok, key, f"tables with the paths {', '.join(wanted)}", table)
    return tuple(Example(**table) for table in value)


def _need(ok: bool, key: str, wanted: str, got: object) -> None:
    """Raise a `SettingsError` that names the key unless ``ok``."""
    if not ok:
        raise SettingsError(f"{key} must be {wanted}, got {got!r}")
