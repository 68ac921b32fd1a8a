"""Settings of annotating: one dataclass for the function and the command.

Light on purpose: nothing here imports more than the standard library.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from deepfinder_dask.errors import SettingsError

MOST_SLICES = 64
"""Most slices that one picture is the mean of."""


@dataclass(frozen=True, slots=True)
class Smoothing:
    """How thick a displayed slice is: the mean over it hides noise."""

    amount: float
    """Number of slices, or Å."""
    unit: Literal["slices", "A"]
    """What the amount counts."""

    @classmethod
    def parse(cls, value: float | str) -> Smoothing:
        """Smoothing from ``5`` (slices) or ``60A`` (Å).

        Raises
        ------
        SettingsError
            It is neither, or out of range.
        """
        found = re.fullmatch(r"(\d+\.?\d*|\.\d+) ?(A|Å|slices|)", str(value).strip())
        in_angstrom = found is not None and found[2] in ("A", "Å")
        amount = float(found[1]) if found else 0.0
        if not (amount > 0 if in_angstrom else amount.is_integer() and 1 <= amount <= MOST_SLICES):
            raise SettingsError(
                f"smooth is a number of slices from 1 to {MOST_SLICES}, or a thickness such as 60A, got {value!r}"
            )
        return cls(amount, "A" if in_angstrom else "slices")

    def slices(self, voxel_size: float) -> int:
        """Number of slices along an axis with this voxel size (Å), 1 at least."""
        wished = self.amount if self.unit == "slices" else self.amount / voxel_size
        return min(MOST_SLICES, max(1, round(wished)))


@dataclass(frozen=True, slots=True)
class AnnotateSettings:
    """What is annotated with, and how it is shown.

    Raises
    ------
    SettingsError
        A field has a value that cannot work.
    """

    classes: str | None = None
    """TOML file of classes; by default those of the particles to start from, or of the output when it is reopened."""
    found: str | None = None
    """Particles to start from, such as what a network found, in any format: accept or reject them one by one."""
    negatives: str | None = None
    """Also write the rejected particles, to this .parquet: positions that training takes as negatives."""
    reviewed_only: bool = False
    """Leave particles out of the output that nobody has accepted, moved or added by hand."""
    smooth: str | float = "1"
    """Thickness of the displayed slices, as a number of slices or in Å (60A): the mean over it hides noise."""
    name: str | None = None
    """Name of the tomogram in the table; by default that of the particles to start from, or of the store."""
    voxel_size: float | tuple[float, float, float] | None = None
    """Å per voxel, one number or z, y, x, where the store does not say."""
    port: int = 0
    """Port of the page on 127.0.0.1; 0 takes a free one."""
    open: bool = True
    """Open the page in the browser."""

    def __post_init__(self) -> None:
        Smoothing.parse(self.smooth)
        if self.name is not None and not (self.name.strip() and self.name.isprintable()):
            raise SettingsError(f"a tomogram needs a printable name, got {self.name!r}")
        if not 0 <= self.port < 65536:
            raise SettingsError(f"port is a number from 0 to 65535, got {self.port}")
        if self.negatives is not None and not self.negatives.endswith(".parquet"):
            raise SettingsError(f"negatives are written as .parquet, got {self.negatives!r}")
