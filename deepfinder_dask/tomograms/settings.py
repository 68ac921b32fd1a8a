"""Settings of ``convert``, stated once for the function, the command and campaigns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from deepfinder_dask.errors import SettingsError
from deepfinder_dask.tomograms.tomogram import Axis, Contrast, as_voxel_size

OmeZarr = Literal["0.5", "0.4"]
"""Version of OME-Zarr: 0.5 is Zarr v3 with shards, 0.4 is Zarr v2."""
Compression = Literal["auto", "lz4", "none"]
"""How chunks are compressed."""


@dataclass(frozen=True)
class ConvertSettings:
    """How a tomogram file is converted."""

    voxel_size: float | tuple[float, float, float] | None = None
    """Å per voxel, one number or (z, y, x); default what the file says. Needed where it says 0 or exactly 1."""
    contrast: Contrast | None = None
    """Grey value of particles against their surroundings, dark or bright; by default what the source says, or dark."""
    tilt_axis: Axis | None = None
    """Axis about which the specimen was tilted, x or y; by default what the source says, or y."""
    overwrite: bool = False
    """Replace an output that is already there (a Zarr store; anything else is never deleted)."""
    replace_nonfinite: float | None = None
    """Grey value for voxels that are NaN or infinite; default such files are refused."""
    ome_zarr: OmeZarr = "0.5"
    """Version of OME-Zarr: 0.5 (Zarr v3, sharded) or 0.4 (Zarr v2, for readers that need it)."""
    chunk: int = 64
    """Edge of a chunk in voxels."""
    compression: Compression = "auto"
    """lz4, none, or auto: lz4 for integers, none for floats, whose noise does not compress."""
    pyramid: bool = True
    """Also make the lower resolutions that viewers need."""

    def __post_init__(self) -> None:
        if self.voxel_size is not None:
            as_voxel_size(self.voxel_size)
        if self.chunk < 1:
            raise SettingsError(f"expected a chunk of at least 1 voxel, got {self.chunk}")
        for name, allowed in (("contrast", Contrast), ("tilt_axis", Axis), ("ome_zarr", OmeZarr)):
            if getattr(self, name) is not None and getattr(self, name) not in get_args(allowed):
                raise SettingsError(f"expected {name} {' or '.join(get_args(allowed))}, got {getattr(self, name)!r}")
        if self.tilt_axis == "z":
            raise SettingsError("the tilt axis cannot be z, the axis of the beam: expected x or y")
        if self.compression not in get_args(Compression):
            raise SettingsError(f"expected compression auto, lz4 or none, got {self.compression!r}")
