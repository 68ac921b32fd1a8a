"""IMOD's binary model files, by their published specification (``binspec.html`` of the IMOD documentation, V1.2).

Everything is big-endian: an identifier, a header, then chunks. ``OBJT``, ``CONT`` and ``MESH`` have fixed heads and no
length; all others give their length in bytes. Only what particles need is kept: objects, contours of points, slicer
angles, pixel size.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.errors import FormatError

MAGIC = b"IMODV1.2"
"""First bytes of a model."""
_HEADER = struct.Struct(">128s4iI4i6f5if2i3f")
_OBJECT = struct.Struct(">64s16IiIii3fi8B2i")
_CONTOUR = struct.Struct(">iIii")
_MESH = struct.Struct(">iiIhh")
_SLICER = struct.Struct(">i3f3f32s")
_OPEN, _SCATTERED = 1 << 3, 1 << 9
# Of the model: mesh thickness, z from -0.5, not yet written by 3dmod, several clip planes, materials in bytes.
_FLAGS = (1 << 9) | (1 << 10) | (1 << 11) | (1 << 12) | (1 << 13)
_METRES = 10


@dataclass(frozen=True)
class ModelObject:
    """One object of a model: its points, whatever contour they are in."""

    name: str
    """Name, empty where it has none."""
    points: NDArray[np.float64]
    """(n, 3) float64, (x, y, z) as in the file."""
    colour: tuple[float, float, float] = (0.0, 1.0, 0.0)
    """Red, green, blue, 0 to 1."""
    radius: int = 0
    """Radius in which points are drawn, pixels; 0 draws none."""


@dataclass(frozen=True)
class SlicerAngles:
    """One orientation of 3dmod's slicer window."""

    angles: tuple[float, float, float]
    """About x, y, z in degrees."""
    centre: tuple[float, float, float]
    """Point (x, y, z) that the slicer shows."""
    label: str = ""
    """Text, at most 31 bytes."""


@dataclass(frozen=True)
class Model:
    """What is kept of a model."""

    size: tuple[int, int, int]
    """Size of the image in pixels, (x, y, z)."""
    pixel: float | None
    """Å per pixel, None where unknown."""
    objects: Sequence[ModelObject]
    """Objects in order."""
    slicers: Sequence[SlicerAngles] = field(default_factory=tuple)
    """Slicer angles in order."""


def read_model(path: Path) -> Model:
    """Read a model.

    Raises
    ------
    FormatError
        No model of IMOD, or damaged.
    """
    data = path.read_bytes()
    if not data.startswith(MAGIC):
        raise FormatError(f"{path}: expected a binary model of IMOD (IMODV1.2), found {data[:8]!r}")
    try:
        return _parsed(data)
    except (struct.error, ValueError) as error:
        raise FormatError(f"{path}: not a whole model of IMOD: {error}") from error


def _parsed(data: bytes) -> Model:
    _, *values = _HEADER.unpack_from(data, len(MAGIC))
    x, y, z = values[:3]
    pixel, units = values[20], values[21]
    place = len(MAGIC) + _HEADER.size
    objects: list[tuple[str, list[NDArray[np.float64]]]] = []
    slicers: list[SlicerAngles] = []
    while data[place : place + 4] not in (b"IEOF", b""):
        kind, place = data[place : place + 4], place + 4
        if kind == b"OBJT":
            objects.append((_text(_OBJECT.unpack_from(data, place)[0]), []))
            place += _OBJECT.size
        elif kind == b"CONT":
            count = _count(_CONTOUR.unpack_from(data, place)[0], data, 12)
            place += _CONTOUR.size
            if not objects:
                raise ValueError("a contour before the first object")
            points = np.frombuffer(data, ">f4", count * 3, place).reshape(-1, 3)
            objects[-1][1].append(points.astype(np.float64))
            place += 12 * count
        elif kind == b"MESH":
            vertices, indices, *_ = _MESH.unpack_from(data, place)
            place += _MESH.size + 12 * _count(vertices, data, 12) + 4 * _count(indices, data, 4)
        else:
            (length,) = struct.unpack_from(">i", data, place)
            place += 4
            if kind == b"SLAN":
                _, ax, ay, az, cx, cy, cz, label = _SLICER.unpack_from(data, place)
                slicers.append(SlicerAngles((ax, ay, az), (cx, cy, cz), _text(label)))
            place += _count(length, data, 1)
    if data[place : place + 4] != b"IEOF":
        raise ValueError("it ends before its end mark")
    whole = [ModelObject(name, np.concatenate([np.zeros((0, 3)), *parts])) for name, parts in objects]
    return Model((x, y, z), _angstrom(pixel, units), whole, tuple(slicers))


def _count(number: int, data: bytes, bytes_each: int) -> int:
    """A count that the file can hold."""
    if not 0 <= number <= len(data) // bytes_each:
        raise ValueError(f"a count of {number} in {len(data)} bytes")
    return number


def _text(raw: bytes) -> str:
    return raw.split(b"\x00", 1)[0].decode("utf-8", errors="replace").strip()


def _angstrom(pixel: float, units: int) -> float | None:
    """Å per pixel from a size in 10 ** units metres; units of 0 are pixels. Rounded to what four bytes hold."""
    if not -12 <= units < 0 or not np.isfinite(pixel) or pixel <= 0:
        return None
    size = float(f"{pixel * 10.0 ** (units + _METRES):.7g}")
    return size if size > 0 else None


def model_bytes(model: Model) -> bytes:
    """The file of a model, with one contour of scattered points for each object, sections from z = -0.5 on."""
    size, units = (1.0, 0) if model.pixel is None else (model.pixel / 10, -9)
    header = _HEADER.pack(
        b"deepfinder", *model.size, len(model.objects), _FLAGS, 1, 2, 0, 255, 0, 0, 0, 1, 1, 1, 0, -1, -1, 3, 128, size,
        units, 0, 0, 0, 0,
    )  # fmt: skip
    parts = [MAGIC, header]
    for one in model.objects:
        contours = 1 if len(one.points) else 0
        name = one.name.encode("utf-8")[:63]
        head = (name, *[0] * 16, contours, _OPEN | _SCATTERED, 0, 1, *one.colour, one.radius)
        parts += [b"OBJT", _OBJECT.pack(*head, 1, 3, 1, 1, 0, 0, 0, 0, 0, 0)]
        if contours:
            parts += [b"CONT", _CONTOUR.pack(len(one.points), 0, 0, 0), one.points.astype(">f4").tobytes()]
    for slicer in model.slicers:
        label = slicer.label.encode("utf-8")[:31]
        parts += [b"SLAN", struct.pack(">i", _SLICER.size), _SLICER.pack(1, *slicer.angles, *slicer.centre, label)]
    return b"".join([*parts, b"IEOF"])
