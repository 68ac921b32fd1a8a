"""Several runs on one cluster: one bounded window for each kind of work, and turns by rank.

::

    tomogram 0 ─┐ rank 0 first                 ┌─ window "inference"  ─┐
    tomogram 1 ─┼─► Share.take: how many tasks ┼─ window "clustering" ─┼─► scheduler ─► workers
    tomogram 2 ─┘ it may submit now            └─ window "conversion" ─┘

A scheduler never holds more than the windows, however many runs there are. What an earlier run has no use for, a later
one takes: while one tomogram is in its serial tail, the next keep the workers busy. An item that may have killed its
worker runs alone in the cluster: the runs of all others wait meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from deepfinder_dask.execution.idleness import Idleness
from deepfinder_dask.execution.protocol import Failure

if TYPE_CHECKING:
    from deepfinder_dask.execution.cluster import DaskExecutor

T = TypeVar("T")
R = TypeVar("R")

NO_LIMIT = 2**31
"""Tasks of a kind where nobody limits them beyond the window."""


class Pool:
    """The room of a cluster, as all runs on it share it.

    Parameters
    ----------
    limits : mapping, optional
        Most tasks submitted at once, by kind of work; a window is never larger than what keeps the workers busy.
    """

    def __init__(self, limits: Mapping[str, int] | None = None) -> None:
        self.limits = dict(limits or {})
        self.learnt: dict[str, tuple[float | None, int]] = {}
        """Seconds of an item and items of a task, by name of function: what one run learnt, the next begins with."""
        self.answers: dict[tuple[str, frozenset[str]], dict[str, Any]] = {}
        """What workers were asked, by function and addresses."""
        self.idleness = Idleness()
        """How busy the workers are."""
        self._lock = threading.Lock()
        self._shares: list[Share] = []
        self._asking: list[Share] = []

    def join(self, rank: int = 0, kind: str = "") -> Share:
        """A share for one more run.

        Parameters
        ----------
        rank : int
            Runs of a lower rank come first.
        kind : str
            Kind of work: runs of one kind share a window.
        """
        share = Share(self, rank, kind)
        with self._lock:
            self._shares.append(share)
        return share

    def wake(self) -> None:
        """Wake all runs, so that they see whether they are to end."""
        with self._lock:
            shares = list(self._shares)
        for share in shares:
            share.ring()


class Share:
    """What one run holds of a pool; see :meth:`Pool.join`."""

    def __init__(self, pool: Pool, rank: int, kind: str) -> None:
        self.pool, self.rank, self.kind = pool, rank, kind
        self.under_way = 0
        """Tasks that it has submitted."""
        self.waiting = False
        """Whether it found no room."""
        self._wake: Callable[[], object] | None = None

    def when_woken(self, wake: Callable[[], object]) -> None:
        """Say what is called, on any thread, when there may be room for a run that found none."""
        self._wake = wake

    def ring(self) -> None:
        """Tell the run to look again."""
        if self._wake is not None:
            self._wake()

    def take(self, window: int, wanted: int, least: int = 1) -> int:
        """Take room for tasks.

        Parameters
        ----------
        window : int
            Tasks of this kind, of all runs together, that keep the workers busy.
        wanted : int
            Tasks that the run could submit.
        least : int
            Do not take less room than that: many small messages cost more than few.

        Returns
        -------
        int
            Tasks that it may submit now; where 0, it is woken when there may be room.
        """
        pool = self.pool
        window = min(window, pool.limits.get(self.kind, NO_LIMIT))
        with pool._lock:
            withdrawn = self in pool._asking  # workers came: nothing needs to run alone yet
            if withdrawn:
                pool._asking.remove(self)
            same = [share for share in pool._shares if share.kind == self.kind]
            room = window - sum(share.under_way for share in same)
            first = any(share.waiting and share.rank < self.rank for share in same)
            taken = min(room, wanted)
            if wanted < 1 or pool._asking or first or room < min(least, max(1, window)):
                taken = 0
            self.waiting = wanted > 0 and not taken
            self.under_way += taken
            # Those that stood behind this run, and found no room, may find some now.
            woken = self._others_waiting() if withdrawn or 0 < taken < room else []
        for share in woken:
            share.ring()
        return taken

    def give(self, tasks: int) -> None:
        """Give back the room of tasks that came back, or were never submitted."""
        if not tasks:
            return  # runs that wake each other for nothing would never rest
        pool = self.pool
        with pool._lock:
            self.under_way -= tasks
            if self in pool._asking and not self.under_way:
                pool._asking.remove(self)
            woken = self._others_waiting()
        for share in woken:
            share.ring()

    def hold(self) -> None:
        """Take back the room of a task that did not come back after all."""
        with self.pool._lock:
            self.under_way += 1

    def total(self) -> int:
        """Tasks that all runs of the pool have submitted."""
        with self.pool._lock:
            return sum(share.under_way for share in self.pool._shares)

    def alone(self) -> bool:
        """Ask for the whole cluster, for one task; False where others are under way: the run is woken later."""
        pool = self.pool
        with pool._lock:
            if self not in pool._asking:
                pool._asking.append(self)
            if pool._asking[0] is not self or any(share.under_way for share in pool._shares):
                self.waiting = True
                return False
            self.waiting = False
            self.under_way = 1
            return True

    def leave(self) -> None:
        """Give everything back."""
        pool = self.pool
        with pool._lock:
            self.under_way, self.waiting = 0, False
            if self in pool._asking:
                pool._asking.remove(self)
            if self in pool._shares:
                pool._shares.remove(self)
            woken = self._others_waiting()
        for share in woken:
            share.ring()

    def _others_waiting(self) -> list[Share]:
        return [share for share in self.pool._shares if share.waiting and share is not self]


class SharedExecutor:
    """Items of one tomogram on a cluster that it shares with others.

    Parameters
    ----------
    executor : DaskExecutor
        The cluster.
    pool : Pool
        What all of them share.
    rank : int
        Those of a lower rank come first.
    kind : str
        Kind of work.
    """

    def __init__(self, executor: DaskExecutor, pool: Pool, rank: int = 0, kind: str = "") -> None:
        self.executor, self.pool, self.rank, self.kind = executor, pool, rank, kind

    @property
    def workers(self) -> int:
        """Worker processes known to the scheduler now."""
        return self.executor.workers

    def ask(self, function: Callable[[], R]) -> dict[str, R]:
        """Call a light function once in every worker process (see :class:`Executor`).

        A plain function is asked once: workers that are still the same have no other answer.
        """
        if not hasattr(function, "__qualname__"):
            return self.executor.ask(function)
        key = name_of(function), frozenset(self.executor.client.nthreads())
        if key not in self.pool.answers:
            self.pool.answers[key] = self.executor.ask(function)
        return dict(self.pool.answers[key])

    def run(
        self,
        function: Callable[[T], R],
        items: Sequence[T],
        *,
        label: str,
        failures: list[Failure] | None = None,
        among: Collection[str] | None = None,
    ) -> Iterator[tuple[int, R]]:
        """Apply ``function`` to every item (see :class:`Executor`), within the windows of the pool."""
        return self.executor.run_shared(
            function, items, label=label, failures=failures, among=among, pool=self.pool, rank=self.rank, kind=self.kind
        )


def name_of(function: Callable[..., Any]) -> str:
    """What a function is called, whatever data it carries."""
    inner = getattr(function, "func", function)  # of a partial
    kind = inner if hasattr(inner, "__qualname__") else type(inner)
    return f"{kind.__module__}.{kind.__qualname__}"
