"""What a server may read: the stores it was asked to show, and nothing around them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepfinder_dask.errors import FormatError
from deepfinder_dask.tomograms.location import AnyPath, is_remote, normalise

METADATA = (".zgroup", ".zarray", ".zattrs", ".zmetadata")
"""Files beginning with a dot that belong to Zarr; all others, such as a ledger, are nobody's business."""


class Refused(Exception):  # an answer, not an error of the program
    """A path that leads out of its store, or to what is not part of it."""


@dataclass(frozen=True)
class Served:
    """One file or object that may be read in parts."""

    place: str
    """Local path, or path in ``file_system``."""
    size: int
    """Bytes."""
    file_system: Any = None
    """File system of fsspec; None for local files."""

    def read(self, start: int, stop: int) -> bytes:
        """Bytes ``start`` to ``stop`` (exclusive)."""
        if self.file_system is not None:
            return bytes(self.file_system.cat_file(self.place, start=start, end=stop))
        with Path(self.place).open("rb") as file:
            file.seek(start)
            return file.read(stop - start)


@dataclass
class Stores:
    """Stores by the names under which they are served, and small documents made in memory."""

    roots: dict[str, str] = field(default_factory=dict)
    """Absolute local paths and fsspec URLs."""
    documents: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    """Media type and content by path, such as ``names/info``."""
    made: dict[str, Callable[[str], bytes]] = field(default_factory=dict)
    """Functions that give the content of ``NAME/KEY`` for a key, by name."""

    def make(self, path: str) -> bytes | None:
        """Content of ``NAME/KEY`` where a function makes it; None where that is none of its business.

        Raises
        ------
        FileNotFoundError
            There is nothing under this key.
        """
        name, _, key = path.partition("/")
        function = self.made.get(name)
        return None if function is None else function(key)

    def find(self, path: str) -> Served:
        """The file at ``NAME/KEY``.

        Parameters
        ----------
        path : str
            As a browser asked for it, decoded once.

        Raises
        ------
        Refused
            The path leads out of the store, by its words or by a link, or to a hidden file that is not Zarr's.
        FileNotFoundError
            There is nothing at it.
        """
        name, *parts = path.split("/")
        root = self.roots.get(name)
        if root is None:
            raise FileNotFoundError(path)
        for part in parts:
            hidden = part.startswith(".") and part not in METADATA
            if not part or hidden or "\\" in part or "\0" in part or ":" in part:
                raise Refused(path)
        if not parts:
            raise FileNotFoundError(path)
        return _find_remote(root, parts) if is_remote(root) else _find_local(Path(root), parts)

    def add(self, name: str, path: AnyPath) -> None:
        """Serve the store at a location under a name.

        Raises
        ------
        FormatError
            The name is taken by another store.
        """
        location = normalise(path)
        if self.roots.setdefault(name, location) != location:
            raise FormatError(f"expected a name for {location} that is not taken, got {name!r}")


def _find_local(root: Path, parts: list[str]) -> Served:
    """A file in a local store; links may lead to other places in the store, not out of it."""
    try:
        place = root.joinpath(*parts).resolve()
    except RuntimeError as error:  # links in a circle
        raise FileNotFoundError("/".join(parts)) from error
    if not place.is_relative_to(root.resolve()):
        raise Refused("/".join(parts))
    if not place.is_file():
        raise FileNotFoundError(place)
    return Served(str(place), place.stat().st_size)


def _find_remote(root: str, parts: list[str]) -> Served:
    """An object in a store behind fsspec."""
    import fsspec

    file_system, inner = fsspec.core.url_to_fs(root)
    place = "/".join([inner, *parts])
    try:
        facts = file_system.info(place)
    except PermissionError as error:
        raise FileNotFoundError(place) from error  # stores that may not be listed answer so for what is not there
    if facts.get("type") == "directory" or facts.get("size") is None:
        raise FileNotFoundError(place)
    return Served(place, int(facts["size"]), file_system)
