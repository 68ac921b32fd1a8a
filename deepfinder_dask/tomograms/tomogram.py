"""A tomogram: a lazy volume with its voxel size, statistics and imaging facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

from deepfinder_dask.blocks import Box, Shape3
from deepfinder_dask.errors import FormatError, GeometryError, SettingsError, VoxelSizeError
from deepfinder_dask.tomograms.location import AnyPath, base_name, exists, is_zarr, normalise

if TYPE_CHECKING:
    import dask.array
    import numpy as np
    from numpy.typing import NDArray

    from deepfinder_dask.tomograms.volume import Volume

VoxelSize = tuple[float, float, float]
"""Å per voxel, (z, y, x)."""
Contrast = Literal["dark", "bright"]
Axis = Literal["x", "y", "z"]


@dataclass(frozen=True)
class Imaging:
    """What must agree between a tomogram and the weights that segment it."""

    contrast: Contrast = "dark"
    """Grey value of particles against their surroundings."""
    tilt_axis: Axis = "y"
    """Axis about which the specimen was tilted."""
    beam_axis: Axis = "z"
    """Axis of the electron beam, along which the reconstruction is thin."""

    def __post_init__(self) -> None:
        if self.contrast not in get_args(Contrast):
            raise SettingsError(f"expected contrast dark or bright, got {self.contrast!r}")
        for name in ("tilt_axis", "beam_axis"):
            if getattr(self, name) not in get_args(Axis):
                raise SettingsError(f"expected {name} x, y or z, got {getattr(self, name)!r}")
        if self.tilt_axis == self.beam_axis:
            raise SettingsError(f"tilt axis and beam axis are both {self.tilt_axis}: they are perpendicular")

    def to_dict(self) -> dict[str, str]:
        """The facts as plain text values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Imaging:
        """The facts from plain text values; what is missing takes its default."""
        return cls(**{k: values[k] for k in ("contrast", "tilt_axis", "beam_axis") if k in values})


@dataclass(frozen=True)
class Robust:
    """Mean and standard deviation that neither gold nor padding decide.

    Voxels of padding are left out: those of a value that holds at least 1 % of all, and 8 times more than the values
    next to it. The others are clipped to their percentiles 1 and 99. Exact for integers of up to 16 bits and 16-bit
    floats; for others within 0.2 % of the standard deviation.
    """

    mean: float
    """Mean grey value."""
    std: float
    """Standard deviation of the grey values."""
    padding: float
    """Part of the voxels that are padding."""


