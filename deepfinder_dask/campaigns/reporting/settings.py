"""Settings of ``report``."""

from __future__ import annotations

from dataclasses import dataclass

from deepfinder_dask.errors import SettingsError

MIB = 2**20
LARGEST, SMALLEST = 128_000, 8_000
"""Bytes of the largest picture, and of the smallest that still shows anything."""


@dataclass(frozen=True)
class ReportSettings:
    """How a campaign is reported."""

    picture_bytes: int = 16 * MIB
    """Bytes that all pictures on the page take together: with more tomograms they are smaller, and beyond some
    thousands not all have one. 0 leaves pictures out."""
    flag_at: float = 3.5
    """Robust z-score from which a tomogram is flagged as unlike the others."""

    def __post_init__(self) -> None:
        if self.picture_bytes < 0:
            raise SettingsError(f"expected 0 or more bytes of pictures, got {self.picture_bytes}")
        if not self.flag_at > 0:
            raise SettingsError(f"expected a z-score above 0 to flag at, got {self.flag_at}")
