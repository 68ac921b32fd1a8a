"""Values as they are written on the command line: sizes in bytes, three numbers with commas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cyclopts import Token

from deepfinder_dask.execution.sizes import UNITS, format_bytes, to_bytes

__all__ = ["UNITS", "converter", "format_bytes", "parse_three", "to_bytes", "to_shape", "to_sizes", "to_voxel_size"]


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
