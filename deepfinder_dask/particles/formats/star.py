"""STAR files: syntax only; what the columns mean is up to the formats that use them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import starfile

from deepfinder_dask.errors import FormatError, SettingsError
from deepfinder_dask.particles.files import atomic_write, existing_file

VERSION = "# version 50001"
"""Comment before each block by which RELION 5 knows its own files."""
OLDER_VERSION = "# version 30001"
"""The same of RELION 3.1 and 4."""
_TEXT = ["rlnTomoName", "rlnOpticsGroupName", "rlnTomoParticleName", "rlnMicrographName", "rlnParticleName"]
_MOST = 1 << 20


def star_labels(path: Path) -> frozenset[str]:
    """Names of blocks (``data_…``) and columns that a STAR file begins with, without reading its rows.

    Only the first MiB is looked at; a file that is no text has none.
    """
    with path.open("rb") as stream:
        text = stream.read(_MOST).decode("utf-8", errors="replace")
    if "\x00" in text:
        return frozenset()
    lines = (line.strip() for line in text.splitlines())
    words = (line.split()[0] for line in lines if line.startswith(("_", "data_")))
    found = frozenset(word.removeprefix("_") for word in words)
    return found if any(one.startswith("data_") for one in found) else frozenset()


def read_star(path: str | Path) -> dict[str, pd.DataFrame]:
    """Blocks of a STAR file by name, each as a table; a block of single values is a table of one row.

    Raises
    ------
    InputError
        There is no such file.
    FormatError
        Not a STAR file, or damaged.
    """
    path = existing_file(path, "a STAR file")
    try:
        blocks = starfile.read(path, always_dict=True, parse_as_string=_TEXT)
    except (ValueError, IndexError, KeyError, AttributeError, TypeError, SyntaxError) as error:
        raise FormatError(f"{path}: not a whole STAR file: {' '.join(str(error).split())}") from error
    twice = [
        f"{column} in {name!r}"
        for name, block in blocks.items()
        if isinstance(block, pd.DataFrame)
        for column in dict.fromkeys(block.columns[block.columns.duplicated()])
    ]
    if twice:
        raise FormatError(f"{path}: column {twice[0]} stands there twice")
    tables = {
        str(name): block if isinstance(block, pd.DataFrame) else pd.DataFrame([block])
        for name, block in blocks.items()
        if block is not None
    }
    if not tables:
        raise FormatError(f"{path}: not a STAR file: no data_ block in it")
    return tables


def write_star(blocks: Mapping[str, pd.DataFrame], path: Path, version: str = VERSION) -> None:
    """Write tables as the blocks of a file, whole or not at all.

    Numbers take the shortest form that reads back to the same bits.

    Raises
    ------
    SettingsError
        A text cannot stand in a STAR file.
    StorageError
        The file cannot be written.
    """
    texts = []
    comment = head = f"{version}\n\n" if version else ""
    with atomic_write(path) as temporary:
        for name, block in blocks.items():
            plain = pd.DataFrame({column: [_cell(v) for v in block[column].tolist()] for column in block}, dtype=object)
            starfile.write({name: plain}, temporary)
            text = temporary.read_text(encoding="utf-8")
            texts.append("\n" + comment + text[text.index("data_") :].strip("\n") + "\n\n")
            comment = head if len(block) else ""  # starfile takes a comment after an empty loop for a row
        temporary.write_text("".join(texts), encoding="utf-8")


def _cell(value: object) -> str:
    """One value as STAR text."""
    if not isinstance(value, str):
        return repr(float(value)) if isinstance(value, float) else str(value)
    if not re.fullmatch(r"[^\s\"'#_][^\s\"'#]*", value) or value in ("nan", "NaN", "<NA>") or value.startswith("data_"):
        raise SettingsError(f"STAR files cannot hold the name {value!r}; use letters, digits, and . - _ inside")
    return value
