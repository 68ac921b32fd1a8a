"""One run on a cluster: which items are submitted when, which are sent again, and which are given up."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from itertools import islice
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from deepfinder_dask.errors import PartialFailure
from deepfinder_dask.execution.batches import Done, Parcel, Sealed, Work, run_batch
from deepfinder_dask.execution.computing import check_interrupt
from deepfinder_dask.execution.dispatch import Batch, Bell, group_name, keep
from deepfinder_dask.execution.protocol import Failure, calls_in_flight, resource_of
from deepfinder_dask.execution.sharing import Pool, Share, name_of
from deepfinder_dask.execution.workforce import Roster, Workforce

if TYPE_CHECKING:
    from distributed import Client, Future

LARGEST_BATCH = 64
"""Items a task, at most."""
TASK_SECONDS = 0.05
"""A task is given as many items as take about so long."""
WORTH_A_TASK = 0.01
"""Few items are spread over all workers in tasks of about so long, no shorter ones: a task costs about a millisecond.
"""
SLOW = 0.5
"""Seconds from which on an item counts as slow: few are then sent ahead, since those sent to a worker that dies count
as suspects."""
SCHEDULER_LOST = "the connection to the scheduler was lost: run the same command again"
PATIENCE = 2.0
"""Seconds between two looks at the workers while nothing comes back."""
TOGETHER = 0.01
"""Seconds to wait for more results that can be fetched at once, where items are quick."""
SMALL = 4096
"""Bytes of a function below which it is sent with each task."""
RESENT = 3
"""How often the function is sent again because the worker that took it died."""
ALONE = 2
"""How often an item may lose its worker while it runs alone: once may be somebody else's doing."""
WORTH = 60.0
"""Seconds of work that a worker is worth starting for."""
DEADLY = "killed its worker again and again, most often for lack of memory: use smaller blocks or fewer workers"


