"""Cards: what a handle shows of itself as the value of a notebook's cell, a table of facts and perhaps a picture."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence

from deepfinder_dask.particles.classes import ParticleClass

CLASSES = 24
"""Most classes that a card lists."""
STYLE = "border-collapse:collapse;margin:0"
CELL = "text-align:left;vertical-align:top;padding:.1em 1em .1em 0"


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def card(title: str, facts: Iterable[tuple[str, object]], picture: bytes | None = None, more: str = "") -> str:
    """A card in HTML.

    Parameters
    ----------
    title : str
        What it is.
    facts : iterable of (name, value)
        Rows of the table; text is escaped, a value of None leaves the row out.
    picture : bytes, optional
        PNG, shown beside the table.
    more : str
        HTML below the table.
    """
    rows = "".join(
        f'<tr><td style="{CELL};color:#6b7075">{html.escape(name)}</td><td style="{CELL}">{_text(value)}</td></tr>'
        for name, value in facts
        if value is not None
    )
    beside = "" if picture is None else f"<div>{_image(picture)}</div>"
    return (
        '<div style="display:flex;flex-wrap:wrap;gap:1.5em;align-items:flex-start">'
        f'<div><b>{html.escape(title)}</b><table style="{STYLE}">{rows}</table>{more}</div>{beside}</div>'
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in HTML; text is escaped."""
    head = "".join(f'<th style="{CELL};font-weight:normal;color:#6b7075">{html.escape(one)}</th>' for one in heads)
    body = "".join("<tr>" + "".join(f'<td style="{CELL}">{_text(v)}</td>' for v in row) + "</tr>" for row in rows)
    return f'<table style="{STYLE}"><tr>{head}</tr>{body}</table>'


def classes_line(classes: Sequence[ParticleClass], counts: Mapping[str, int] | None = None) -> Markup:
    """Classes, each with a dot of its colour, and how many there are of it."""
    words = []
    for one in classes[:CLASSES]:
        many = "" if counts is None else f" {counts.get(one.name, 0)}"
        words.append(f"{dot(one)}{html.escape(one.name)}{many}")
    left = len(classes) - CLASSES
    return Markup(", ".join(words) + (f", and {left} more" if left > 0 else "") if words else "none")


def dot(one: ParticleClass) -> Markup:
    """A dot of the colour of a class."""
    colour = html.escape(one.colour, quote=True)
    return Markup(
        f'<span style="display:inline-block;width:.75em;height:.75em;border-radius:50%;background:{colour};'
        'margin-right:.35em"></span>'
    )


def lengths(values: Sequence[float]) -> str:
    """``10`` or ``10 × 8 × 8``."""
    return f"{values[0]:g}" if len(set(values)) == 1 else " × ".join(f"{v:g}" for v in values)


def _image(png: bytes) -> str:
    data = base64.b64encode(png).decode("ascii")
    return f'<img alt="" style="max-width:32em" src="data:image/png;base64,{data}">'


def _text(value: object) -> str:
    return value if isinstance(value, Markup) else html.escape(str(value))
