"""Settings of ``locate``: those of its steps, stated once in each of them. And those of ``run``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

from deepfinder_dask.clustering.settings import ClusterSettings
from deepfinder_dask.errors import SettingsError
from deepfinder_dask.segmentation.settings import SegmentSettings
from deepfinder_dask.tomograms.settings import ConvertSettings

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

S = TypeVar("S", bound="DataclassInstance")


@dataclass(frozen=True)
class LocateSettings(ClusterSettings, SegmentSettings, ConvertSettings):
    """How particles are located: the settings of ``convert``, ``segment`` and ``cluster`` together."""

    voxel_size: float | tuple[float, float, float] | None = None
    """Å per voxel, one number or z, y, x; by default what the file says. Needed where it says 0 or exactly 1."""
    tomogram: str | None = None
    """Name of the tomogram in tables and exports; by default the name of the file."""
    classes: str | None = None
    """TOML file of classes that overrules names, radii and sizes in the weights."""
    mask: str | None = None
    """Mask volume, as large as the tomogram: where it is 0 there is background, and blocks outside are not computed."""
    border: float | None = None
    """Å at all six faces of the tomogram that are left out as well."""
    block: tuple[int, int, int] | None = None
    """Voxels computed at a time, z, y, x, multiples of 4; by default the least work that fits the memory."""
    memory: int | None = None
    """Memory that one worker (each thread of it) may use, in bytes: decides the blocks; by default 4 GiB."""
    workers: int | None = None
    """Local worker processes; by default this process does the work, on all its cores."""
    scheduler: str | None = None
    """Address of a running Dask scheduler, such as tcp://host:8786, to use instead."""
    overwrite: bool = False
    """Start anew where the output folder already holds results."""

    def __post_init__(self) -> None:
        for kind in (ConvertSettings, SegmentSettings, ClusterSettings):
            self.part(kind)
        if self.instances not in (None, "auto"):
            raise SettingsError(
                f"locate leaves the instance map in segmentation.zarr, got {self.instances}: give --instances auto"
            )

    def part(self, kind: type[S], **changes: Any) -> S:
        """The settings of one step, with single ones replaced."""
        values = {field.name: getattr(self, field.name) for field in fields(kind)}
        return kind(**{**values, **changes})


@dataclass(frozen=True)
class RunSettings:
    """How a campaign is run; what it does stands in its file."""

    only: tuple[str, ...] = ()
    """Do only these tomograms: names, or patterns such as 'TS_0*'; or names of stages: everything up to the last of
    them."""
    retry_failed: bool = False
    """Try again what failed or was quarantined."""
    overwrite: bool = False
    """Do again what follows from settings, weights or files that have changed."""
    workers: int | None = None
    """Local worker processes, in place of what the file says."""
    scheduler: str | None = None
    """Address of a running Dask scheduler, in place of what the file says."""

    def __post_init__(self) -> None:
        only: Any = self.only
        object.__setattr__(self, "only", (only,) if isinstance(only, str) else tuple(only))
        if self.workers is not None and self.scheduler is not None:
            raise SettingsError("give either a number of workers or the address of a scheduler, not both")
