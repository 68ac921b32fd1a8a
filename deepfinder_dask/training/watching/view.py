"""A view of a run in a notebook: it follows the run's log, whichever process writes it."""

from __future__ import annotations

import html
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from deepfinder_dask.errors import InputError, SettingsError
from deepfinder_dask.execution.progress import in_notebook
from deepfinder_dask.training.watching.curves import curves_figure
from deepfinder_dask.training.watching.following import Log, RunFacts
from deepfinder_dask.training.watching.page import content, picture
from deepfinder_dask.training.watching.pictures import png_of, read_patches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepfinder_dask.training.watching.following import Entry

REST = 10
"""A view rests at least this many times as long as drawing it took."""


class TrainingView:
    """What a run has reached: steps, scores of each class, curves, example patches.

    In a notebook the value of a cell shows it; `refresh` shows what is new in the same place, and `follow` does so by
    itself until the run ends.

    Parameters
    ----------
    folder : str or path
        Folder of the run, which may go on in another process or be done; it need not be there yet.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.facts: RunFacts | None = None
        """What the run is; None until it has begun."""
        self._log = Log(self.folder / "log.jsonl")
        self._handle: _Place | None = None
        self._cell = -1
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._catch_up()

    @property
    def record(self) -> Sequence[Entry]:
        """Entries of the log, one per step, as of the last `refresh`."""
        return self._log.record

    @property
    def ended(self) -> bool:
        """Whether nothing more is to come, as of the last `refresh`."""
        return self.facts is not None and self.facts.ended

    def refresh(self) -> Self:
        """Read what is new; show it where the view is shown already.

        Raises
        ------
        FormatError
            If a file of the run is damaged.
        """
        with self._lock:
            if self._catch_up() and self._handle is not None:
                self._handle.update(self._repr_html_())
        return self

    def show(self) -> Self:
        """Show the view below this cell, once; from then on `refresh` brings it up to date in this place."""
        if in_notebook():
            cell = _Place.cell()
            if cell != self._cell:
                self._cell, self._handle = cell, _Place(self._repr_html_())
        return self

    def _ipython_display_(self) -> None:
        """What the value of a cell shows: the view, but not twice below one cell."""
        self.show()

    def follow(self, every: float = 2.0) -> Self:
        """Show the view here, and bring it up to date in the background until the run ends.

        Parameters
        ----------
        every : float
            Seconds between two looks at the log; drawing takes at most a tenth of the time.
        """
        if not every > 0:
            raise SettingsError(f"expected a time between two looks of more than 0 seconds, got {every}")
        self.show()
        if self._thread is None or not self._thread.is_alive():
            self._stop.clear()
            self._thread = threading.Thread(target=self._follow, args=(every,), name="training view", daemon=True)
            self._thread.start()
        return self

    def stop(self) -> Self:
        """Follow the run no longer; the run itself goes on."""
        self._stop.set()
        return self.wait()

    def wait(self, timeout: float | None = None) -> Self:
        """Wait until the run that is followed ends, at most this many seconds."""
        if self._thread is not None:
            self._thread.join(timeout)
        return self

    def _follow(self, every: float) -> None:
        while not self._stop.is_set():
            started = time.monotonic()
            self.refresh()
            if self.ended:
                return
            self._stop.wait(max(every, REST * (time.monotonic() - started)))

    def _catch_up(self) -> bool:
        """Read what is new; whether there is anything."""
        known, steps = self.facts, len(self.record)
        facts = RunFacts.read(self.folder)  # before the log: once it has ended, the log is whole
        self._log.catch_up()
        self.facts = facts
        return facts != known or len(self.record) != steps

    def _repr_html_(self) -> str:
        if self.facts is None:
            return f"<i>waiting for a run to begin in {html.escape(str(self.folder))}</i>"
        curves = picture(png_of(curves_figure(self.record, self.facts.classes)), "loss and F1 over the steps")
        return content(self.folder.name, self.record, self.facts, curves, read_patches(self.folder))

    def __repr__(self) -> str:
        if self.facts is None:
            return f"TrainingView({str(self.folder)!r}: no run yet)"
        step = int(self.record[-1]["step"]) if self.record else 0
        return f"TrainingView({str(self.folder)!r}: step {step} of {self.facts.steps})"


class _Place:
    """HTML below a cell of a notebook, which can be replaced later."""

    def __init__(self, page: str) -> None:
        from IPython.display import HTML, display

        self._handle: Any = display(HTML(page), display_id=True)

    def update(self, page: str) -> None:
        """Show something else in this place."""
        from IPython.display import HTML

        self._handle.update(HTML(page))

    @staticmethod
    def cell() -> int:
        """Number of the cell that is executed."""
        from IPython import get_ipython

        return int(get_ipython().execution_count)


def watch(folder: str | Path, *, every: float = 2.0) -> TrainingView:
    """Watch a training run in a notebook, whichever process it goes on in.

    Parameters
    ----------
    folder : str or path
        Folder of the run; it need not be there yet.
    every : float
        Seconds between two looks at its log.

    Returns
    -------
    TrainingView
        Shown in the notebook, and brought up to date in the background until the run ends; ``stop()`` ends that.
        Outside of notebooks nothing is shown: ``record`` and ``ended`` say how far the run is.

    Raises
    ------
    SettingsError
        If ``every`` is no time.
    InputError
        If there is a file in place of the folder.
    """
    if Path(folder).is_file():
        raise InputError(f"expected the folder of a training run, got the file {folder}")
    return TrainingView(folder).follow(every)
