"""Settings of ``simulate``, stated once for the function, the command and campaigns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deepfinder_dask.errors import SettingsError


@dataclass(frozen=True)
class SimulateSettings:
    """How a simulation is run; what is simulated stands in its TOML file. Workers change nothing in the result."""

    seed: int | None = None
    """Seed of the first tomogram instead of its own; the next one gets the next number, and so on."""
    mrc: bool = False
    """Write each tomogram as NAME.mrc (32-bit floats) too."""
    density: bool = False
    """Write the density before imaging, NAME_density.zarr, too."""
    tilt_series: bool = False
    """Write the tilt series, NAME_tilts.zarr (image, y, x), too."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where images are transformed and filtered; the last bits differ between the two."""
    workers: int | None = None
    """Local worker processes; by default this process does the work."""
    scheduler: str | None = None
    """Address of a running Dask scheduler to use instead."""
    overwrite: bool = False
    """Replace outputs that are already there."""

    def __post_init__(self) -> None:
        if self.seed is not None and self.seed < 0:
            raise SettingsError(f"expected a seed of 0 or more, got {self.seed}")
        if self.device not in ("cpu", "cuda"):
            raise SettingsError(f"expected device cpu or cuda, got {self.device!r}")
