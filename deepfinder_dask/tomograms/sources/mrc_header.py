"""The 1024-byte header of MRC and CCP4 files: what it says, and what programs have made of it.

Sources: the MRC2014 format (Cheng et al. 2015, J. Struct. Biol. 192, 146) and the description of IMOD's MRC files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from deepfinder_dask.blocks import Shape3, triple
from deepfinder_dask.errors import FormatError
from deepfinder_dask.tomograms.sources.protocol import known_voxel_size, plain
from deepfinder_dask.tomograms.tomogram import VoxelSize

HEADER_BYTES = 1024
TYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2", 101: "u1"}
"""Type of the values of each mode that can be read; 101 packs two 4-bit values into a byte."""
REFUSED = {3: "complex 16-bit values", 4: "complex 32-bit values (a Fourier transform)", 16: "colours", 17: "colours"}
IMOD_STAMP = 1146047817
IMOD_SIGNED = 1

_FIELDS = np.dtype(
    [
        ("n", "i4", 3),
        ("mode", "i4"),
        ("nstart", "i4", 3),
        ("m", "i4", 3),
        ("cell_lengths", "f4", 3),
        ("cell_angles", "f4", 3),
        ("map_axes", "i4", 3),
        ("dmin", "f4"),
        ("dmax", "f4"),
        ("dmean", "f4"),
        ("space_group", "i4"),
        ("extended_bytes", "i4"),
        ("extra_1", "V8"),
        ("extended_type", "S4"),
        ("version", "i4"),
        ("extra_2", "V40"),
        ("imod_stamp", "i4"),
        ("imod_flags", "i4"),
        ("extra_3", "V36"),
        ("origin", "f4", 3),
        ("map_stamp", "S4"),
        ("machine_stamp", "u1", 4),
        ("rms", "f4"),
        ("n_labels", "i4"),
        ("labels", "S80", 10),
    ]
)


@dataclass(frozen=True)
class MrcHeader:
    """What the header of an MRC file says about its data."""

    file_shape: Shape3
    """Extent as stored: (sections, rows, columns)."""
    transpose: Shape3
    """Axis of the stored array that is z, y, x."""
    mode: int
    """Code of the type of the values."""
    dtype: np.dtype[Any]
    """Type of the values in the file, with its byte order (mode 101: of the unpacked values)."""
    offset: int
    """Bytes before the first voxel."""
    voxel_size: VoxelSize | None
    """Å per voxel, (z, y, x); None where unknown."""
    facts: Mapping[str, Any]
    """The fields of the header, as JSON values."""

    @property
    def shape(self) -> Shape3:
        """Extent in voxels, (z, y, x)."""
        return triple(self.file_shape[i] for i in self.transpose)

    @property
    def row_bytes(self) -> int:
        """Size of one stored row."""
        columns = self.file_shape[2]
        return (columns + 1) // 2 if self.mode == 101 else columns * self.dtype.itemsize

    @property
    def data_bytes(self) -> int:
        """Size of all voxels as stored."""
        return self.file_shape[0] * self.file_shape[1] * self.row_bytes


def parse_header(raw: bytes, path: str) -> MrcHeader:
    """Read the header of an MRC file, of either byte order.

    Parameters
    ----------
    raw : bytes
        The first 1024 bytes of the file.
    path : str
        Name of the file, for messages.

    Raises
    ------
    FormatError
        If it is no MRC header, or the mode is not one that holds real grey values.
    """
    if len(raw) < HEADER_BYTES:
        raise FormatError(f"{path} is truncated: expected an MRC header of {HEADER_BYTES} bytes, found {len(raw)}")
    order, header = _in_byte_order(raw, path)
    mode = int(header["mode"])
    if mode not in TYPES:
        found = REFUSED.get(mode, "an unknown type of values")
        raise FormatError(f"expected mode 0, 1, 2, 6, 12 or 101 in {path}, found {found}: mode {mode}")
    axes = [int(a) for a in header["map_axes"]]
    if axes == [0, 0, 0]:
        axes = [1, 2, 3]
    if sorted(axes) != [1, 2, 3]:
        raise FormatError(f"expected MAPC, MAPR, MAPS of {path} to be 1, 2, 3 in some order, found {axes}")
    columns, rows, sections = (int(n) for n in header["n"])
    if min(columns, rows, sections) < 1:
        raise FormatError(
            f"expected at least one voxel on each axis in {path}, "
            f"found {columns} columns, {rows} rows, {sections} sections"
        )
    extended = int(header["extended_bytes"])
    if extended < 0:
        raise FormatError(f"expected an extended header of 0 bytes or more in {path}, found {extended}")
    # Stored axes are (sections, rows, columns) = (MAPS, MAPR, MAPC); 1, 2, 3 are x, y, z.
    stored = {axes[2]: 0, axes[1]: 1, axes[0]: 2}
    transpose = (stored[3], stored[2], stored[1])
    code, why = _signedness(header, mode)
    dtype = np.dtype(code).newbyteorder(order)
    file_shape = (sections, rows, columns)
    size, size_from = _voxel_size(header, triple(file_shape[i] for i in transpose))
    facts = {
        "mode": mode,
        "byte_order": "little" if order == "<" else "big",
        "axes": [" xyz"[a] for a in axes],
        "voxel_size_from": size_from,
        **({"bytes_are": why} if why else {}),
        **{
            name: plain(header[name]) for name in _FIELDS.names or () if not name.startswith(("extra", "label", "mode"))
        },
        "labels": [plain(label) for label in header["labels"][: max(0, min(10, int(header["n_labels"])))]],
    }
    return MrcHeader(file_shape, transpose, mode, dtype, HEADER_BYTES + extended, size, facts)


def _in_byte_order(raw: bytes, path: str) -> tuple[Literal["<", ">"], Any]:
    """Byte order and fields: what the machine stamp says, unless only the other order makes sense."""
    first: Literal["<", ">"] = ">" if raw[212:213] == b"\x11" else "<"
    second: Literal["<", ">"] = "<" if first == ">" else ">"
    for order in (first, second):
        header = np.frombuffer(raw[:HEADER_BYTES], _FIELDS.newbyteorder(order))[0]
        sensible = 0 <= int(header["mode"]) <= 101 and all(0 <= int(n) < 2**24 for n in header["n"])
        if sensible and all(0 <= int(a) <= 3 for a in header["map_axes"]) and any(header["n"]):
            return order, header
    raise FormatError(
        f"expected an MRC header in {path}, found sizes and a mode that make no sense: it is another format"
    )


def _signedness(header: Any, mode: int) -> tuple[str, str]:
    """Type code, and for bytes (mode 0) the reason why they are taken as signed or unsigned."""
    if mode != 0:
        return TYPES[mode], ""
    if int(header["imod_stamp"]) == IMOD_STAMP:
        signed = bool(int(header["imod_flags"]) & IMOD_SIGNED)
        return ("i1", "signed: IMOD's flag") if signed else ("u1", "unsigned: IMOD's flag")
    low, high = float(header["dmin"]), float(header["dmax"])
    if low < high and -128 <= low < 0 and high <= 127:
        return "i1", "signed: the smallest value is negative"
    if 0 <= low < high and 127 < high <= 255:
        return "u1", "unsigned: the largest value is over 127"
    if bytes(header["map_stamp"])[:3] == b"MAP":
        return "i1", "signed: MRC2014"
    return "u1", "unsigned: no MAP stamp"


def _voxel_size(header: Any, shape: Shape3) -> tuple[VoxelSize | None, str]:
    """Å per voxel, (z, y, x), and where it comes from.

    The cell over the grid sampling (mx, my, mz), which may differ from the extent of the data. Where that gives unequal
    edges but the cell over the extent gives equal ones, the sampling is wrong. One section alone has the z size of x.
    """
    cell = [float(v) for v in header["cell_lengths"][::-1]]
    grid = [int(m) for m in header["m"][::-1]]
    size = [c / m if m > 0 else 0.0 for c, m in zip(cell, grid, strict=True)]
    over_extent = [c / n for c, n in zip(cell, shape, strict=True)]
    where = "cell over sampling"
    if min(over_extent) > 0 and not _equal(size, 1e-2) and _equal(over_extent, 1e-3):
        size, where = over_extent, "cell over extent: the sampling in the header is wrong"
    if shape[0] == 1 and size[0] <= 0 and min(size[1:]) > 0:
        size, where = [size[2], *size[1:]], "cell over sampling; z as x, one section only"
    known = known_voxel_size(size)
    return known, where if known else "unknown"


def _equal(size: list[float], tolerance: float) -> bool:
    return min(size) > 0 and max(size) <= min(size) * (1 + tolerance)
