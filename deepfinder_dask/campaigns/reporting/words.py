"""Numbers, times and settings as the page writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def duration(seconds: float | None) -> str:
    """``0.4 s``, ``12 s``, ``3 min 5 s``, ``2 h 10 min``, ``3 d 4 h``; a dash for nothing."""
    if not seconds:
        return "–"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def whole(number: float) -> str:
    """A whole number with thin spaces between thousands."""
    return f"{number:,.0f}".replace(",", "\u202f")


def flattened(values: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Nested settings as lines of name and value; those that say nothing (null) are left out."""
    lines: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            lines += flattened(value, f"{name}.")
        elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
            for number, one in enumerate(value):
                lines += flattened(one, f"{name}.{number}.")
        elif isinstance(value, list):
            lines.append((name, ", ".join(str(one) for one in value)))
        elif value is not None:
            words = ("no", "yes")[value] if isinstance(value, bool) else str(value)
            lines.append((name, words))
    return lines
