"""Whether an input file is still the one that results were made from: by size and time first, by content where they
differ.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepfinder_dask.tomograms.location import is_remote
from deepfinder_dask.tomograms.sources import split_dataset

PIECE = 2**22
"""Bytes of a file that are hashed at a time."""


def stamp_of(source: str) -> dict[str, Any]:
    """Size in bytes and time of change of a file, or of all files of a store; empty for URLs and what is not there."""
    file = split_dataset(source)[0]
    path = Path(file)
    if is_remote(file) or not path.exists():
        return {}
    if path.is_file():
        status = path.stat()
        return {"bytes": status.st_size, "modified": status.st_mtime_ns}
    each = [one.stat() for one in path.rglob("*") if one.is_file()]
    return {"bytes": sum(s.st_size for s in each), "modified": max((s.st_mtime_ns for s in each), default=0)}


def identify(source: str) -> dict[str, Any]:
    """Stamp and SHA-256 of an input; of a store, over the names and contents of all its files.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    stamp = stamp_of(source)  # first: a file that changes meanwhile has another one afterwards
    if not stamp:
        return {"sha256": None}
    path = Path(split_dataset(source)[0])
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file()):
        if file != path:
            digest.update(f"{file.relative_to(path).as_posix()}\0".encode())
        with file.open("rb") as stream:
            while piece := stream.read(PIECE):
                digest.update(piece)
    return {**stamp, "sha256": digest.hexdigest()}


def has_changed(source: str, held: Mapping[str, Any]) -> bool:
    """Whether an input has other bytes than it had; one that cannot be reached counts as unchanged.

    Parameters
    ----------
    source : str
        The input.
    held : mapping
        What :func:`identify` gave then.
    """
    try:
        stamp = stamp_of(source)
        if not stamp or not held.get("sha256"):
            return False
        if all(held.get(key) == value for key, value in stamp.items()):
            return False
        return bool(stamp["bytes"] != held.get("bytes") or identify(source)["sha256"] != held["sha256"])
    except OSError:  # whoever needs to read it will tell
        return False