class Run:
    """One call of :meth:`~deepfinder_dask.execution.DaskExecutor.run`."""

    def __init__(
        self,
        client: Client,
        tasks_ahead: int,
        function: Callable[[Any], Any],
        items: Sequence[Any],
        label: str,
        failures: list[Failure] | None,
        among: Collection[str] | None,
        watch: Callable[[], None] | None = None,
        share: Share | None = None,
        roster: Roster | None = None,
    ) -> None:
        self.client = client
        self.watch = watch or nothing
        self.tasks_ahead = tasks_ahead
        self.items = items
        self.label = label
        self.failures = failures
        # No key is ever used again: a scheduler that still holds a result answers with it instead of computing.
        self.token = secrets.token_hex(8)
        self.group = group_name(label)
        self.sent = 0
        in_flight = calls_in_flight(function) if hasattr(function, "in_flight") else None
        self.work = Work(self.token, function, in_flight, collect=failures is not None)
        self.workforce = Workforce(client, in_flight, resource_of(function), among, roster)
        self.reached = self.workforce.addresses
        self.carrier: Future[Any] | None = None
        self.carriers = 0
        self.small: bool | None = None
        self.fresh = iter(range(len(items)))
        self.left = len(items)  # not yet submitted for the first time
        self.again: deque[int] = deque()
        self.suspects: deque[int] = deque()
        self.deaths_alone: Counter[int] = Counter()
        self.under_way: dict[str, Batch] = {}
        self.done: SimpleQueue[str] = SimpleQueue()
        self.share = share or Pool().join()
        self.share.when_woken(lambda: self.done.put(""))
        self.pool = self.share.pool
        self.name = name_of(function)
        self.seconds, self.size = self.pool.learnt.get(self.name, (None, 1))

    def results(self) -> Iterator[tuple[int, Any]]:
        """Index and result of every item, in the order of completion."""
        self._fill()
        while self.under_way or self.left or self.again or self.suspects:
            found: list[tuple[int, Any]] = []
            for batch, done in self._finished():
                if done is None:
                    self._lost(batch)
                    continue
                self._learn(batch, done)
                found += done.results
            self._fill()
            yield from found

    def release(self) -> None:
        """Take back what was not begun; what was ends at its next check."""
        futures = [batch.future for batch in self.under_way.values()]
        self.under_way.clear()
        self.share.leave()
        if self.client.status == "running" and futures:
            self.client.cancel(futures)
        if self.carrier is not None:
            self.carrier.release()
            self.carrier = None

    @property
    def wanted(self) -> int:
        """Worker processes that would have something to do for a minute, or a block each."""
        left = self.left + len(self.again) + len(self.suspects)
        left += sum(len(batch.indices) for batch in tuple(self.under_way.values()))
        enough = left if self.seconds is None else math.ceil(left * self.seconds / WORTH)
        return min(enough, math.ceil(left / (self.workforce.in_flight or 1)))

    def _fill(self) -> None:
        """Submit what the window has room for."""
        self._send_stranded()
        window = self._window()
        if self.suspects and (len(self.suspects) > window or not (self.left or self.again)):
            if not self.under_way and self.share.alone():
                self._submit([[self.suspects.popleft()]], alone=True)
            return
        if any(batch.alone for batch in self.under_way.values()):
            return
        wanted = len(self.again) + math.ceil(self.left / self._size())
        # Many small messages cost more than few: where items are quick, half a window is sent at a time.
        room = self.share.take(window, wanted, window // 2 if self._quick else 1)
        parcels = [indices for indices in (self._take() for _ in range(room)) if indices]
        if len(parcels) < room:
            self.share.give(room - len(parcels))
        if parcels:
            self._submit(parcels)
        if self.share.total() >= self.workforce.processes:
            self.pool.idleness.note_full()

    @property
    def _quick(self) -> bool:
        """Whether items take so little time that what is sent ahead of the workers costs nothing if they die."""
        return self.seconds is not None and self.seconds < SLOW

    def _window(self) -> int:
        """Tasks that may be submitted."""
        if self._quick:
            return self.workforce.lanes * self.tasks_ahead
        return self.workforce.lanes + self.workforce.processes

    def _take(self) -> list[int]:
        """Items of the next task."""
        if self.again:
            return [self.again.popleft()]
        indices = list(islice(self.fresh, self._size()))
        self.left -= len(indices)
        return indices

    def _size(self) -> int:
        """Items of a task; few items still spread over all workers, unless they are hardly worth a task."""
        tasks = 2 * self.workforce.lanes
        spread = math.ceil(self.left / tasks)
        if self.seconds is not None:
            hardly = int(WORTH_A_TASK / max(self.seconds, 1e-6))
            spread = max(spread, min(hardly, math.ceil(len(self.items) / tasks)))
        return max(1, min(self.size, spread))

    def _submit(self, tasks: list[list[int]], *, alone: bool = False) -> None:
        carrier = self._carrier()
        addresses = self.workforce.addresses
        parcels = [Parcel(indices, [self.items[index] for index in indices]) for indices in tasks]
        futures = self.client.map(
            run_batch,
            parcels,
            work=carrier,
            key=[self._key(parcel) for parcel in parcels],
            pure=False,
            priority=-self.share.rank,
            workers=None if addresses is None else sorted(addresses),
            resources=self.workforce.resources,
        )
        for indices, future in zip(tasks, futures, strict=True):
            self._watch(str(future.key), Batch(indices, future, addresses, alone))

    def _key(self, parcel: Parcel) -> str:
        """Name of a task: what it belongs to, and the numbers of its first and last item."""
        numbers = [getattr(item, "number", index) for index, item in zip(parcel.indices, parcel.items, strict=True)]
        ends = dict.fromkeys((numbers[0], numbers[-1]))
        self.sent += 1
        return f"{self.group}-{'..'.join(map(str, ends))}-{self.token}-{self.sent}"

    def _carrier(self) -> Future[Any] | Sealed:
        """The task that keeps the function, which may be large beside an item (it carries weights).

        Unlike scattered data, it is made again when the workers that hold it die. A small function that workers took
        before goes along with each task instead.
        """
        from distributed.protocol.pickle import dumps

        if self.small is None:
            known = self.name in self.pool.learnt  # to be taken without harm
            self.small = known and len(dumps(self.work)) < SMALL
        if self.small:
            return Sealed(self.work)
        if self.carrier is None or self.carrier.status in ("error", "cancelled"):
            self.carriers += 1
            if self.carriers > RESENT:
                raise PartialFailure(
                    f"{self.label}: workers die of taking the function, most often for lack of memory: use fewer"
                )
            # Any worker may keep it: one that is chosen now may be gone when it is needed again.
            self.carrier = self.client.submit(
                keep,
                Sealed(self.work),
                key=f"{self.group}-function-{self.token}-{self.carriers}",
                pure=False,
                priority=-self.share.rank,
            )
        return self.carrier

    def _finished(self) -> list[tuple[Batch, Done | None]]:
        """Batches that came back, at least one; None stands for a worker that died.

        Raises
        ------
        PartialFailure
            If the scheduler dropped one.
        Exception
            What an item raised, where that ends the run.
        """
        keys = [self._wait()]
        # Each fetch costs as much as several tasks: where items are quick, half a window is fetched at a time.
        several = min(self._window() // 2, len(self.under_way)) if self._quick else 1
        with suppress(Empty):
            while True:
                keys.append(self.done.get(timeout=TOGETHER if len(keys) < several else 0))
        batches = {key: self.under_way.pop(key) for key in keys if key in self.under_way}
        values = self._fetch({key: b.future for key, b in batches.items() if b.future.status == "finished"})
        found = []
        self.share.give(len(batches))
        for key, batch in batches.items():
            done = values.get(key)
            if done is None and batch.future.status not in ("error", "cancelled"):
                self.share.hold()  # the worker that had it is gone: it is computed again
                self._watch(key, batch)
                continue
            if done is None:
                done = self._result(batch)
            batch.future.release()
            found.append((batch, done))
        return found

    def _watch(self, key: str, batch: Batch) -> None:
        """Have the bell rung when a task comes back."""
        self.under_way[key] = batch
        batch.future.add_done_callback(Bell(self.done))

    def _fetch(self, futures: dict[str, Future[Any]]) -> dict[str, Done | None]:
        """Results of finished tasks, as far as they can be had."""
        if not futures:
            return {}
        gathering = self.client.gather(futures, errors="skip", asynchronous=True)
        loop: Any = self.client.loop
        fetching = asyncio.run_coroutine_threadsafe(gathering, loop.asyncio_loop)
        while True:
            try:
                values: dict[str, Done | None] = fetching.result(PATIENCE)
            except TimeoutError:
                if all(future.status == "finished" for future in futures.values()) and not self.workforce.look():
                    continue  # a slow connection
                fetching.cancel()
                return {}
            return values

    def _wait(self) -> str:
        """Key of a task that came back; meanwhile the workers may change."""
        while True:
            check_interrupt()
            try:
                return self.done.get(timeout=PATIENCE)
            except Empty:
                if self.client.status != "running":
                    raise PartialFailure(f"{self.label}: {SCHEDULER_LOST}") from None
                self.watch()
                self._fill()

    def _result(self, batch: Batch) -> Done | None:
        from distributed import KilledWorker

        try:
            done: Done = batch.future.result()
        except KilledWorker:
            return None
        except CancelledError as error:
            raise PartialFailure(
                f"{self.label}: the scheduler dropped item {batch.indices[0]}, most often because it was stopped or "
                "the connection was lost: run the same command again"
            ) from error
        return done

    def _lost(self, batch: Batch) -> None:
        """A worker died with this batch, begun or not."""
        if self.carrier is not None and self.carrier.status == "error":
            self.again.extend(batch.indices)  # died before it could be begun
            return
        if not batch.alone:
            self.suspects.extend(batch.indices)
            return
        (index,) = batch.indices
        self.deaths_alone[index] += 1
        if self.deaths_alone[index] < ALONE:
            self.suspects.appendleft(index)
            return
        if self.failures is None:
            raise PartialFailure(f"{self.label}: item {index} {DEADLY}")
        self.failures.append(Failure(index, DEADLY))

    def _learn(self, batch: Batch, done: Done) -> None:
        """Take note of failures, of items that were not done, and of how long one takes."""
        held = {index for index, _ in done.results} | {index for index, _ in done.failed}
        self.again.extend(index for index in batch.indices if index not in held)
        if self.failures is not None:
            self.failures.extend(Failure(index, reason) for index, reason in done.failed)
        self.pool.idleness.note(done.worker, done.busy, done.seconds)
        if held:
            latest = done.seconds / len(held)
            self.seconds = latest if self.seconds is None else (self.seconds + latest) / 2
            self.size = max(1, min(LARGEST_BATCH, 2 * self.size, int(TASK_SECONDS / max(self.seconds, 1e-6))))
            self.pool.learnt[self.name] = (self.seconds, self.size)

    def _send_stranded(self) -> None:
        """Send again what only workers may take that are gone."""
        self.workforce.look()
        here = self.workforce.addresses
        if here is None or here == self.reached:
            return
        self.reached = here
        stranded = [key for key, b in self.under_way.items() if b.addresses is not None and not b.addresses & here]
        if stranded:
            lost = [self.under_way.pop(key) for key in stranded]
            self.share.give(len(lost))
            self.client.cancel([batch.future for batch in lost])
            for batch in lost:
                (self.suspects if batch.alone else self.again).extend(batch.indices)


def nothing() -> None:
    """Nobody watches."""
