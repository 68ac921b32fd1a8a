"""Settings of evaluation: one dataclass for the function, the command and campaigns.

Light on purpose: nothing here imports more than the standard library.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

from deepfinder_dask.errors import SettingsError

_PATTERN = re.compile(r"(\d+\.?\d*|\.\d+) ?(r|A|Å|vox)")


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a found position may be from a true one to count as the same particle; the limit itself counts."""

    amount: float
    """Number of units."""
    unit: Literal["r", "A", "vox", "box"]
    """``r``: radii of the true particle's class; ``A``: Å; ``vox``: voxels of the tomogram, each axis by its own voxel
    size; ``box``: within the bounding box of a ball of the class's radius, on every axis (the largest of the three
    distances, in Å)."""

    @classmethod
    def parse(cls, text: str) -> Tolerance:
        """Tolerance from ``1r``, ``0.5r``, ``40A``, ``3vox`` or ``box``.

        Raises
        ------
        SettingsError
            The text is none of these, or not above 0.
        """
        if text.strip() == "box":
            return cls(1.0, "box")
        found = _PATTERN.fullmatch(text.strip())
        if found is None or not float(found[1]) > 0:
            raise SettingsError(f"a tolerance is written like 0.5r, 40A, 3vox or box, and is above 0; got {text!r}")
        unit: Literal["r", "A", "vox"] = "r" if found[2] == "r" else "vox" if found[2] == "vox" else "A"
        return cls(float(found[1]), unit)

    @property
    def by_radius(self) -> bool:
        """Whether it needs the radius of each class."""
        return self.unit in ("r", "box")


@dataclass(frozen=True, slots=True)
class EvaluateSettings:
    """How found particles are compared with true ones."""

    tolerance: str = "1r"
    """How far off a hit may be: 0.5r (class radii), 40A, 3vox, or box (within the radius on each axis)."""
    truth_volume: str | None = None
    """Volume of particle numbers (1 is the first true particle of the tomogram), or 'truth/{tomogram}_instances.zarr':
    a found position hits the particle whose voxel it lies on, as in the SHREC contests, instead of the tolerance."""
    mask: str | None = None
    """Volume of the tomogram's shape, or 'masks/{tomogram}.mrc': only particles where it is not 0 count, and where it
    numbers several regions, figures of each are given. A pair with one inside and one outside is left out."""
    border: float | None = None
    """Å at all faces of the tomogram where particles do not count, in the same way."""
    classes: str | None = None
    """TOML file of classes, for radii and names that the particle files do not hold."""
    beta: float = 1.0
    """Weight of recall against precision in F-beta; 1 is F1."""
    czii: bool = False
    """Also give the score of the CZII challenge: F4 of each class within half its radius, weighted."""
    class_weights: tuple[str, ...] = ()
    """Weights of classes in the CZII score, NAME=WEIGHT; 1 where not given."""
    bootstrap: int = 1000
    """Samples drawn for confidence intervals; 0 for none."""
    resample: Literal["auto", "tomograms", "particles"] = "auto"
    """What these samples draw: tomograms (auto where there are several), or particles."""
    confidence: float = 0.95
    """Confidence of the intervals."""
    seed: int = 0
    """Seed of the samples."""
    voxel_size: float | tuple[float, float, float] | None = None
    """Å per voxel, one number or z, y, x, for files that count in voxels; else taken from the other file."""
    shape: tuple[int, int, int] | None = None
    """Shape of the tomograms in voxels, z, y, x, for files that count from the centre; else from the other file."""

    def __post_init__(self) -> None:
        Tolerance.parse(self.tolerance)
        given: Any = self.class_weights  # one text may stand for a tuple of one
        object.__setattr__(self, "class_weights", (given,) if isinstance(given, str) else tuple(given))
        if not (isfinite(self.beta) and self.beta > 0):
            raise SettingsError(f"beta is a number above 0, got {self.beta}")
        if not 0 < self.confidence < 1:
            raise SettingsError(f"confidence lies between 0 and 1, as in 0.95; got {self.confidence}")
        for name, value in (("bootstrap", self.bootstrap), ("seed", self.seed)):
            if value < 0:
                raise SettingsError(f"{name} is a whole number from 0, got {value}")
        if self.resample not in ("auto", "tomograms", "particles"):
            raise SettingsError(f"resample is auto, tomograms or particles, got {self.resample!r}")
        self.weights()

    def weights(self) -> dict[str, float]:
        """Weights of classes by name, as given.

        Raises
        ------
        SettingsError
            One is not written NAME=WEIGHT, or is below 0.
        """
        result = {}
        for text in self.class_weights:
            name, _, number = text.rpartition("=")
            try:
                result[name] = float(number)
            except ValueError:
                result[name] = -1.0
            if not name or not (isfinite(result[name]) and result[name] >= 0):
                raise SettingsError(f"a class weight is written NAME=WEIGHT, with a weight from 0; got {text!r}")
        return result


