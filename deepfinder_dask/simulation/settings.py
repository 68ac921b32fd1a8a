"""Settings of ``simulate``, stated once for the function, the command and campaigns."""

from __future__ import annotations

from dataclasses import dataclass

from deepfinder_dask.errors import SettingsError


@dataclass(frozen=True)
class SimulateSettings:
    """How a simulation is run; what is simulated stands in its TOML file."""

    seed: int | None = None
    """Seed of the first tomogram instead of its own; the next one gets the next number, and so on."""
    overwrite: bool = False
    """Replace outputs that are already there."""

    def __post_init__(self) -> None:
        if self.seed is not None and self.seed < 0:
            raise SettingsError(f"expected a seed of 0 or more, got {self.seed}")
