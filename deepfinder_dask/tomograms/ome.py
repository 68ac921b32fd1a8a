"""OME-NGFF metadata of one image: axes, pyramid levels, colours of labels; versions 0.4 (Zarr v2) and 0.5 (Zarr v3).

Voxel ``i`` of the full resolution has its centre at ``i * voxel_size``. Level ``k`` has voxels ``2**k`` times as large,
and each is the mean of the ones below it, so its first centre lies ``(2**k - 1) / 2`` fine voxels further: the
``translation``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deepfinder_dask.errors import FormatError

ANGSTROM = {
    "angstrom": 1.0,
    "ångström": 1.0,
    "å": 1.0,
    "nanometer": 10.0,
    "nm": 10.0,
    "micrometer": 1e4,
    "µm": 1e4,
    "picometer": 0.01,
}
"""Å per unit of length."""


def multiscales(
    *, name: str, axes: Sequence[str], voxel_size: tuple[float, float, float], levels: int, method: str, version: str
) -> list[dict[str, Any]]:
    """The ``multiscales`` entry of an image whose levels are at "0", "1", … and halve z, y and x each time.

    Parameters
    ----------
    name : str
        Name of the image.
    axes : sequence of str
        Axis names in array order, the last three z, y, x.
    voxel_size : tuple of float
        Å per voxel of level 0, (z, y, x).
    levels : int
        Number of levels.
    method : str
        How a level was made from the one before, such as "mean".
    version : str
        "0.4" or "0.5".
    """
    lead = len(axes) - 3
    datasets = []
    for level in range(levels):
        factor = 2**level
        scale = [1.0] * lead + [v * factor for v in voxel_size]
        shift = [0.0] * lead + [v * (factor - 1) / 2 for v in voxel_size]
        transforms = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": shift}]
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    entry: dict[str, Any] = {
        "name": name,
        "axes": [
            {"name": a, "type": "space", "unit": "angstrom"} if a in ("z", "y", "x") else {"name": a, "type": "channel"}
            for a in axes
        ],
        "datasets": datasets,
        "type": method,
    }
    if version == "0.4":
        entry["version"] = "0.4"
    return [entry]


def image_label(colours: Mapping[int, str], version: str) -> dict[str, Any]:
    """The ``image-label`` entry: one colour "#rrggbb" per label; the background is transparent."""
    entries = [{"label-value": 0, "rgba": [0, 0, 0, 0]}]
    for label, colour in sorted(colours.items()):
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        entries.append({"label-value": int(label), "rgba": [red, green, blue, 255]})
    entry: dict[str, Any] = {"colors": entries}
    if version == "0.4":
        entry["version"] = "0.4"
    return entry


def parse_multiscales(
    attributes: Mapping[str, Any], where: str
) -> tuple[tuple[str, ...], list[str], tuple[float, ...] | None]:
    """Axis names, paths of the levels and Å per voxel of level 0 along each axis, from a group's attributes.

    The voxel size is None where the file gives none. Lengths without a unit are taken as Å, the field's habit.

    Raises
    ------
    FormatError
        If there is no usable ``multiscales`` entry.
    """
    entries = attributes.get("ome", attributes).get("multiscales")
    try:
        entry = entries[0]
        axes = [a if isinstance(a, dict) else {"name": a} for a in entry.get("axes", [])]
        datasets = entry["datasets"]
        paths = [str(d["path"]) for d in datasets]
        transforms = [*datasets[0].get("coordinateTransformations", []), *entry.get("coordinateTransformations", [])]
        scales = [t["scale"] for t in transforms if t.get("type") == "scale"]
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        raise FormatError(f"expected OME-Zarr multiscales metadata in {where}, found something else") from error
    names = tuple(str(a.get("name", "")) for a in axes) or ("z", "y", "x")
    if not scales:
        return names, paths, None
    size = [1.0] * len(names)
    for scale in scales:
        if len(scale) != len(names):
            raise FormatError(f"expected one scale per axis {names} in {where}, found {scale}")
        size = [a * float(b) for a, b in zip(size, scale, strict=True)]
    units = [str(a.get("unit") or "angstrom").lower() for a in axes] or ["angstrom"] * 3
    return names, paths, tuple(s * ANGSTROM.get(u, 1.0) for s, u in zip(size, units, strict=True))
