"""What runs on a worker: a batch of items, one after the other, that ends early when nobody waits for it any more."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from deepfinder_dask.execution.computing import Scope, check_interrupt
from deepfinder_dask.execution.idleness import BusyClock
from deepfinder_dask.execution.protocol import Attempt, ends_the_run, reason_of

REMEMBERED = 64
"""Runs whose limits a worker process remembers."""

_limits: dict[str, threading.BoundedSemaphore] = {}
_lock = threading.Lock()
_busy = BusyClock()
WORKER = f"{socket.gethostname()}-{os.getpid()}"
"""Name of this process."""


@dataclass(frozen=True)
class Work:
    """The function of a run, as it is sent to the workers: once, beside all its batches."""

    run: str
    """Name of the run, used once."""
    function: Callable[[Any], Any]
    """Called with each item."""
    in_flight: int | None
    """Calls that one process may have under way, where the function says so."""
    collect: bool
    """Whether an item that raises an exception is reported, and the next one done."""


@dataclass
class Done:
    """What became of a batch."""

    results: list[tuple[int, Any]] = field(default_factory=list)
    """Index of an item and its result."""
    failed: list[tuple[int, str]] = field(default_factory=list)
    """Index of an item that raised an exception, and what in one line."""
    seconds: float = 0.0
    """Time that the batch took."""
    worker: str = ""
    """Name of the process that took it."""
    busy: float = 0.0
    """Seconds in which that process had a batch under way, since it began."""


class Parcel:
    """Items of a batch, sealed: Dask would look for tasks and futures inside lists and tuples.

    Parameters
    ----------
    indices : sequence of int
        Places of the items.
    items : sequence
        The items.
    """

    def __init__(self, indices: Sequence[int], items: Sequence[Any]) -> None:
        self.indices = indices
        self.items = items


class Sealed:
    """Keeps the scheduler from looking for tasks inside the function's data.

    Parameters
    ----------
    work : Work
        The function of a run.
    """

    def __init__(self, work: Work) -> None:
        self.work = work


def run_batch(parcel: Parcel, work: Work | Sealed) -> Done:
    """Apply the function to the items of a batch.

    Parameters
    ----------
    parcel : Parcel
        The items.
    work : Work or Sealed
        The function.

    Returns
    -------
    Done
        Items in neither of its lists were not done: the batch was told to end.
    """
    if isinstance(work, Sealed):
        work = work.work
    done = Done()
    started = time.perf_counter()
    scope = Scope(_no_longer_wanted())
    with Attempt() as whole, scope.entered(), _limited(work), _busy.running():
        for index, item in zip(parcel.indices, parcel.items, strict=True):
            check_interrupt()
            with Attempt() as attempt:
                done.results.append((index, work.function(item)))
            if attempt.error is not None:
                if not work.collect or ends_the_run(attempt.error):
                    raise attempt.error
                done.failed.append((index, reason_of(attempt.error)))
                attempt.error = None  # its traceback keeps the arrays of the item
    # Dask takes a KeyboardInterrupt in a task for one of its own worker.
    if whole.error is not None and not isinstance(whole.error, KeyboardInterrupt):
        raise whole.error
    done.seconds = time.perf_counter() - started
    done.worker, done.busy = WORKER, _busy.seconds()
    return done


def _no_longer_wanted() -> Callable[[], bool]:
    """Whether the scheduler has taken the task of this thread back, or its worker goes down."""
    from distributed import get_worker

    try:
        worker = get_worker()
        key = worker.get_current_task()
    except ValueError:  # no worker: the batch was called directly
        return lambda: False

    def asked() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state == "cancelled" or worker.status.name in ("closing", "closed", "failed")

    return asked


@contextmanager
def _limited(work: Work) -> Iterator[None]:
    """Wait until fewer calls of this run are under way in this process than it may have."""
    if work.in_flight is None:
        yield
        return
    with _lock:
        while len(_limits) >= REMEMBERED and work.run not in _limits:
            del _limits[next(iter(_limits))]
        limit = _limits.setdefault(work.run, threading.BoundedSemaphore(work.in_flight))
    while not limit.acquire(timeout=0.1):
        check_interrupt()
    try:
        yield
    finally:
        limit.release()
