"""Where in a TOML file a key stands, so that a message can say it."""

from __future__ import annotations

import re

_HEADER = re.compile(r"\s*\[\[?\s*([A-Za-z0-9_.\-\"]+)\s*\]\]?\s*(#.*)?$")


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
