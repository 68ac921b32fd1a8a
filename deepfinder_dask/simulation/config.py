"""What a simulation is made of, as read from a TOML file.

::

    voxel_size = 10.0                      # Å

    [[species]]
    name = "ring"                          # also the name of a phantom, unless `phantom` says otherwise
    label = 1
    min_size = 200                         # voxels; smaller components are no particles

    [[tomogram]]
    name = "demo"
    seed = 1
    shape = [80, 256, 256]                 # z, y, x
    counts = { ring = 24 }
    gap = 40.0                             # Å between surfaces
    imaging = { snr = 0.09, defocus = 3.0 }
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from deepfinder_dask.blocks import Shape3
from deepfinder_dask.errors import SettingsError
from deepfinder_dask.simulation.phantoms import Phantom, phantom_of

SHIPPED = Path(__file__).parent / "scenes"
"""Folder of the configurations that come with the package."""


@dataclass(frozen=True)
class Species:
    """A kind of particle in the simulation."""

    name: str
    """Name of the class."""
    label: int
    """Class label, 1 to 254."""
    phantom: str = ""
    """Built-in phantom; by default the one called like the species."""
    colour: str | None = None
    """``#rrggbb``; by default from the palette of labels."""
    min_size: int | None = None
    """Components of fewer voxels are no particles."""
    max_size: int | None = None
    """Components of more voxels are no particles."""

    def __post_init__(self) -> None:
        if not self.name:
            raise SettingsError("species.name must not be empty")
        if not 1 <= self.label <= 254:
            raise SettingsError(f"species.label must be 1 to 254, got {self.label} for {self.name!r}")
        phantom_of(self.phantom or self.name)

    @property
    def body(self) -> Phantom:
        """The phantom itself."""
        return phantom_of(self.phantom or self.name)


@dataclass(frozen=True)
class TiltImaging:
    """How a scene is imaged."""

    snr: float = 0.1
    """Variance of the CTF-modulated noise-free 0° projection over that of the noise, before filtering."""
    defocus: float = 3.0
    """Underfocus in µm."""
    tilt_limit: float = 60.0
    """Greatest tilt in degrees, to both sides."""
    tilt_step: float = 3.0
    """Degrees between tilts."""
    voltage: float = 300.0
    """kV."""
    spherical_aberration: float = 2.7
    """mm."""
    amplitude_contrast: float = 0.07
    """Share of amplitude contrast, 0 to 1."""
    alignment_error: float = 3.0
    """Standard deviation in Å of each image's shift along y and along x."""

    def __post_init__(self) -> None:
        _need(self.snr > 0, "imaging.snr", "more than 0", self.snr)
        _need(self.defocus > 0, "imaging.defocus", "more than 0 µm", self.defocus)
        _need(0 < self.tilt_limit < 90, "imaging.tilt_limit", "between 0 and 90 degrees", self.tilt_limit)
        _need(
            0 < self.tilt_step <= self.tilt_limit, "imaging.tilt_step", "more than 0, up to tilt_limit", self.tilt_step
        )
        _need(self.voltage > 0, "imaging.voltage", "more than 0 kV", self.voltage)
        _need(0 <= self.amplitude_contrast <= 1, "imaging.amplitude_contrast", "0 to 1", self.amplitude_contrast)
        _need(self.alignment_error >= 0, "imaging.alignment_error", "0 Å or more", self.alignment_error)


@dataclass(frozen=True)
class TomogramConfig:
    """One tomogram to simulate."""

    name: str
    """Name of the tomogram and of its files."""
    seed: int
    """Decides everything random in it."""
    shape: Shape3
    """Voxels, (z, y, x)."""
    counts: Mapping[str, int]
    """Particles of each species."""
    gap: float = 40.0
    """Least distance in Å between the surfaces of two particles."""
    imaging: TiltImaging = field(default_factory=TiltImaging)
    """How it is imaged."""

    def __post_init__(self) -> None:
        _need(bool(self.name) and "/" not in self.name, "tomogram.name", "a file name", self.name)
        _need(self.seed >= 0, "tomogram.seed", "0 or more", self.seed)
        whole = len(self.shape) == 3 and all(isinstance(n, int) and n >= 16 for n in self.shape)
        _need(whole, "tomogram.shape", "[z, y, x], 16 or more each", self.shape)
        counted = all(isinstance(n, int) and not isinstance(n, bool) for n in self.counts.values())
        _need(counted, "tomogram.counts", "whole numbers", dict(self.counts))
        _need(all(n >= 0 for n in self.counts.values()), "tomogram.counts", "0 or more each", dict(self.counts))
        _need(self.gap >= 0, "tomogram.gap", "0 Å or more", self.gap)


