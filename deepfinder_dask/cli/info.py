"""``deepfinder info``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from deepfinder_dask.cli.options import Json, verb

ZYX = ("shape", "chunks", "shards", "levels", "block", "core")
"""Facts that are voxels along z, y, x."""
UNITS = {"voxel_size": "Å", "header_voxel_size": "Å", "size_nm": "nm"}
"""Units of facts that are lengths along z, y, x."""


@verb()
def info(path: str, /, *, as_json: Json = False) -> str:
    """Say what a tomogram, a store or a table of particles is.

    Reads headers and metadata only.

    Parameters
    ----------
    path
        MRC, TIFF, HDF5, Zarr (also a URL) or particles (.parquet).
    as_json
        Print one JSON object instead of words.

    Examples
    --------
    deepfinder info TS_01.mrc
    deepfinder info TS_01_labels.zarr --json
    """
    from deepfinder_dask.tomograms.description import info

    facts = info(path)
    if as_json:
        return json.dumps(facts, ensure_ascii=False) + "\n"
    return "\n".join(lines_of(facts)) + "\n"


def lines_of(facts: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Facts as indented lines, one each."""
    width = max((len(str(key)) for key in facts), default=0)
    for key, value in facts.items():
        if isinstance(value, Mapping) and value:
            yield f"{indent}{key}"
            yield from lines_of(value, indent + "  ")
        else:
            yield f"{indent}{key:<{width}}  {_worded(key, value)}".rstrip()


def _worded(key: str, value: Any) -> str:
    if key in UNITS and isinstance(value, list):
        same = len(set(value)) == 1 and key != "size_nm"
        return f"{_joined(value[:1] if same else value)} {UNITS[key]}{'' if same else ' (z, y, x)'}"
    if key in ZYX and isinstance(value, list):
        if value and isinstance(value[0], list):
            return ", ".join(_joined(one) for one in value)
        return f"{_joined(value)} ({'class, ' if len(value) == 4 else ''}z, y, x)"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_worded(name, one)}" for name, one in value.items())
    if isinstance(value, list):
        return ("; " if value and isinstance(value[0], Mapping) else ", ").join(_worded("", one) for one in value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if value is None:
        return "unknown"
    return "none" if value in ("", {}, []) else str(value)


def _joined(numbers: list[float]) -> str:
    return " × ".join(f"{n:.6g}" if isinstance(n, float) else str(n) for n in numbers)
