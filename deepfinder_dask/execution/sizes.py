"""Sizes in bytes as people write them."""

from __future__ import annotations

import re

UNITS = {
    "": 1,
    "B": 1,
    **{f"{letter}iB": 1024**power for power, letter in enumerate("KMGT", 1)},
    **{f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)},
    **{letter: 1024**power for power, letter in enumerate("KMGT", 1)},
}
"""Bytes per unit: GiB and G are 1024³, GB is 1000³."""


def to_bytes(text: str) -> int:
    """Bytes from ``8GiB``, ``500 MB`` or a plain number.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip(), re.IGNORECASE)
    units = {name.lower(): size for name, size in UNITS.items()}
    if match is None or match[2].lower() not in units:
        raise ValueError(f"expected a size such as 8GiB or 500MB, got {text!r}")
    return int(float(match[1]) * units[match[2].lower()])


def format_bytes(size: int) -> str:
    """A number of bytes as it may be written: ``4GiB``."""
    for power, letter in ((4, "T"), (3, "G"), (2, "M"), (1, "K")):
        if size and size % 1024**power == 0:
            return f"{size // 1024**power}{letter}iB"
    return str(size)


def bytes_in_words(size: float) -> str:
    """A number of bytes to be read: ``3.2 GiB``."""
    for power, letter in ((4, "T"), (3, "G"), (2, "M"), (1, "K")):
        if size >= 1024**power:
            return f"{size / 1024**power:.3g} {letter}iB"
    return f"{size:.0f} B"
