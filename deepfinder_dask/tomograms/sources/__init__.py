"""Files that can be converted, one module per family behind one protocol.

In: the path of a file. Out: a :class:`Source` that gives shape, type, voxel size, header facts, and rows of voxels in
z, y, x, in bounded memory. The family is told by the first bytes of a file, not by its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deepfinder_dask.errors import FormatError
from deepfinder_dask.tomograms.location import AnyPath, is_remote, is_zarr, normalise
from deepfinder_dask.tomograms.sources.compressed import compression_of, expanded, peek
from deepfinder_dask.tomograms.sources.mrc_header import HEADER_BYTES
from deepfinder_dask.tomograms.sources.protocol import Source, Span

__all__ = ["Source", "Span", "open_source", "split_dataset"]

ENDINGS = (".mrc", ".rec", ".map", ".st", ".ccp4", ".mrcs", ".ali", ".tif", ".tiff", ".h5", ".hdf5", ".hdf", ".zarr")
"""Endings that mark a tomogram when a folder is searched, each also with ``.gz`` or ``.bz2``."""
TILT_STACKS = (".st", ".ali", ".mrcs")

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HDF5 = b"\x89HDF\r\n\x1a\n"


def split_dataset(path: AnyPath) -> tuple[str, str | None]:
    """File and dataset of ``file.h5:/path``; the dataset is None without one."""
    location = normalise(path)
    file, colon, dataset = location.rpartition(":/")
    if colon and not dataset.startswith("/") and Path(file).is_file():
        return file, f"/{dataset}"
    return location, None


@contextmanager
def open_source(path: AnyPath, scratch: Path) -> Iterator[Source]:
    """Open a tomogram file of any known family, and close it at the end.

    Parameters
    ----------
    path : str or path
        File, Zarr store (also a URL), or ``file.h5:/dataset``.
    scratch : Path
        Folder for the temporary copy of a gzip or bzip2 file.

    Raises
    ------
    FormatError
        If there is no such file, or none that can be read.
    """
    location, dataset = split_dataset(path)
    if is_remote(location) or is_zarr(location):
        source = _open_zarr(location)
    else:
        file = Path(location)
        if not file.is_file():
            found = "a folder that is no Zarr store" if file.is_dir() else "nothing"
            raise FormatError(f"no such tomogram: {location} ({found} is there)")
        if compression_of(location):
            with expanded(location, scratch) as copy, _closing(_open_file(copy, location, dataset)) as source:
                source.path = location
                yield source
            return
        source = _open_file(location, location, dataset)
    with _closing(source):
        yield source


def kind_of(start: bytes) -> str:
    """Family of a file by its first bytes: "TIFF", "HDF5", or else "MRC", which has no certain mark."""
    return "TIFF" if start[:4] in _TIFF else "HDF5" if start[:8] == _HDF5 else "MRC"


def first_bytes(path: str) -> bytes:
    """The first 1024 bytes of a file, or of what a compressed file holds."""
    if compression_of(path):
        return peek(path, HEADER_BYTES)
    with Path(path).open("rb") as file:
        return file.read(HEADER_BYTES)


def _open_file(path: str, name: str, dataset: str | None) -> Source:
    kind = kind_of(first_bytes(path))
    if kind == "TIFF":
        from deepfinder_dask.tomograms.sources.tiff import TiffSource

        return TiffSource(path)
    if kind == "HDF5":
        from deepfinder_dask.tomograms.sources.hdf5 import Hdf5Source

        return Hdf5Source(path, dataset)
    from deepfinder_dask.tomograms.sources.mrc import MrcSource

    return MrcSource(path, name)


def _open_zarr(location: str) -> Source:
    from deepfinder_dask.tomograms.sources.zarr_array import ZarrSource

    if is_remote(location) and not is_zarr(location):
        raise FormatError(f"expected a Zarr store at {location}, found none: files of other formats must be local")
    return ZarrSource(location)


@contextmanager
def _closing(source: Source) -> Iterator[Source]:
    try:
        yield source
    finally:
        source.close()
