"""Where RELION counts from: the centre of each tomogram, by its unbinned size and pixel size."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.errors import FormatError, GeometryError, VoxelSizeError
from deepfinder_dask.particles.facts import TomogramFacts
from deepfinder_dask.particles.formats.base import ParticlesWarning
from deepfinder_dask.particles.formats.star import read_star
from deepfinder_dask.particles.settings import RelionCenter

_SIZES = ("rlnTomoSizeX", "rlnTomoSizeY", "rlnTomoSizeZ")
_PIXEL = "rlnTomoTiltSeriesPixelSize"
_OPTICS = ("rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast")


@dataclass(frozen=True)
class Unbinned:
    """A tomogram as RELION sees it."""

    name: str
    """RELION's name of it (``rlnTomoName``)."""
    size: tuple[float, float, float]
    """Unbinned size in pixels, (x, y, z)."""
    pixel: tuple[float, float, float]
    """Unbinned pixel size in Å, (x, y, z)."""
    binning: float | None = None
    """Pixels to a voxel of the reconstructed tomogram, None where unknown."""
    optics: Mapping[str, float] = field(default_factory=dict)
    """Voltage (kV), spherical aberration (mm) and amplitude contrast where known."""

    def centre(self, relion_center: RelionCenter) -> NDArray[np.float64]:
        """Å from the first voxel to the point that coordinates count from, (x, y, z)."""
        back = 1.0 if relion_center == "n/2-1" else 0.0
        middle = [(n / 2 - back) * pixel for n, pixel in zip(self.size, self.pixel, strict=True)]
        return np.asarray(middle, dtype=np.float64)

    @property
    def facts(self) -> TomogramFacts:
        """Voxel size and shape of the reconstructed tomogram, as far as they are known for certain."""
        if self.binning is None:
            return TomogramFacts()
        x, y, z = (p * self.binning for p in self.pixel)
        shape = tuple(int(s) for s in reversed(self.size)) if self.binning == 1 else None
        return TomogramFacts((z, y, x), shape)  # type: ignore[arg-type]  # reversed() of three is three


def read_tomograms_star(path: str | Path) -> dict[str, Unbinned]:
    """Tomograms of a RELION 5 ``tomograms.star`` by name.

    Raises
    ------
    FormatError
        A column that is needed is missing, or holds no numbers.
    """
    blocks = read_star(path)
    table = next((block for block in blocks.values() if "rlnTomoName" in block.columns), None)
    if table is None:
        raise FormatError(f"{path}: expected a tomograms.star, found no rlnTomoName in blocks {list(blocks)}")
    missing = [name for name in (*_SIZES, _PIXEL) if name not in table.columns]
    if missing:
        raise FormatError(f"{path}: expected a tomograms.star of RELION 5, columns {missing} missing")
    result = {}
    for row in table.to_dict("records"):
        numbers: dict[str, float] = {}
        for name in (*_SIZES, _PIXEL, "rlnTomoTomogramBinning", *_OPTICS):
            if name in row:
                numbers[name] = _number(path, row, name)
        pixel, binning = numbers[_PIXEL], numbers.get("rlnTomoTomogramBinning")
        x, y, z = (numbers[name] for name in _SIZES)
        optics = {name: numbers[name] for name in _OPTICS if name in numbers}
        if str(row["rlnTomoName"]) in result:
            raise FormatError(f"{path}: tomogram {row['rlnTomoName']!r} stands there twice")
        result[str(row["rlnTomoName"])] = Unbinned(row["rlnTomoName"], (x, y, z), (pixel,) * 3, binning, optics)
    return result


def _number(path: str | Path, row: Mapping[Any, Any], name: str) -> float:
    try:
        value = float(row[name])
    except (TypeError, ValueError):
        value = float("nan")
    if not np.isfinite(value) or (value <= 0 and name not in _OPTICS):
        raise FormatError(f"{path}: {name} of {row['rlnTomoName']!r} should be a number above 0, found {row[name]!r}")
    return value


def look_up(known: Mapping[str, Unbinned], name: str, path: str | Path) -> Unbinned:
    """Tomogram by name; ``rec_TS_01``, as RELION names the reconstructed file, is found as ``TS_01`` too.

    Raises
    ------
    FormatError
        It is not there.
    """
    for one in (name, name.removeprefix("rec_"), f"rec_{name}"):
        if one in known:
            return known[one]
    raise FormatError(f"{path}: no tomogram {name!r} in it; it has {sorted(known)}")


def from_facts(name: str, facts: TomogramFacts, binning: float | None) -> Unbinned:
    """Tomogram from the shape and voxel size of its volume, which is taken as unbinned unless told.

    Raises
    ------
    VoxelSizeError, GeometryError
        Voxel size or shape is unknown, or voxels are not cubes.
    """
    if facts.shape is None and facts.voxel_size is not None:
        fix = "give --tomograms-star, or --voxel-size and --shape"
        raise GeometryError(f"RELION: the shape of tomogram {name!r} is unknown, and it counts from the centre; {fix}")
    pixel, factor = unbinned_pixel(name, facts, binning)
    z, y, x = facts.shape or (0, 0, 0)
    return Unbinned(name, (x * factor, y * factor, z * factor), pixel, factor)


def unbinned_pixel(name: str, facts: TomogramFacts, binning: float | None) -> tuple[tuple[float, float, float], float]:
    """Unbinned pixel size in Å (x, y, z) from the voxel size of a volume, taken as unbinned unless told; and binning.

    Raises
    ------
    VoxelSizeError, GeometryError
        The voxel size is unknown, voxels are not cubes, or the binning makes no sense.
    """
    fix = "give --tomograms-star, or --voxel-size"
    if facts.voxel_size is None:
        raise VoxelSizeError(f"the voxel size of tomogram {name!r} is unknown; {fix}")
    if max(facts.voxel_size) > 1.001 * min(facts.voxel_size):
        raise VoxelSizeError(f"voxels of tomogram {name!r} are no cubes: {facts.voxel_size} Å (z, y, x)")
    if binning is None:
        its_shape = "" if facts.shape is None else f"shape {facts.shape} (z, y, x) and "
        verb = "are" if its_shape else "is"
        warnings.warn(
            f"tomogram {name!r}: its own {its_shape}voxel size {verb} taken as unbinned; "
            "give --tomograms-star or --binning if they are not",
            ParticlesWarning,
            stacklevel=2,
        )
    elif not (np.isfinite(binning) and binning > 0):
        raise GeometryError(f"binning is a number above 0, got {binning!r}")
    factor = 1.0 if binning is None else float(binning)
    pz, py, px = facts.voxel_size
    return (px / factor, py / factor, pz / factor), factor


def compare_extent(one: Unbinned, facts: TomogramFacts) -> None:
    """Warn when a volume and RELION's record of it differ by more than two voxels: one of them was cropped."""
    if facts.shape is None or facts.voxel_size is None:
        return
    ours = np.asarray(facts.shape[::-1]) * np.asarray(facts.voxel_size[::-1])
    theirs = np.asarray(one.size) * np.asarray(one.pixel)
    if (np.abs(ours - theirs) > 2 * np.asarray(facts.voxel_size[::-1])).any():
        warnings.warn(
            f"RELION: tomogram {one.name!r} is {np.round(theirs).tolist()} Å (x, y, z) in tomograms.star, "
            f"but the volume of the particles is {np.round(ours).tolist()} Å; is it cropped?",
            ParticlesWarning,
            stacklevel=2,
        )
