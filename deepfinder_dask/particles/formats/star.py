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
_TEXT = ["rlnTomoName", "rlnOpticsGroupName", "rlnTomoParticleName"]


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
    tables = {
        str(name): block if isinstance(block, pd.DataFrame) else pd.DataFrame([block])
        for name, block in blocks.items()
        if block is not None
    }
    if not tables:
        raise FormatError(f"{path}: not a STAR file: no data_ block in it")
    return tables


def write_star(blocks: Mapping[str, pd.DataFrame], path: Path) -> None:
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
    comment = f"{VERSION}\n\n"
    with atomic_write(path) as temporary:
        for name, block in blocks.items():
            plain = pd.DataFrame({column: [_cell(v) for v in block[column].tolist()] for column in block}, dtype=object)
            starfile.write({name: plain}, temporary)
            text = temporary.read_text(encoding="utf-8")
            texts.append("\n" + comment + text[text.index("data_") :].strip("\n") + "\n\n")
            comment = f"{VERSION}\n\n" if len(block) else ""  # starfile takes a comment after an empty loop for a row
        temporary.write_text("".join(texts), encoding="utf-8")


def _cell(value: object) -> str:
    """One value as STAR text."""
    if not isinstance(value, str):
        return repr(float(value)) if isinstance(value, float) else str(value)
    if not re.fullmatch(r"[^\s\"'#_][^\s\"'#]*", value) or value in ("nan", "NaN", "<NA>") or value.startswith("data_"):
        raise SettingsError(f"STAR files cannot hold the name {value!r}; use letters, digits, and . - _ inside")
    return value
