"""Gzip and bzip2 files: unpacked once into a temporary file, since their data cannot be read out of order."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import socket
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from deepfinder_dask.errors import FormatError
from deepfinder_dask.tomograms.location import storage_errors

GZIP, BZIP2 = b"\x1f\x8b", b"BZh"
PIECE = 4 * 2**20
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError)


def compression_of(path: str) -> str | None:
    """How a file is compressed, "gzip", "bzip2" or None, by its first bytes (not by its name)."""
    with Path(path).open("rb") as file:
        start = file.read(3)
    return "gzip" if start.startswith(GZIP) else "bzip2" if start == BZIP2 else None


def _unpacked(path: str) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path) if compression_of(path) == "gzip" else bz2.open(path))


@contextmanager
def _damage(path: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGED as error:
        raise FormatError(f"{path} is damaged: {error}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise FormatError(f"{path} is damaged: {error}") from error


def peek(path: str, size: int) -> bytes:
    """The first bytes of what a compressed file holds.

    Raises
    ------
    FormatError
        If the compressed data is damaged.
    """
    with _damage(path), _unpacked(path) as file:
        return file.read(size)


@contextmanager
def expanded(path: str, folder: Path) -> Iterator[str]:
    """A temporary unpacked copy of a compressed file, removed at the end.

    Parameters
    ----------
    path : str
        The gzip or bzip2 file.
    folder : Path
        Where the copy goes: room for the unpacked file is needed there.

    Raises
    ------
    FormatError
        If the compressed data is damaged.
    StorageError
        If the folder is full or may not be written.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        prefix = f"{_mark()}{os.getpid()}-"
        copy = tempfile.NamedTemporaryFile(dir=folder, prefix=prefix, suffix=".partial")  # noqa: SIM115  # closed below
    with copy:
        with _damage(path), storage_errors(folder), _unpacked(path) as file:
            shutil.copyfileobj(file, copy, PIECE)
            copy.flush()
        yield copy.name


def _mark() -> str:
    """How the copies of this machine are named, before the number of the process."""
    return f".unpacking-{socket.gethostname()}-"


def _sweep(folder: Path) -> None:
    """Remove the copies of processes of this machine that were killed."""
    for left in folder.glob(f"{_mark()}*.partial"):
        process = left.name.removeprefix(_mark()).split("-")[0]
        if process.isdigit() and not _alive(int(process)):
            left.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is there, and another user's
    return True
