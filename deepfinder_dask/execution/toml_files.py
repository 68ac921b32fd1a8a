"""TOML files that say what is done: found by path or by name, read, and complained of by line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deepfinder_dask.errors import SettingsError

_HEADER = re.compile(r"\s*\[\[?\s*([A-Za-z0-9_.\-\"]+)\s*\]\]?\s*(#.*)?$")


class KeyedError(SettingsError):
    """A key has a value that cannot work."""

    def __init__(self, message: str, key: str, table: str = "", number: int = 0) -> None:
        super().__init__(message)
        self.key, self.table, self.number = key, table, number


def find_toml(source: str | Path, shipped: Path, what: str) -> Path:
    """Path of a TOML file: the file itself, or the one of that name that comes with the package.

    Parameters
    ----------
    source : str or path
        Path or name.
    shipped : Path
        Folder of those that come with the package.
    what : str
        What it is, for the message: ``campaign``.

    Raises
    ------
    SettingsError
        If there is neither.
    """
    path, packaged = Path(source), shipped / f"{source}.toml"
    if path.is_file():
        return path
    if packaged.is_file():
        return packaged
    names = ", ".join(sorted(p.stem for p in shipped.glob("*.toml")))
    raise SettingsError(f"no {what} file {str(source)!r}; give a TOML file or one of: {names}")


@contextmanager
def toml_tables(path: Path) -> Iterator[dict[str, Any]]:
    """The tables of a TOML file; a :class:`KeyedError` raised meanwhile leaves with the line of its key.

    Raises
    ------
    SettingsError
        If the file cannot be read, is no TOML, or a key cannot work.
    """
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path.name} is no valid TOML: {error}") from error
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        yield tables
    except KeyedError as error:
        line = line_of(text, error.key, error.table, error.number) or line_of(text, "", error.table, error.number)
        raise SettingsError(f"{path.name}{f', line {line}' if line else ''}: {error}") from error


def line_of(text: str, key: str, table: str = "", number: int = 0) -> int | None:
    """Line of a key, counted from 1.

    Parameters
    ----------
    text : str
        A valid TOML file.
    key : str
        The key, or the name of a table; empty for the header of ``table``.
    table : str
        Table that the key is in; empty for keys before the first table.
    number : int
        Which of the tables of that name, counted from 0.

    Returns
    -------
    int or None
        None where the key does not stand at the start of a line.
    """
    assigned = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=") if key else None
    header, count = "", {"": 0}
    for at, line in enumerate(text.splitlines(), 1):
        found = _HEADER.match(line)
        if found:
            header = found[1].strip('"')
            count[header] = count.get(header, -1) + 1
            if not table and header == key:
                return at
        here = header == table and count[header] == number
        if here and ((assigned and assigned.match(line)) or (found and not assigned)):
            return at
    return None
