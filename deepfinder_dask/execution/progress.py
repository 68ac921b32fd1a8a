"""How far the work is: a bar on a terminal, the same numbers for other programs, silence elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

RECENT = 60.0
"""Seconds over which the rate is taken, at least."""
REPORT_EVERY = 1.0
"""Seconds between two reports, at least."""

_switched_off = False
_shown: list[Progress] = []


def silence(quiet: bool = True) -> None:
    """Show no progress bars in this process, whoever asks for them (``--quiet``)."""
    global _switched_off
    _switched_off = quiet


def is_silent() -> bool:
    """Whether bars are switched off."""
    return _switched_off


def note_voxels(count: int) -> None:
    """Tell the innermost bar of this process, if there is one, that voxels of a unit under way are done.

    A unit may take many minutes. Its voxels count from now on; when it ends, ``advance`` counts them for good.
    """
    if _shown:
        _shown[-1].note(count)


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
    done : int
        Units that an earlier run finished: they count as done, and not towards the rate.
    voxels : int, optional
        Voxels in all units; with it rate and time left are those of voxels, else of units.
    voxels_done : int
        Voxels that an earlier run finished.
    report : callable, optional
        Is given the numbers (see :meth:`numbers`) at the start, at most once a second, and at the end.
    """

    def __init__(
        self,
        description: str,
        total: int,
        unit: str = "block",
        enabled: bool | None = None,
        *,
        done: int = 0,
        voxels: int | None = None,
        voxels_done: int = 0,
        report: Callable[[Mapping[str, Any]], object] | None = None,
    ) -> None:
        self.description = description
        self.total = total
        self.unit = unit
        shown = (sys.stderr.isatty() or in_notebook()) if enabled is None else enabled
        self.enabled = shown and not _switched_off
        self.done = done
        self.voxels = voxels
        self.voxels_done = voxels_done
        self._under_way = 0
        self._lock = threading.RLock()  # voxels are noted by the thread that computes
        self._report = report
        self._started = self._reported = time.monotonic()
        self._samples: deque[tuple[float, int]] = deque([(self._started, self._amount())])
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        self._samples = deque([(self._started, self._amount())])
        if self.enabled:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[units]}"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[rate]}"),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task(self.description, total=self._whole(), rate="", units="")
            self._draw()
        if self.voxels is not None:
            _shown.append(self)
        self._tell()
        return self

    def advance(self, n: int = 1, voxels: int = 0) -> None:
        """Count ``n`` more units, and the voxels in them, as done."""
        with self._lock:
            self.done += n
            self.voxels_done += voxels
            self._under_way = max(0, self._under_way - voxels)
            self._sample()

    def note(self, voxels: int) -> None:
        """Count voxels of a unit that is not done yet."""
        with self._lock:
            self._under_way += voxels
            self._sample()

    def _sample(self) -> None:
        """Take the time, and show how far it is."""
        now = time.monotonic()
        self._samples.append((now, self._amount()))
        while len(self._samples) > 2 and now - self._samples[1][0] > RECENT:
            self._samples.popleft()
        self._draw()
        if now - self._reported >= REPORT_EVERY:
            self._tell()

    def _draw(self) -> None:
        if self._bar is not None and self._task is not None:
            units = f"{self.done}/{self.total} {self.unit if self.total == 1 else self.unit + 's'}"
            self._bar.update(self._task, completed=self._amount(), rate=self._words(), units=units)

    def numbers(self) -> dict[str, Any]:
        """How far it is, as plain numbers.

        Returns
        -------
        dict
            ``description``, ``unit``, ``done``, ``total``, ``voxels_done`` (those of units under way among them),
            ``voxels`` (None where unknown),
            ``rate`` (voxels or units a second over the last minute; None before the first), ``seconds`` since the
            start, ``seconds_left`` (None where unknown) and ``finished``.
        """
        now = time.monotonic()
        rate = self._rate()
        left = self._whole() - self._amount()
        return {
            "description": self.description,
            "unit": self.unit,
            "done": self.done,
            "total": self.total,
            "voxels_done": self.voxels_done if self.voxels is None else self._amount(),
            "voxels": self.voxels,
            "rate": None if rate is None else round(rate, 3),
            "seconds": round(now - self._started, 3),
            "seconds_left": 0.0 if left <= 0 else None if rate is None else round(left / rate, 1),
            "finished": self.done >= self.total,
        }

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self in _shown:
            _shown.remove(self)
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        self._tell()

    def _tell(self) -> None:
        if self._report is not None:
            self._reported = time.monotonic()
            self._report(self.numbers())

    def _amount(self) -> int:
        """What the rate counts."""
        return self.done if self.voxels is None else min(self.voxels_done + self._under_way, self.voxels)

    def _whole(self) -> int:
        """What all of it counts."""
        return self.total if self.voxels is None else self.voxels

    def _rate(self) -> float | None:
        """Voxels, or units, a second, over the last minute or so."""
        (since, before), (until, after) = self._samples[0], self._samples[-1]
        return (after - before) / (until - since) if after > before and until > since else None

    def _words(self) -> str:
        numbers = self.numbers()
        rate, left = numbers["rate"], numbers["seconds_left"]
        if rate is None:
            return ""
        speed = f"{_amount_in_words(rate)}voxels/s" if self.voxels is not None else f"{rate:.3g} {self.unit}s/s"
        return f"{speed}, {_time_in_words(left)} left" if left else speed


def _amount_in_words(rate: float) -> str:
    """``12 M``, ``940 k``, ``7``."""
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if rate >= size:
            return f"{rate / size:.3g} {sign}"
    return f"{rate:.3g} "


def _time_in_words(seconds: float) -> str:
    """``0:42``, ``12:05``, ``3:07:00``."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    clock = f"{minutes}:{whole % 60:02d}"
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else clock


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, which shows pictures and HTML."""
    shell = sys.modules.get("IPython")
    if shell is None:
        return False
    active = shell.get_ipython()
    return active is not None and active.__class__.__name__ == "ZMQInteractiveShell"