@dataclass(frozen=True, slots=True)
class TuneSettings:
    """How thresholds of size and score are chosen on annotated tomograms."""

    tolerance: str = "1r"
    """How far off a hit may be: 0.5r (class radii), 40A, 3vox, or box (within the radius on each axis)."""
    beta: float = 1.0
    """What is made largest: F-beta, which is F1 for 1 and weighs recall beta times as much as precision."""
    joint: bool = False
    """Choose size and score together, too; classes.toml has the sizes that are best alone."""
    held_out: tuple[str, ...] = ()
    """Tomograms to judge on, and not to tune on; by default each in turn is judged with what the others choose."""
    classes: str | None = None
    """TOML file of classes, for radii and names that the particle files do not hold; structures in it are kept."""
    voxel_size: float | tuple[float, float, float] | None = None
    """Å per voxel, one number or z, y, x, for files that count in voxels; else taken from the other file."""
    shape: tuple[int, int, int] | None = None
    """Shape of the tomograms in voxels, z, y, x, for files that count from the centre; else from the other file."""
    overwrite: bool = False
    """Replace files that are in the output folder."""

    def __post_init__(self) -> None:
        Tolerance.parse(self.tolerance)
        if isinstance(self.beta, bool) or not isinstance(self.beta, int | float) or not 0 < self.beta < float("inf"):
            raise SettingsError(f"beta is a number above 0, got {self.beta!r}")
        object.__setattr__(self, "held_out", _several(self.held_out))


@dataclass(frozen=True, slots=True)
class ConsensusSettings:
    """How sets of particles, from several methods or annotators, are brought together."""

    tolerance: str = "1r"
    """How far apart one particle may be in two sets: 0.5r (class radii), 40A, 3vox, or box (radius on each axis)."""
    class_blind: bool = False
    """Join particles whatever their classes, and vote on the class; radii are then the smallest of all classes."""
    position: Literal["mean", "best"] = "mean"
    """Where a particle of several sets is: the mean of its positions, or that of the best score."""
    names: tuple[str, ...] = ()
    """Names of the sets, in order; by default those of the files."""
    classes: str | None = None
    """TOML file of classes, for radii and names that the particle files do not hold."""
    voxel_size: float | tuple[float, float, float] | None = None
    """Å per voxel, one number or z, y, x, for files that count in voxels; else taken from the other files."""
    shape: tuple[int, int, int] | None = None
    """Shape of the tomograms in voxels, z, y, x, for files that count from the centre; else from the other files."""
    overwrite: bool = False
    """Replace files that are in the output folder."""

    def __post_init__(self) -> None:
        Tolerance.parse(self.tolerance)
        if self.position not in ("mean", "best"):
            raise SettingsError(f"expected position mean or best, got {self.position!r}")
        object.__setattr__(self, "names", _several(self.names))


def _several(names: Any) -> tuple[str, ...]:
    """Let one text stand for a tuple of one."""
    return (names,) if isinstance(names, str) else tuple(names)
