"""Where a campaign stands, while it runs: counted from the blocks that come back."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from deepfinder_dask.execution import Failure

if TYPE_CHECKING:
    from deepfinder_dask.campaigns.running.space import Space
    from deepfinder_dask.execution import Executor

T = TypeVar("T")
R = TypeVar("R")

MESSAGES = 100
"""Messages that are remembered."""


@dataclass
class Line:
    """A tomogram under way."""

    tomogram: str
    """Its name."""
    stage: str = ""
    """What is done with it."""
    done: int = 0
    """Blocks done in this stage."""
    total: int = 0
    """Blocks of this stage so far."""
    since: float = field(default_factory=time.monotonic)
    """When it was begun."""


class Board:
    """What everybody may look at while a campaign runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.total = 0
        """Tomograms of the campaign."""
        self.counts: Counter[str] = Counter()
        """Tomograms by state, but for those under way."""
        self.blocks = 0
        """Blocks done in this run."""
        self.messages: deque[str] = deque(maxlen=MESSAGES)
        """What was said, the latest last."""
        self.listeners: list[Callable[[str], object]] = []
        """Take what is said, as it is said."""
        self._lines: dict[str, Line] = {}

    def enter(self, tomogram: str) -> None:
        """A tomogram is taken up."""
        with self._lock:
            self._lines[tomogram] = Line(tomogram)

    def begin(self, tomogram: str, stage: str, blocks: int) -> None:
        """Blocks of a stage are handed out."""
        with self._lock:
            line = self._lines.setdefault(tomogram, Line(tomogram))
            if line.stage != stage:
                line.stage, line.done, line.total = stage, 0, 0
            line.total += blocks

    def advance(self, tomogram: str) -> None:
        """A block came back."""
        with self._lock:
            self.blocks += 1
            if tomogram in self._lines:
                self._lines[tomogram].done += 1

    def leave(self, tomogram: str, state: str) -> None:
        """A tomogram is let go."""
        with self._lock:
            self._lines.pop(tomogram, None)
            self.counts[state] += 1

    def say(self, words: str) -> None:
        """Tell something to the user."""
        self.messages.append(words)
        for listener in list(self.listeners):
            listener(words)

    def under_way(self) -> list[Line]:
        """Tomograms under way, the earliest first."""
        with self._lock:
            return sorted(self._lines.values(), key=lambda line: line.since)

    def to_dict(self) -> dict[str, Any]:
        """JSON values: ``total``, ``counts`` by state, ``blocks``, and ``running``, the tomograms under way."""
        lines = [
            {"tomogram": one.tomogram, "stage": one.stage, "done": one.done, "total": one.total}
            for one in self.under_way()
        ]
        return {"total": self.total, "counts": dict(self.counts), "blocks": self.blocks, "running": lines}


class Watched:
    """An executor whose results are counted, and wait where the disk is full.

    Parameters
    ----------
    executor : Executor
        Where items run.
    board : Board
        Where they are counted.
    space : Space
        The disk.
    tomogram, stage : str
        Whose they are.
    """

    def __init__(self, executor: Executor, board: Board, space: Space, tomogram: str, stage: str) -> None:
        self.executor, self.board, self.space = executor, board, space
        self.tomogram, self.stage = tomogram, stage
        self.blocks = 0
        """Items done."""

    @property
    def workers(self) -> int:
        """How many items are computed at once."""
        return self.executor.workers

    def ask(self, function: Callable[[], R]) -> dict[str, R]:
        """Call a light function once in every worker process."""
        return self.executor.ask(function)

    def run(
        self,
        function: Callable[[T], R],
        items: Sequence[T],
        *,
        label: str,
        failures: list[Failure] | None = None,
        among: Collection[str] | None = None,
    ) -> Iterator[tuple[int, R]]:
        """Apply ``function`` to every item (see :class:`Executor`)."""
        self.board.begin(self.tomogram, self.stage, len(items))
        for index, result in self.executor.run(function, items, label=label, failures=failures, among=among):
            self.blocks += 1
            self.board.advance(self.tomogram)
            self.space.check()
            yield index, result
