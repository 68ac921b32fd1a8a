"""Items on the workers of a Dask cluster: a window of small batches, collected and released as they are done.

There are no edges between items, so a cluster never holds their data, and a scheduler never more than the window. Items
are sent one a task at first, and up to sixty-four where they turn out to be quick. When a worker dies, the items
it may have died of are run again, each alone in the cluster; one that loses its worker twice more is given up.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from deepfinder_dask.errors import PartialFailure
from deepfinder_dask.execution.protocol import Failure
from deepfinder_dask.execution.sharing import Pool
from deepfinder_dask.execution.window import PATIENCE, SCHEDULER_LOST, Run, nothing
from deepfinder_dask.execution.workforce import Roster

if TYPE_CHECKING:
    from distributed import Client

T = TypeVar("T")
R = TypeVar("R")


class DaskExecutor:
    """Items on the workers of a Dask cluster, a window of them submitted at a time.

    Parameters
    ----------
    client : distributed.Client
        Connection to the scheduler.
    tasks_ahead : int
        Tasks submitted for each call that may be under way, where items are quick.
    watch : callable, optional
        Called every few seconds while nothing comes back; raises where nothing will.
    """

    def __init__(self, client: Client, tasks_ahead: int = 8, watch: Callable[[], None] | None = None) -> None:
        self.client = client
        self.tasks_ahead = tasks_ahead
        self.watch = watch or nothing
        self._roster = Roster(client)
        self._runs: list[Run] = []
        self._asked = 0

    @property
    def workers(self) -> int:
        """Worker processes known to the scheduler now."""
        return max(1, len(self.client.nthreads()))

    @property
    def wanted(self) -> int:
        """Worker processes that would have something to do for a minute, or a block each."""
        return max(min(1, self._asked), sum(run.wanted for run in tuple(self._runs)))

    def ask(self, function: Callable[[], R]) -> dict[str, R]:
        """Call a light function once in every worker process (see :class:`Executor`); wait for the first worker."""
        try:
            if not self.client.nthreads():
                self._wait_for_a_worker()
            answers: dict[str, Any] = self.client.run(function, on_error="return")
            here = self.client.nthreads()
        except (OSError, CancelledError) as error:
            raise PartialFailure(f"workers were asked: {SCHEDULER_LOST}") from error
        lost = [address for address, answer in answers.items() if isinstance(answer, OSError) and address not in here]
        for answer in answers.values():
            if isinstance(answer, Exception) and not lost:
                raise answer
        return {address: answer for address, answer in answers.items() if address not in lost}

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
        return self.run_shared(function, items, label=label, failures=failures, among=among, pool=Pool())

    def run_shared(
        self,
        function: Callable[[T], R],
        items: Sequence[T],
        *,
        label: str,
        pool: Pool,
        rank: int = 0,
        kind: str = "",
        failures: list[Failure] | None = None,
        among: Collection[str] | None = None,
    ) -> Iterator[tuple[int, R]]:
        """Apply ``function`` to every item, beside other runs that share a pool (see :class:`SharedExecutor`)."""
        share = pool.join(rank, kind)
        run = Run(
            self.client, self.tasks_ahead, function, items, label, failures, among, self.watch, share, self._roster
        )
        self._runs.append(run)
        try:
            yield from run.results()
        finally:
            self._runs.remove(run)
            run.release()

    def _wait_for_a_worker(self) -> None:
        """A task, so that clusters which follow the work start one."""
        hello = self.client.submit(int, key=f"deepfinder_hello-{secrets.token_hex(8)}", pure=False)
        self._asked += 1
        try:
            while True:
                with suppress(TimeoutError):
                    hello.result(PATIENCE)
                    return
                self.watch()
        finally:
            self._asked -= 1
