"""The journal of a session: every edit on disk before anybody hears of it.

::

    particles.parquet.journal/
    ├── start.parquet    particles that the session started from, often none; classes and tomogram
    └── edits.jsonl      one line an edit, only ever appended to

A line counts when its line break is there: a kill in the middle of one loses that edit only, of which nobody was told.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from deepfinder_dask.errors import FormatError, StorageError
from deepfinder_dask.particles.files import atomic_write
from deepfinder_dask.particles.table import Particles

VERSION = 1
"""Version of the lines; readers refuse a newer one."""
START = "start.parquet"
EDITS = "edits.jsonl"


def folder_of(output: Path) -> Path:
    """Where the journal of an output lies."""
    return output.with_name(f"{output.name}.journal")


def digest(path: Path) -> str | None:
    """SHA-256 of a file, None where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def encode(line: Mapping[str, Any]) -> bytes:
    """A line as it stands in the file."""
    return json.dumps(line, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def begin(folder: Path, start: Particles, facts: Mapping[str, Any]) -> None:
    """Make a journal without edits; it is there, whole, from the last rename on.

    Raises
    ------
    StorageError
        It cannot be written.
    """
    start.write(folder / START)
    with atomic_write(folder / EDITS) as temporary:
        temporary.write_bytes(encode({"journal": VERSION, **facts}))


def exists(folder: Path) -> bool:
    """Whether there is a journal."""
    return (folder / EDITS).is_file()


class Journal:
    """An open journal: what it said when it was opened, and a place to append to.

    Raises
    ------
    FormatError
        It is damaged before its last line, or of a newer version.
    StorageError
        It cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / EDITS
        self.start = Particles.read(folder / START)
        try:
            self._file = os.open(self.path, os.O_RDWR)
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be written: {error.strerror}") from error
        try:
            self.facts, self.lines, self._end = self._read()
            # What a kill left of a line must not become the beginning of the next one.
            self._cut()
        except (FormatError, StorageError):
            self.close()
            raise

    def _read(self) -> tuple[dict[str, Any], list[dict[str, Any]], int]:
        content = self.path.read_bytes()
        end = content.rfind(b"\n") + 1
        lines: list[dict[str, Any]] = []
        for number, text in enumerate(content[:end].split(b"\n")[:-1], 1):
            try:
                line = json.loads(text)
            except ValueError as error:
                raise FormatError(f"{self.path}: line {number} is damaged: {error}") from error
            if not isinstance(line, dict):
                raise FormatError(f"{self.path}: line {number} is damaged: expected an object")
            lines.append(line)
        if not lines or "journal" not in lines[0]:
            raise FormatError(f"{self.path}: not a journal of annotations: its first line is missing")
        if lines[0]["journal"] != VERSION:
            raise FormatError(f"{self.path}: written by a newer version (journal {lines[0]['journal']}): update")
        return lines[0], lines[1:], end

    def append(self, line: Mapping[str, Any]) -> None:
        """Write a line, on disk when this returns.

        Raises
        ------
        StorageError
            Disk full or the like; the journal is as before.
        """
        data = encode(line)
        try:
            os.lseek(self._file, self._end, os.SEEK_SET)
            written = os.write(self._file, data)
            if written < len(data):
                written += os.write(self._file, data[written:])
            os.fsync(self._file)
        except OSError as error:
            with suppress(StorageError):
                self._cut()
            raise StorageError(f"{self.path}: cannot be written: {error.strerror or error}") from error
        self._end += len(data)

    def _cut(self) -> None:
        try:
            os.ftruncate(self._file, self._end)
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be written: {error.strerror or error}") from error

    def close(self) -> None:
        """Let go of the file."""
        with suppress(OSError):
            os.close(self._file)
