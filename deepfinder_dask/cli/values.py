"""Values as they are written on the command line: sizes in bytes, three numbers with commas."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from cyclopts import Token

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


def parse_three(text: str, kind: type[int] | type[float]) -> tuple[Any, ...]:
    """One number, or three in the order z, y, x with commas between them.

    Raises
    ------
    ValueError
        If it is neither.
    """
    try:
        numbers = tuple(kind(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 3):
        what = "a whole number" if kind is int else "a number"
        raise ValueError(f"expected {what}, or three as Z,Y,X, got {text!r}")
    return numbers


def converter(function: Callable[[str], Any]) -> Callable[[Any, Sequence[Token]], Any]:
    """A converter for Cyclopts from a function of one word."""

    def convert(kind: Any, tokens: Sequence[Token]) -> Any:
        return function(tokens[0].value)

    return convert


def to_shape(text: str) -> tuple[int, int, int]:
    """Three whole numbers z, y, x; one number stands for three."""
    numbers = parse_three(text, int)
    return numbers if len(numbers) == 3 else numbers * 3


def to_voxel_size(text: str) -> float | tuple[float, float, float]:
    """Å per voxel: one number, or three z, y, x."""
    numbers = parse_three(text, float)
    return numbers if len(numbers) == 3 else numbers[0]


def to_sizes(text: str) -> int | dict[str, int]:
    """A size in voxels for all classes, or sizes by class: ``50``, or ``ring=50,rod=20``.

    Raises
    ------
    ValueError
        If it is neither, or names a class twice.
    """
    pairs = [part.rpartition("=") for part in text.split(",")]
    try:
        sizes = {name.strip(): int(size) for name, _, size in pairs}
    except ValueError:
        sizes = {}
    named = all(equals for _, equals, _ in pairs)
    if len(sizes) != len(pairs) or not (named or len(pairs) == 1) or named == ("" in sizes):
        raise ValueError(f"expected a number of voxels, or one for each class as NAME=VOXELS,…, got {text!r}")
    return sizes if named else sizes[""]
