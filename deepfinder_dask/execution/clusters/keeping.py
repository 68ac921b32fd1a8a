"""Workers kept: those that are over are started again, and there are as many as there is work for."""

from __future__ import annotations

import threading
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from deepfinder_dask.errors import DeepFinderError, InputError, PartialFailure
from deepfinder_dask.execution.clusters.groups import Workplace

if TYPE_CHECKING:
    from distributed import SpecCluster

    from deepfinder_dask.execution.cluster import DaskExecutor

LOOK_EVERY = 10.0
"""Seconds between two looks at the workers."""
IN_VAIN = 3
"""How many in a row may end before any of their workers reached the scheduler, until the run is given up."""
SPARE_LOOKS = 6
"""How many looks in a row must find workers spare before some are let go."""


class Keeper:
    """Looks after the workers of a cluster on a thread of its own: ``with Keeper(…) as keeper: …``.

    Parameters
    ----------
    cluster : distributed.SpecCluster
        The cluster.
    places : sequence of Workplace
        Its groups.
    bounds : (int, int) or None
        Fewest and most jobs, where their number follows the work.
    """

    def __init__(self, cluster: SpecCluster, places: Sequence[Workplace], bounds: tuple[int, int] | None) -> None:
        self.cluster = cluster
        self.places = places
        self.bounds = bounds
        self.executor: DaskExecutor | None = None
        """Whose work decides how many workers there are."""
        self.replaced = 0
        """Jobs and hosts that were started again."""
        self._vain = 0
        self._spare = 0
        self._seen: set[str] = set()
        self._trouble: DeepFinderError | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="keeper", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ending.set()
        self._thread.join()

    def check(self) -> None:
        """Raise what makes waiting useless.

        Raises
        ------
        PartialFailure
            If jobs end again and again before a worker of theirs is there, or no more are accepted.
        """
        if self._trouble is not None:
            raise self._trouble

    def _work(self) -> None:
        while not self._ending.wait(LOOK_EVERY):
            with suppress(OSError):  # the scheduler or the network is busy, or gone: the run itself tells of that
                self.cluster.sync(self._look)

    async def _look(self) -> None:
        present = {str(facts["name"]) for facts in self.cluster.scheduler_info["workers"].values()}
        self._seen |= {name for name in self.cluster.workers if self._names(name) & present}
        missing = len(self.cluster.workers) < len(self.cluster.worker_spec)
        for place in self.places:
            missing |= await self._take_away(place)
        if self.bounds is not None and self.executor is not None:
            await self._fit(self.bounds, self.executor.wanted, present)
        elif missing:
            await self._start_again(self.cluster)

    async def _take_away(self, place: Workplace) -> bool:
        """Forget workers of a group that are over; whether there were any."""
        if place.over is None:
            return False
        named = {name: self.cluster.workers[name] for name in place.specs if name in self.cluster.workers}
        if place.template is not None:
            named = dict(self.cluster.workers)
        over = await place.over(named)
        for name in over:
            gone = self.cluster.workers.pop(name, None)
            if gone is not None:
                await gone.close()
            # A host is started before it is known here; a job may end before its workers have been.
            early = name not in self._seen and hasattr(gone, "job_id")
            self._vain = self._vain + 1 if early else 0
            self._seen.discard(name)
            self.replaced += 1
        if self._vain >= IN_VAIN:
            self._trouble = PartialFailure(
                f"{self._vain} jobs in a row ended before a worker of theirs reached the scheduler at "
                f"{self.cluster.scheduler_address}: see what they print (log_folder), and whether nodes reach this "
                "machine (interface)"
            )
        return bool(over)

    async def _start_again(self, change: Any) -> None:
        """Bring the cluster to what was asked for; what is refused is tried again."""
        try:
            await change
        except (InputError, PartialFailure) as error:
            self._vain += 1
            if self._vain >= IN_VAIN and not self.cluster.scheduler_info["workers"]:
                self._trouble = PartialFailure(f"workers cannot be started again: {error}")

    async def _fit(self, bounds: tuple[int, int], wanted: int, present: set[str]) -> None:
        """As many jobs as there is work for."""
        each = len(next((p.template.get("group", "1") for p in self.places if p.template is not None), "1"))
        target = max(bounds[0], min(bounds[1], -(-wanted // each)))
        spare = len(self.cluster.worker_spec) - target
        self._spare = self._spare + 1 if spare > 0 else 0
        if self._spare >= SPARE_LOOKS:
            await self._start_again(self._let_go(await self._idle(spare, present)))
            return
        if spare < 0:
            self.cluster.scale(target)
        await self._start_again(self.cluster)

    async def _idle(self, count: int, present: set[str]) -> list[str]:
        """Jobs that still wait in the queue, then such all whose workers have nothing to do."""
        waiting = [name for name in self.cluster.worker_spec if not self._names(name) & present]
        scheduler: Any = self.cluster.scheduler_comm
        free = {str(name) for name in await scheduler.workers_to_close(target=0, attribute="name")}
        idle = [n for n in self.cluster.worker_spec if n not in waiting and (self._names(n) & present) <= free]
        return [*waiting, *idle][:count]

    def _let_go(self, names: Sequence[str]) -> Coroutine[Any, Any, None]:
        async def retire() -> None:
            workers = sorted(set().union(*(self._names(name) for name in names)))
            scheduler: Any = self.cluster.scheduler_comm
            await scheduler.retire_workers(names=workers, remove=True, close_workers=True)
            await self.cluster.scale_down(list(names))

        return retire()

    def _names(self, name: str) -> set[str]:
        """Names of the worker processes of a job."""
        spec: Mapping[str, Any] = self.cluster.worker_spec.get(name, {})
        return {f"{name}{suffix}" for suffix in spec.get("group", ("",))}
