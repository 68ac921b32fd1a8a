"""Configurations of simulations, as read from a TOML file.

::

    voxel_size = 10.0                      # Å

    [[species]]
    name = "ring"                          # also the name of a phantom, unless `phantom` or `map` says otherwise
    label = 1
    min_size = 200                         # voxels; smaller components are no particles

    [[species]]
    name = "proteasome"
    label = 2
    map = "maps/4cr2.mrc"                  # from the folder of this file

    [[structure]]
    name = "vesicle"
    label = 3
    kind = "membrane"

    [[tomogram]]
    name = "demo"
    seed = 1
    shape = [80, 256, 256]                 # z, y, x
    counts = { ring = 24, proteasome = 10 }
    gap = 40.0                             # Å between surfaces
    membranes = [{ shape = "sphere", count = 2, radius = [300, 500] }]
    imaging = { snr = 0.09, defocus = 3.0 }
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from deepfinder_dask.errors import SettingsError
from deepfinder_dask.execution.toml_files import find_toml, toml_tables
from deepfinder_dask.simulation.recipe import (
    Membranes,
    SimulationConfig,
    Species,
    Structure,
    TiltImaging,
    TomogramConfig,
    need,
)

SHIPPED = Path(__file__).parent / "scenes"
"""Folder of the configurations that come with the package."""


def read_config(source: str | Path) -> SimulationConfig:
    """Read a configuration: a TOML file, or the name of one that comes with the package (``demo``, ``training`` …).

    Raises
    ------
    SettingsError
        If there is no such file, it is no TOML, or a value cannot work; the message names the key.
    """
    path = find_toml(source, SHIPPED, "simulation")
    with toml_tables(path) as tables:
        return config_of(tables, path.parent)


def config_of(tables: Mapping[str, Any], folder: Path | None = None) -> SimulationConfig:
    """Configuration from the tables of a TOML file.

    Parameters
    ----------
    tables : mapping
        As TOML gives them.
    folder : Path, optional
        Where relative paths of maps begin; default the current folder.

    Raises
    ------
    SettingsError
        If a key is missing, unknown or has a value that cannot work.
    """
    known = {"voxel_size", "species", "structure", "tomogram"}
    need(set(tables) <= known, "the file", f"keys among {sorted(known)}", sorted(set(tables) - known))
    need("voxel_size" in tables, "voxel_size", "Å per voxel", "nothing")
    species = tuple(_build(Species, "species", _placed(t, folder)) for t in _tables(tables, "species"))
    structures = tuple(_build(Structure, "structure", t) for t in _tables(tables, "structure"))
    tomograms = []
    for table in _tables(tables, "tomogram"):
        values = dict(table)
        if "imaging" in values:
            need(isinstance(values["imaging"], dict), "tomogram.imaging", "a table", values["imaging"])
            values["imaging"] = _build(TiltImaging, "imaging", values["imaging"])
        if "membranes" in values:
            parts = _tables(values, "membranes")
            values["membranes"] = tuple(_build(Membranes, "membranes", _with_tuple(t, "radius")) for t in parts)
        tomograms.append(_build(TomogramConfig, "tomogram", _with_tuple(values, "shape")))
    ordered = tuple(sorted(species, key=lambda s: s.label))
    return SimulationConfig(_number("voxel_size", tables["voxel_size"]), ordered, tuple(tomograms), structures)


def _placed(table: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    """A table of a species with the path of its map made absolute."""
    given = table.get("map")
    if not isinstance(given, str) or not given:
        return table
    written = os.path.expandvars(given)
    need("$" not in written, "species.map", "a path whose $VARIABLES are set", given)
    path = Path(written).expanduser()
    return {**table, "map": str(path if path.is_absolute() else ((folder or Path()) / path).absolute())}


def _with_tuple(table: dict[str, Any], key: str) -> dict[str, Any]:
    return {**table, key: tuple(table[key])} if isinstance(table.get(key), list) else table


def _tables(tables: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = tables.get(key, [])
    ok = isinstance(found, list) and all(isinstance(t, dict) for t in found)
    need(ok, key, f"[[{key}]] tables", found)
    return list(found)


def _number(key: str, value: Any) -> float:
    need(isinstance(value, int | float) and not isinstance(value, bool), key, "a number", value)
    return float(value)


_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "bool": (bool,),
    "float": (int, float),
    "str | None": (str, type(None)),
    "int | None": (int, type(None)),
    "float | None": (int, float, type(None)),
    "Shape3": (tuple,),
    "Span": (tuple,),
    "Mapping[str, int]": (dict,),
    "TiltImaging": (TiltImaging,),
    "tuple[Membranes, ...]": (tuple,),
    "MembraneShape": (str,),
    "StructureKind": (str,),
    "DoseScheme": (str,),
}


def _build(kind: type[Any], where: str, values: Mapping[str, Any]) -> Any:
    """An instance of a dataclass from a TOML table, each value checked against the field's type."""
    known = {f.name: f for f in fields(kind)}
    for key, value in values.items():
        need(key in known, f"{where}.{key}", f"a key among {sorted(known)}", "an unknown key")
        wanted = _KINDS[str(known[key].type)]
        ok = isinstance(value, wanted) and (bool in wanted or not isinstance(value, bool))
        if wanted == (tuple,) and key != "membranes":
            ok = ok and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
        need(ok, f"{where}.{key}", f"a value of type {known[key].type}", value)
    try:
        return kind(**values)
    except TypeError as error:
        raise SettingsError(f"a [[{where}]] table lacks a key: {error}") from error
