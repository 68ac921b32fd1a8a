"""Settings of ``train``, stated once for the function, the command and campaigns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deepfinder_dask.errors import SettingsError


@dataclass(frozen=True)
class TrainSettings:
    """How a training run is started; what it learns, and how, stands in its TOML file."""

    resume: bool = False
    """Go on from the last checkpoint in the run's folder."""
    overwrite: bool = False
    """Replace a run that is in the folder already."""
    init: str | None = None
    """Weights to start from, a file or a name such as demo: layers, and the outputs of classes of the same name."""
    data: Path | None = None
    """Folder that the paths in the configuration count from; default the configuration's own folder."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to learn; auto is a GPU where there is one. Several GPUs: start with torchrun."""
    threads: int = 0
    """Threads that share each batch on a CPU; 0 takes one per processor, and on --resume as many as before."""
    readers: int = 0
    """Threads that read patches ahead of the device; 0 takes 2, with a GPU up to 8."""

    def __post_init__(self) -> None:
        for name in ("threads", "readers"):
            if getattr(self, name) < 0:
                raise SettingsError(f"expected 0 {name} or more, got {getattr(self, name)}")
        if self.device not in ("auto", "cpu", "cuda"):
            raise SettingsError(f"expected device auto, cpu or cuda, got {self.device!r}")
        if self.resume and self.overwrite:
            raise SettingsError("--resume goes on with a run, --overwrite removes it: give one of them")
