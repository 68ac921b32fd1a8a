"""A running campaign on a terminal: one bar for all tomograms, one line for each that is under way."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from deepfinder_dask.execution.progress import is_silent

if TYPE_CHECKING:
    from rich.console import RenderableType

    from deepfinder_dask.campaigns.running.watching import Board

LINES = 8
"""Tomograms under way that are shown."""
OFTEN = 2.0
"""Looks a second."""


@contextmanager
def shown(name: str, board: Board, progress: bool | None) -> Iterator[None]:
    """Show a campaign on standard error while it runs.

    Parameters
    ----------
    name : str
        The campaign.
    board : Board
        Where it stands.
    progress : bool, optional
        Whether to show bars; by default where standard error is a terminal. Messages are told in any case, unless it
        is False or ``--quiet``.
    """
    if progress is False or is_silent():
        yield
        return
    if progress is None and not sys.stderr.isatty():
        board.listeners.append(_write)
        try:
            yield
        finally:
            board.listeners.remove(_write)
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    started = time.monotonic()

    def say(words: str) -> None:
        console.print(words, style="yellow", markup=False, highlight=False)

    board.listeners.append(say)
    try:
        with Live(console=console, refresh_per_second=OFTEN, get_renderable=lambda: _drawn(name, board, started)):
            yield
    finally:
        board.listeners.remove(say)


def _write(words: str) -> None:
    sys.stderr.write(f"{words}\n")


def _drawn(name: str, board: Board, started: float) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    counts = dict(board.counts)
    over = sum(counts.values())
    words = ", ".join(f"{count} {state}" for state, count in counts.items()) or "none done yet"
    head = Table.grid(padding=(0, 1))
    head.add_row(
        Text(name, style="bold"),
        ProgressBar(total=max(1, board.total), completed=over, width=30),
        Text(f"{over}/{board.total} tomograms ({words}), {board.blocks} blocks, {_clock(time.monotonic() - started)}"),
    )
    lines = Table.grid(padding=(0, 1))
    under_way = board.under_way()
    for one in under_way[:LINES]:
        blocks = f"{one.done}/{one.total}" if one.total else ""
        bar = ProgressBar(total=max(1, one.total), completed=one.done, width=20)
        lines.add_row(Text(f"  {one.tomogram}"), Text(one.stage), bar, Text(blocks))
    rest = len(under_way) - LINES
    return Group(head, lines, *([Text(f"  and {rest} more", style="dim")] if rest > 0 else []))


def _clock(seconds: float) -> str:
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{whole:02d}" if hours else f"{minutes}:{whole:02d}"
