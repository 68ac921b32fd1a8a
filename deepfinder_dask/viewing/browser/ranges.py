"""The HTTP header ``Range``: which bytes of a file are asked for."""

from __future__ import annotations

import re

_PATTERN = re.compile(r"bytes=(\d*)-(\d*)")


class Unsatisfiable(ValueError):
    """The range begins after the end, or is none that is understood; the answer is 416."""


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and end (exclusive) of a request; None where the whole file is wanted.

    Parameters
    ----------
    header : str or None
        ``bytes=0-99``, ``bytes=100-`` or ``bytes=-16`` (the last 16).
    size : int
        Bytes of the file.

    Raises
    ------
    Unsatisfiable
        If there is no such byte, or several ranges are asked for.
    """
    if header is None:
        return None
    found = _PATTERN.fullmatch(header.strip())
    if found is None or found[1] == found[2] == "":
        raise Unsatisfiable(header)
    if found[1] == "":
        start, stop = max(0, size - int(found[2])), size
    else:
        start = int(found[1])
        stop = size if found[2] == "" else min(size, int(found[2]) + 1)
    if start >= stop:
        raise Unsatisfiable(header)
    return start, stop
