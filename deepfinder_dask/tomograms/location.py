"""Where a Zarr store lives: a local path, ``file://`` or any fsspec URL.

Credentials and other options of remote file systems come from fsspec's own configuration (environment variables such as
``FSSPEC_S3_ANON=true``, or ``~/.config/fsspec``), so that a location is always one string.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from deepfinder_dask.errors import FormatError, StorageError

if TYPE_CHECKING:
    from zarr.abc.store import Store

AnyPath = str | PathLike[str]
"""A local path, a ``file://`` URL or any fsspec URL."""

ROOT_METADATA = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
"""Files one of which makes a folder a Zarr node (``.zattrs`` alone does not)."""

_REASONS = {
    errno.ENOSPC: "the disk is full: free some space or choose another output",
    errno.EDQUOT: "the disk quota is used up: free some space or choose another output",
    errno.EFBIG: "a file grew over the allowed size (see `ulimit -f`): raise the limit or choose another output",
    errno.EACCES: "no permission: choose another output",
    errno.EPERM: "no permission: choose another output",
    errno.EROFS: "the file system is read-only: choose another output",
}


def normalise(path: AnyPath) -> str:
    """An absolute local path, or the URL as it is; ``file://`` URLs become local paths."""
    text = fspath(path)
    if text.startswith("file://"):
        text = unquote(urlsplit(text).path)
    if "://" in text:
        return text.rstrip("/")
    return str(Path(text).expanduser().absolute())


def is_remote(path: AnyPath) -> bool:
    """Whether the path is a URL that fsspec must open."""
    return "://" in normalise(path)


def is_inside(path: AnyPath, folder: AnyPath) -> bool:
    """Whether a location is another one, or lies inside it."""
    inner, outer = normalise(path), normalise(folder)
    if "://" not in inner and "://" not in outer:
        inner, outer = str(Path(inner).resolve()), str(Path(outer).resolve())
    return inner == outer or inner.startswith(f"{outer}/")


def base_name(path: AnyPath) -> str:
    """Name of a store or file without folders and without the endings of tomogram files."""
    name = normalise(path).rsplit("/", 1)[-1]
    for ending in (
        ".gz",
        ".bz2",
        ".zarr",
        ".ome",
        ".mrc",
        ".rec",
        ".map",
        ".st",
        ".ccp4",
        ".tiff",
        ".tif",
        ".h5",
        ".hdf5",
        ".hdf",
    ):
        if name.lower().endswith(ending) and len(name) > len(ending):
            name = name[: -len(ending)]
    return name


@contextmanager
def storage_errors(path: AnyPath) -> Iterator[None]:
    """Turn a full disk, a missing permission and other system errors into a one-line :class:`StorageError`."""
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, f"{error.strerror or error}: choose another output")
        raise StorageError(f"cannot write {path}: {reason}") from error


def open_store(path: AnyPath, *, read_only: bool) -> Store:
    """The zarr store at a location; nothing is read or created.

    Raises
    ------
    FormatError
        If no installed fsspec plug-in knows the protocol of the URL.
    """
    from zarr.storage import FsspecStore, LocalStore

    location = normalise(path)
    if "://" not in location:
        return LocalStore(location, read_only=read_only)
    with _remote_errors(location):
        return FsspecStore.from_url(location, read_only=read_only)


def read_key(path: AnyPath, key: str) -> bytes | None:
    """Bytes of one key of a store, or None where it does not exist."""
    location = normalise(path)
    if "://" not in location:
        file = Path(location, key)
        return file.read_bytes() if file.is_file() else None
    with _remote_errors(location):
        file_system, inner = _file_system(location)
        try:
            return bytes(file_system.cat_file(f"{inner}/{key}"))
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError, KeyError):
            return None  # stores that may not be listed answer "forbidden" for what is not there


def _file_system(location: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path inside it."""
    import fsspec

    file_system, inner = fsspec.core.url_to_fs(location)
    return file_system, inner


@contextmanager
def _remote_errors(location: str) -> Iterator[None]:
    """Turn a missing plug-in, an unknown protocol or a dead connection into one line."""
    try:
        yield
    except (ImportError, ValueError, OSError) as error:
        raise FormatError(f"cannot open {location}: {error}".splitlines()[0]) from error


def is_zarr(path: AnyPath) -> bool:
    """Whether a Zarr group or array is there."""
    return any(read_key(path, key) is not None for key in ROOT_METADATA[:3])


def exists(path: AnyPath) -> bool:
    """Whether anything is there; an empty folder counts as nothing."""
    location = normalise(path)
    if "://" not in location:
        local = Path(location)
        if local.is_dir() and not local.is_symlink():
            return any(local.iterdir())
        return local.exists() or local.is_symlink()
    with _remote_errors(location):
        file_system, inner = _file_system(location)
        return bool(file_system.exists(inner)) and (not file_system.isdir(inner) or bool(file_system.ls(inner)))


def remove_store(path: AnyPath) -> None:
    """Delete a whole Zarr store, its root metadata last: an interrupted removal still is a Zarr node.

    The caller has made sure that the store may go, and that its root says "writing" (so that what is left of an
    interrupted removal cannot be taken for whole).
    """
    location = normalise(path)
    if "://" in location:
        file_system, inner = _file_system(location)
        if file_system.exists(inner):
            file_system.rm(inner, recursive=True)
        return
    root = Path(location)
    if not root.is_dir():
        return
    for child in root.iterdir():
        if child.name in ROOT_METADATA:
            continue
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()
    for name in ROOT_METADATA:
        (root / name).unlink(missing_ok=True)
    root.rmdir()
