"""Small files in a local folder or under a URL, each written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol


def files_in(folder: str) -> SmallFiles:
    """Files of a local folder, or of an fsspec URL."""
    return RemoteFiles(folder) if "://" in folder else LocalFiles(folder)


class SmallFiles(Protocol):
    """Small files by name, with a slash between folders; each is written whole or not at all."""

    def read(self, name: str) -> bytes | None:
        """Content of a file, None where there is none."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Write or replace a file."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        ...

    def walk(self, folder: str, *, contents: bool = True) -> Iterator[tuple[str, bytes | None]]:
        """Names of all files in a folder and its folders, with their contents; None for half-written ones."""
        ...

    def sweep(self) -> None:
        """Remove what a kill left half-written at the top."""
        ...


class LocalFiles:
    """Files of a local folder."""

    def __init__(self, folder: str) -> None:
        self.root = Path(folder)

    def read(self, name: str) -> bytes | None:
        """Content of a file, None where there is none."""
        try:
            return (self.root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def write(self, name: str, content: bytes) -> None:
        """Write a file under another name, and rename it."""
        path = self.root / name
        half = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
        try:
            half.write_bytes(content)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            half.write_bytes(content)
        half.replace(path)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        (self.root / name).unlink(missing_ok=True)

    def walk(self, folder: str, *, contents: bool = True) -> Iterator[tuple[str, bytes | None]]:
        """All files in a folder and its folders."""
        top = self.root / folder
        if not top.is_dir():
            return
        for parent, _, names in os.walk(top):
            inner = Path(parent).relative_to(self.root).as_posix()
            for name in names:
                content = None
                if contents and not name.endswith(".partial"):
                    content = self.read(f"{inner}/{name}")
                yield f"{inner}/{name}", content

    def sweep(self) -> None:
        """Remove what a kill left half-written beside the plan."""
        for half in self.root.glob(".*.partial"):
            half.unlink(missing_ok=True)


class RemoteFiles:
    """Objects under an fsspec URL; a store writes an object whole or not at all."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def _open(self) -> tuple[Any, str]:
        import fsspec

        file_system, root = fsspec.core.url_to_fs(self.url)
        return file_system, root

    def read(self, name: str) -> bytes | None:
        """Content of a file, None where there is none."""
        files, root = self._open()
        try:
            return bytes(files.cat_file(f"{root}/{name}"))
        except (FileNotFoundError, IsADirectoryError):
            return None

    def write(self, name: str, content: bytes) -> None:
        """Write an object."""
        files, root = self._open()
        parent = f"{root}/{name}".rsplit("/", 1)[0]
        files.makedirs(parent, exist_ok=True)
        files.pipe_file(f"{root}/{name}", content)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        files, root = self._open()
        try:
            files.rm_file(f"{root}/{name}")
        except FileNotFoundError:
            return

    def walk(self, folder: str, *, contents: bool = True) -> Iterator[tuple[str, bytes | None]]:
        """All files in a folder and its folders."""
        files, root = self._open()
        files.invalidate_cache()
        paths = files.find(f"{root}/{folder}")
        held = files.cat(paths, on_error="omit") if contents and paths else {}
        for path in paths:
            yield path[len(root) + 1 :], held.get(path)

    def sweep(self) -> None:
        """Nothing is ever half-written here."""