@dataclass(frozen=True)
class SimulationConfig:
    """Everything `deepfinder simulate` needs to know."""

    voxel_size: float
    """Å."""
    species: tuple[Species, ...]
    """The species, in the order of their labels."""
    tomograms: tuple[TomogramConfig, ...]
    """The tomograms."""

    def __post_init__(self) -> None:
        _need(self.voxel_size > 0, "voxel_size", "more than 0 Å", self.voxel_size)
        _need(bool(self.species), "species", "at least one [[species]] table", "none")
        _need(bool(self.tomograms), "tomogram", "at least one [[tomogram]] table", "none")
        for key, values in (
            ("species.name", [s.name for s in self.species]),
            ("species.label", [s.label for s in self.species]),
            ("tomogram.name", [t.name for t in self.tomograms]),
        ):
            _need(len(set(values)) == len(values), key, "a different value in each table", values)
        known = {s.name for s in self.species}
        for tomogram in self.tomograms:
            unknown = sorted(set(tomogram.counts) - known)
            _need(not unknown, "tomogram.counts", f"names among {sorted(known)}", unknown)


def read_config(source: str | Path) -> SimulationConfig:
    """Read a configuration: a TOML file, or the name of one that comes with the package (``demo``, ``training``).

    Raises
    ------
    SettingsError
        If there is no such file, it is no TOML, or a value cannot work; the message names the key.
    """
    path = Path(source)
    shipped = SHIPPED / f"{source}.toml"
    if not path.is_file():
        if not shipped.is_file():
            names = ", ".join(sorted(p.stem for p in SHIPPED.glob("*.toml")))
            raise SettingsError(f"no simulation file {str(source)!r}; give a TOML file or one of: {names}")
        path = shipped
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path.name} is no valid TOML: {error}") from error
    return config_of(tables)


def config_of(tables: Mapping[str, Any]) -> SimulationConfig:
    """Configuration from the tables of a TOML file.

    Raises
    ------
    SettingsError
        If a key is missing, unknown or has a value that cannot work.
    """
    known = {"voxel_size", "species", "tomogram"}
    _need(set(tables) <= known, "the file", f"keys among {sorted(known)}", sorted(set(tables) - known))
    _need("voxel_size" in tables, "voxel_size", "Å per voxel", "nothing")
    species = tuple(_build(Species, "species", t) for t in _tables(tables, "species"))
    tomograms = []
    for table in _tables(tables, "tomogram"):
        values = dict(table)
        if "imaging" in values:
            _need(isinstance(values["imaging"], dict), "tomogram.imaging", "a table", values["imaging"])
            values["imaging"] = _build(TiltImaging, "imaging", values["imaging"])
        if isinstance(values.get("shape"), list):
            values["shape"] = tuple(values["shape"])
        tomograms.append(_build(TomogramConfig, "tomogram", values))
    ordered = tuple(sorted(species, key=lambda s: s.label))
    return SimulationConfig(_number("voxel_size", tables["voxel_size"]), ordered, tuple(tomograms))


def _tables(tables: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = tables.get(key, [])
    ok = isinstance(found, list) and all(isinstance(t, dict) for t in found)
    _need(ok, key, f"[[{key}]] tables", found)
    return list(found)


def _number(key: str, value: Any) -> float:
    _need(isinstance(value, int | float) and not isinstance(value, bool), key, "a number", value)
    return float(value)


_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "str | None": (str, type(None)),
    "int | None": (int, type(None)),
    "Shape3": (tuple,),
    "Mapping[str, int]": (dict,),
    "TiltImaging": (TiltImaging,),
}


def _build(kind: type[Any], where: str, values: Mapping[str, Any]) -> Any:
    """An instance of a dataclass from a TOML table, each value checked against the field's type."""
    known = {f.name: f for f in fields(kind)}
    for key, value in values.items():
        _need(key in known, f"{where}.{key}", f"a key among {sorted(known)}", "an unknown key")
        wanted = _KINDS[str(known[key].type)]
        ok = isinstance(value, wanted) and not isinstance(value, bool)
        _need(ok, f"{where}.{key}", f"a value of type {known[key].type}", value)
    try:
        return kind(**values)
    except TypeError as error:
        raise SettingsError(f"a [[{where}]] table lacks a key: {error}") from error


def _need(ok: bool, key: str, wanted: str, got: object) -> None:
    """Raise a `SettingsError` that names the key unless ``ok``."""
    if not ok:
        raise SettingsError(f"{key} must be {wanted}, got {got!r}")