@dataclass(frozen=True)
class Statistics:
    """Statistics of all voxels of a volume, computed in float64 in an order that no chunking changes."""

    count: int
    """Number of voxels."""
    mean: float
    """Mean grey value."""
    std: float
    """Standard deviation of the grey values (of the whole volume, so divided by ``count``)."""
    minimum: float
    """Smallest grey value."""
    maximum: float
    """Largest grey value."""
    percentiles: Mapping[str, float] = field(default_factory=dict)
    """Grey value below which this many per cent of the voxels lie; keys "0.1", "0.5", "1", "5", "50", "95", "99",
    "99.5", "99.9". Exact for integers of up to 16 bits and 16-bit floats; for 32-bit values within 1/2048 of the value.
    """
    robust: Robust | None = None
    """Mean and standard deviation without gold and padding; None where an older version made the statistics."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; floats survive the round trip bit for bit."""
        return {**asdict(self), "percentiles": dict(self.percentiles)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Statistics:
        """The inverse of :meth:`to_dict`."""
        numbers = {k: float(values[k]) for k in ("mean", "std", "minimum", "maximum")}
        percentiles = {str(k): float(v) for k, v in values.get("percentiles", {}).items()}
        known = values.get("robust")
        robust = None if known is None else Robust(*(float(known[k]) for k in ("mean", "std", "padding")))
        return cls(count=int(values["count"]), percentiles=percentiles, robust=robust, **numbers)


def as_voxel_size(value: float | Sequence[float]) -> VoxelSize:
    """Å per voxel as (z, y, x), from one number or three.

    Raises
    ------
    VoxelSizeError
        If it is not one or three positive numbers.
    """
    try:
        numbers = [float(v) for v in value] if isinstance(value, Sequence) else [float(value)] * 3
    except (TypeError, ValueError) as error:
        raise VoxelSizeError(f"expected a voxel size in Å, one number or three (z, y, x), got {value!r}") from error
    if len(numbers) != 3 or not all(0 < v < 1e6 for v in numbers):
        raise VoxelSizeError(f"expected a voxel size in Å, one positive number or three (z, y, x), got {value!r}")
    return numbers[0], numbers[1], numbers[2]


@dataclass(frozen=True)
class Tomogram:
    """A tomogram in a store. Opening reads metadata only; voxels are read by :attr:`data` and :meth:`read`.

    Make one with :meth:`open`.
    """

    path: str
    """Local path or fsspec URL of the OME-Zarr group or Zarr array."""
    levels: tuple[Volume, ...]
    """Handles of the pyramid, full resolution first."""
    voxel_size: VoxelSize
    """Å per voxel of the full resolution, (z, y, x)."""
    imaging: Imaging = Imaging()
    """Contrast and axes; the defaults where the store does not say."""
    imaging_known: bool = False
    """Whether the store says what ``imaging`` holds (False: they are the defaults)."""
    statistics: Statistics | None = None
    """Statistics of all voxels; None in stores that ``convert`` did not make (see :func:`statistics_of`)."""
    source: Mapping[str, Any] = field(default_factory=dict)
    """The file the tomogram was converted from, and the facts of its header."""

    @classmethod
    def open(cls, path: AnyPath, voxel_size: float | Sequence[float] | None = None) -> Tomogram:
        """Open an OME-Zarr image or a plain Zarr array: lazy, computes nothing.

        Parameters
        ----------
        path : str or path
            Local path, ``file://``, or any fsspec URL (``s3://``, ``https://``, ``memory://`` …).
        voxel_size : float or sequence of float, optional
            Å per voxel, one number or (z, y, x), where the store does not say, or to overrule it.

        Raises
        ------
        FormatError
            If there is no Zarr store, it was never finished, or its axes are not z, y, x.
        VoxelSizeError
            If the voxel size is unknown.
        """
        from deepfinder_dask.tomograms.opening import open_image

        location = normalise(path)
        if not is_zarr(location):
            if not exists(location):
                raise FormatError(f"no such tomogram: {location}")
            raise FormatError(
                f"expected a Zarr store, found something else at {location}: "
                f"convert it first with `deepfinder convert {location} -o {base_name(location)}.zarr`"
            )
        image = open_image(location)
        if image.axes[-3:] != ("z", "y", "x"):
            raise FormatError(
                f"expected axes z, y, x in {location}, found {', '.join(image.axes)}: "
                f"bring them into order with `deepfinder convert {location} -o NEW.zarr`"
            )
        if image.levels[0].ndim != 3:
            raise FormatError(f"expected one volume (z, y, x) in {location}, found shape {image.levels[0].shape}")
        size = as_voxel_size(voxel_size) if voxel_size is not None else image.voxel_size
        if size is None:
            raise VoxelSizeError(f"{location} does not say its voxel size: give it with --voxel-size Å")
        facts = image.attributes
        return cls(
            path=location,
            levels=image.levels,
            voxel_size=size,
            imaging=Imaging.from_dict(facts.get("imaging", {})),
            imaging_known="imaging" in facts,
            statistics=Statistics.from_dict(facts["statistics"]) if "statistics" in facts else None,
            source=facts.get("source", {}),
        )

    @property
    def name(self) -> str:
        """Name of the store without folder and ``.zarr``."""
        return base_name(self.path)

    @property
    def volume(self) -> Volume:
        """Handle of the full resolution."""
        return self.levels[0]

    @property
    def shape(self) -> Shape3:
        """Extent in voxels, (z, y, x)."""
        return self.volume.space

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the grey values."""
        return self.volume.dtype

    @cached_property
    def data(self) -> dask.array.Array:
        """The full resolution as a lazy Dask array (z, y, x); nothing is read until it is computed."""
        return self.volume.lazy()

    def read(self, box: Box | None = None) -> NDArray[Any]:
        """Grey values (z, y, x) of a box of the full resolution, default all of it."""
        return self.volume.read(box)

    def _repr_html_(self) -> str:
        from deepfinder_dask.particles.cards import card, lengths
        from deepfinder_dask.tomograms.thumbnails import central_slice

        nm = " × ".join(f"{n * size / 10:.0f}" for n, size in zip(self.shape, self.voxel_size, strict=True))
        known = "" if self.imaging_known else " (not said, so assumed)"
        grey = None if self.statistics is None else f"{self.statistics.mean:.4g} ± {self.statistics.std:.4g}"
        facts = [
            ("shape (z, y, x)", f"{' × '.join(map(str, self.shape))} voxels of {lengths(self.voxel_size)} Å"),
            ("extent (z, y, x)", f"{nm} nm"),
            ("grey values", f"{self.dtype}" + (f", {grey}" if grey else "")),
            ("particles are", self.imaging.contrast + known),
            ("tilt axis", self.imaging.tilt_axis),
            ("pyramid", f"{len(self.levels)} levels"),
            ("made from", self.source.get("file")),
            ("path", self.path),
        ]
        return card(f"Tomogram {self.name}", facts, central_slice(self.path, self.levels))

    def level(self, number: int) -> Volume:
        """Handle of a pyramid level, 0 the full resolution.

        Raises
        ------
        GeometryError
            If the pyramid has fewer levels.
        """
        if not 0 <= number < len(self.levels):
            raise GeometryError(f"{self.path} has levels 0 to {len(self.levels) - 1}, got {number}")
        return self.levels[number]
