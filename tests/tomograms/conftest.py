"""Writers of small tomogram files, independent of the code that reads them."""

from __future__ import annotations

import struct

import numpy as np
import pytest

CODES = {"int8": 0, "uint8": 0, "int16": 1, "float32": 2, "uint16": 6, "float16": 12}


def write_mrc(
    path,
    values,
    *,
    voxel_size=10.0,
    order="<",
    axes=(1, 2, 3),
    mode=None,
    extended=0,
    stamp=b"MAP ",
    extremes=(0.0, -1.0),
    imod_flags=None,
    grid=None,
    cell=None,
    origin=(0.0, 0.0, 0.0),
    labels=(),
):
    """Write ``values`` (z, y, x) as an MRC file, stored with the axes MAPC, MAPR, MAPS given."""
    stored = np.transpose(values, [3 - a for a in axes[::-1]])  # axis of (z, y, x) for sections, rows, columns
    code = CODES[values.dtype.name] if mode is None else mode
    size = np.broadcast_to(np.asarray(voxel_size, float), 3)  # x, y, z
    extent = values.shape[::-1]
    header = bytearray(1024)
    struct.pack_into(order + "4i", header, 0, *stored.shape[::-1], code)
    struct.pack_into(order + "3i", header, 28, *(grid or extent))
    struct.pack_into(
        order + "6f", header, 40, *(cell or [n * v for n, v in zip(extent, size, strict=True)]), 90, 90, 90
    )
    struct.pack_into(order + "3i", header, 64, *axes)
    struct.pack_into(order + "2f", header, 76, *extremes)
    struct.pack_into(order + "2i", header, 88, 1, extended)
    if imod_flags is not None:
        struct.pack_into(order + "2i", header, 152, 1146047817, imod_flags)
    struct.pack_into(order + "3f", header, 196, *origin)
    header[208 : 208 + len(stamp)] = stamp
    if stamp:
        header[212:214] = b"\x44\x44" if order == "<" else b"\x11\x11"
    struct.pack_into(order + "i", header, 220, len(labels))
    for i, label in enumerate(labels):
        header[224 + 80 * i : 224 + 80 * i + len(label)] = label
    if code == 101:
        padded = np.pad(stored, [(0, 0), (0, 0), (0, stored.shape[2] % 2)])
        data = (padded[..., 0::2] | (padded[..., 1::2] << 4)).astype(np.uint8).tobytes()
    else:
        data = np.ascontiguousarray(stored).astype(stored.dtype.newbyteorder(order)).tobytes()
    path.write_bytes(bytes(header) + b"\xab" * extended + data)
    return path


@pytest.fixture(scope="session")
def mrc():
    """Function that writes an MRC file."""
    return write_mrc


@pytest.fixture(scope="session")
def noise():
    """Function (shape, dtype, seed) -> grey values of that type."""

    def make(shape, dtype="float32", seed=0):
        rng = np.random.default_rng(seed)
        dtype = np.dtype(dtype)
        if dtype.kind == "f":
            return (rng.normal(size=shape) * 3 + 20).astype(dtype)
        bounds = np.iinfo(dtype)
        return rng.integers(bounds.min, bounds.max, shape, dtype=dtype, endpoint=True)

    return make
