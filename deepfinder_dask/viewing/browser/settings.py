"""Settings of the viewer: one dataclass for the function and the command.

Light on purpose: nothing here imports more than the standard library.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deepfinder_dask.errors import SettingsError


@dataclass(frozen=True, slots=True)
class ViewSettings:
    """What is shown beside a tomogram, and where."""

    labels: str | None = None
    """Segmentation (SEG.zarr), target, instance map or any Zarr label map of the tomogram's shape."""
    instances: bool = False
    """Also show the instance map in the segmentation, as cluster --instances auto leaves it."""
    scores: str | None = None
    """Segmentation whose score map is shown as heat, one layer for each class; without one, its probability."""
    names: tuple[str, ...] = ()
    """Names of the sets of particles, in order; by default those of the files."""
    colours: tuple[str, ...] = ()
    """Colours of the sets, #rrggbb, in order; by default particles have the colours of their classes."""
    classes: str | None = None
    """TOML file of classes, for radii, names and colours that the other files do not hold."""
    name: str | None = None
    """Name of the tomogram in tables of several; by default that of its store."""
    tolerance: str = "1r"
    """How far off a hit may be, where a truth and found particles are compared: 0.5r (class radii), 40A, 3vox."""
    voxel_size: float | tuple[float, float, float] | None = None
    """Å per voxel, one number or z, y, x, of a store that does not say it."""
    port: int = 0
    """Port of the page on this machine; 0 takes a free one."""

    def __post_init__(self) -> None:
        for field in ("names", "colours"):
            given: Any = getattr(self, field)  # one text may stand for a tuple of one
            object.__setattr__(self, field, (given,) if isinstance(given, str) else tuple(given))
        for colour in self.colours:
            digits = colour.removeprefix("#")
            if len(colour) != 7 or len(digits) != 6 or any(c not in "0123456789abcdefABCDEF" for c in digits):
                raise SettingsError(f"a colour is written '#rrggbb', got {colour!r}")
        if not 0 <= self.port <= 65535:
            raise SettingsError(f"a port is a number from 0 to 65535, got {self.port}")
