"""Files that are either whole or not there: written beside their place, then renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deepfinder_dask.errors import InputError, OutputExistsError, StorageError


def existing_file(path: str | Path, what: str) -> Path:
    """Path of a file that must be there.

    Raises
    ------
    InputError
        There is no such file, or it is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: expected {what}, found a folder")
    if not path.is_file():
        raise InputError(f"{path}: no such file (expected {what})")
    return path


def refuse_existing(paths: list[Path], overwrite: bool) -> None:
    """Refuse to replace outputs unless told to.

    Raises
    ------
    OutputExistsError
        One of them is there and ``overwrite`` is False.
    """
    if not overwrite:
        for path in paths:
            if path.exists():
                raise OutputExistsError(f"{path} exists already; choose another name or pass --overwrite")


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it into place when the block ends well, else remove it.

    The folder of ``path`` is made when missing. A reader never sees half a file, and an older file stays whole until
    the new one is.

    Raises
    ------
    StorageError
        Disk full, no permission, or another refusal of the file system.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()
