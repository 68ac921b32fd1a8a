"""A progress bar on a terminal, silence elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

_switched_off = False


def silence(quiet: bool = True) -> None:
    """Show no progress bars in this process, whoever asks for them (``--quiet``)."""
    global _switched_off
    _switched_off = quiet


class Progress:
    """One bar with count, rate and time left, on standard error.

    Parameters
    ----------
    description : str
        What is being done, and to what.
    total : int
        How many units there are.
    unit : str
        Name of a unit, in the singular.
    enabled : bool, optional
        Whether to show it; by default only where standard error is a terminal or a notebook.
    """

    def __init__(self, description: str, total: int, unit: str = "block", enabled: bool | None = None) -> None:
        self.description = description
        self.total = total
        self.unit = unit
        shown = (sys.stderr.isatty() or _in_notebook()) if enabled is None else enabled
        self.enabled = shown and not _switched_off
        self.done = 0
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self.enabled:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(f"{self.unit}s"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task(self.description, total=self.total)
        return self

    def advance(self, n: int = 1) -> None:
        """Count ``n`` more units as done."""
        self.done += n
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, n)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    if shell is None:
        return False
    active = shell.get_ipython()
    return active is not None and active.__class__.__name__ == "ZMQInteractiveShell"
