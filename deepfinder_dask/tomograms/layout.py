"""How arrays lie in a store: chunks, shards, compression, versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from deepfinder_dask.blocks import Shape3, triple
from deepfinder_dask.errors import SettingsError

CHUNK: Shape3 = (64, 64, 64)
"""Chunk in voxels: the best size for reads with a halo."""
SHARD: Shape3 = (128, 128, 256)
"""Shard in voxels: 16 MiB of 32-bit values to a file (from 32 MiB the C library returns memory after every write)."""


def fit_chunks(
    shape: Sequence[int], chunk: int | Sequence[int] = CHUNK, shard: Sequence[int] | None = SHARD
) -> tuple[Shape3, Shape3 | None]:
    """Chunk and shard, (z, y, x), for a volume: no larger than it, the shard whole chunks; None without shards.

    Parameters
    ----------
    shape : sequence of int
        Volume in voxels; the last three axes are used.
    chunk : int or sequence of int
        Wished chunk in voxels, one number or (z, y, x).
    shard : sequence of int or None
        Wished shard in voxels, (z, y, x): rounded up to whole chunks.
    """
    wished = triple([chunk] * 3 if isinstance(chunk, int) else chunk)
    if min(wished) < 1 or (shard is not None and min(shard) < 1):
        raise SettingsError(f"chunks and shards are at least one voxel on each axis, got {wished} and {shard}")
    space = triple(shape[-3:])
    chunks = triple(max(1, min(c, n)) for c, n in zip(wished, space, strict=True))
    if shard is None:
        return chunks, None
    shards = triple(-(-min(s, n) // c) * c for s, n, c in zip(shard, space, chunks, strict=True))
    return chunks, shards


def zarr_format(ome_zarr: str) -> Literal[2, 3]:
    """The Zarr format that a version of OME-Zarr stands on."""
    if ome_zarr not in ("0.5", "0.4"):
        raise SettingsError(f"expected OME-Zarr version 0.5 or 0.4, got {ome_zarr!r}")
    return 3 if ome_zarr == "0.5" else 2


def compressors(dtype: np.dtype[Any], compression: str, *, v3: bool) -> Any:
    """What zarr's ``create_array`` wants as ``compressors``; in Zarr v3 each chunk has a checksum (CRC-32C) at its end.

    A bit that a disk turns would otherwise be read as another grey value or label, and nobody would know.
    """
    if compression not in ("auto", "lz4", "none"):
        raise SettingsError(f"expected compression auto, lz4 or none, got {compression!r}")
    plain = compression == "none" or (compression == "auto" and dtype.kind == "f")
    if v3:
        from zarr.codecs import BloscCodec, Crc32cCodec

        if plain:
            return [Crc32cCodec()]
        return [BloscCodec(cname="lz4", clevel=3, shuffle="shuffle", typesize=dtype.itemsize), Crc32cCodec()]
    if plain:
        return None
    from numcodecs import Blosc  # type: ignore[import-untyped]  # ships no types

    return Blosc(cname="lz4", clevel=3, shuffle=Blosc.SHUFFLE)
