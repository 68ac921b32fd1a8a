"""Settings of ``train``, stated once for the function, the command and campaigns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deepfinder_dask.errors import SettingsError


@dataclass(frozen=True)
class TrainSettings:
    """How a training run is started; what it learns, and how, stands in its TOML file."""

    resume: bool = False
    """Go on from the last checkpoint in the run's folder."""
    overwrite: bool = False
    """Replace a run that is in the folder already."""
    data: Path | None = None
    """Folder that the paths in the configuration count from; default the configuration's own folder."""
    threads: int = 0
    """Threads that share each batch; 0 takes one per processor."""

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise SettingsError(f"expected 0 threads or more, got {self.threads}")
        if self.resume and self.overwrite:
            raise SettingsError("--resume goes on with a run, --overwrite removes it: give one of them")
