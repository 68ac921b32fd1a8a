"""The compute thread: everything heavy that a process computes runs on one thread, one step after the other.

Libraries keep a team of threads for each thread that calls them, so that two callers would fight over the cores; on a
GPU one thread is one stream of work. Tasks that overlap read and write on threads of their own, and hand their steps
to :func:`compute`. A :class:`Scope` is the work that a step belongs to: when that is stopped, the step under way ends
at its next :func:`check_interrupt`, and no other is begun.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, TypeVar

from deepfinder_dask.execution.protocol import Attempt

R = TypeVar("R")

CORES = "DEEPFINDER_CORES"
"""Environment variable: cores that the compute thread of this process may use."""
PATIENCE = 5.0
"""Seconds that a process which ends waits for a step under way."""

_here = threading.local()
_ending = threading.Event()


class Scope:
    """Work that can be stopped as a whole; what is begun inside other work is stopped with it.

    Parameters
    ----------
    asked : callable, optional
        Whether somebody else wants the work to stop, asked at each check.
    """

    def __init__(self, asked: Callable[[], bool] | None = None) -> None:
        self._asked = asked
        self._stopped = False
        self._outer: Scope | None = getattr(_here, "scope", None)

    def stop(self) -> None:
        """End the steps under way at their next check, and begin no other."""
        self._stopped = True

    @property
    def stopped(self) -> bool:
        """Whether the work is to end."""
        if self._stopped or _ending.is_set() or (self._asked is not None and self._asked()):
            return True
        return self._outer is not None and self._outer.stopped

    @contextmanager
    def entered(self) -> Iterator[None]:
        """What this thread does meanwhile is part of this work."""
        before = getattr(_here, "scope", None)
        _here.scope = self
        try:
            yield
        finally:
            _here.scope = before


def check_interrupt() -> None:
    """Raise a KeyboardInterrupt if the work of this thread is to end: Ctrl-C, a failure elsewhere, a lost driver."""
    scope: Scope | None = getattr(_here, "scope", None)
    if _ending.is_set() or (scope is not None and scope.stopped):
        raise KeyboardInterrupt


def compute(function: Callable[..., R], *arguments: Any) -> R:
    """Run a step on the compute thread of this process, and wait for it.

    Parameters
    ----------
    function : callable
        The step; what is set for a thread, such as ``torch.inference_mode``, it sets itself. It calls
        :func:`check_interrupt` every now and then.
    *arguments
        What it takes.

    Returns
    -------
    result
        What it returns. An exception comes with its traceback.

    Raises
    ------
    KeyboardInterrupt
        On Ctrl-C, at once; the step itself ends at its next check.
    """
    if getattr(_here, "computes", False):
        return function(*arguments)
    scope: Scope = getattr(_here, "scope", None) or Scope()
    step = _Step(function, arguments, scope)
    _thread.take(step)
    try:
        result: R = step.outcome.result()
    except KeyboardInterrupt:
        scope.stop()
        raise
    finally:
        del step  # arrays of a step live no longer than it, also where its caller is kept in a traceback
    return result


def computing_cores() -> int:
    """Cores that the compute thread may use.

    Returns
    -------
    int
        ``DEEPFINDER_CORES`` where it is set; in a Dask worker its threads (Dask sets ``OMP_NUM_THREADS=1`` there, but
        only one of them computes); else ``OMP_NUM_THREADS`` if the user set it; else all cores that are ours.
    """
    own = _positive(os.environ.get(CORES))
    if own:
        return own
    threads = _worker_threads()
    if threads:
        return min(threads, own_cores())
    return min(_positive(os.environ.get("OMP_NUM_THREADS")) or own_cores(), own_cores())


def own_cores() -> int:
    """Cores that this process may use, which a batch system may have limited."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _positive(text: str | None) -> int:
    """A number in an environment variable; 0 where there is none, or a list for nested teams that we do not read."""
    return int(text) if text is not None and text.isdigit() else 0


def _worker_threads() -> int:
    """Task threads of the Dask workers in this process."""
    module = sys.modules.get("distributed.worker")
    if module is None:
        return 0
    return sum(int(worker.state.nthreads) for worker in list(module.Worker._instances) if _is_open(worker))


def _is_open(worker: Any) -> bool:
    """Whether a worker takes tasks, or is about to: it may be asked before it says that it runs."""
    return worker.status.name not in ("stopping", "stopped", "closing", "closed", "failed", "dont_reply")


@dataclass
class _Step:
    """One call for the compute thread."""

    function: Callable[..., Any]
    """The call."""
    arguments: tuple[Any, ...]
    """Its arguments."""
    scope: Scope
    """The work it belongs to."""
    outcome: Future[Any] = field(default_factory=Future)
    """Its result or exception."""

    def run(self) -> None:
        """Compute, unless the work has been stopped."""
        with Attempt() as attempt, self.scope.entered():
            check_interrupt()
            result = self.function(*self.arguments)
        if attempt.error is not None:
            self.outcome.set_exception(attempt.error)
            attempt.error = None
        else:
            self.outcome.set_result(result)


class _ComputeThread:
    """A thread that is started with the first step, and does not keep the process from ending."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steps: SimpleQueue[_Step] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def take(self, step: _Step) -> None:
        """Compute a step when those before it are done."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="compute", daemon=True)
                self._thread.start()
        self._steps.put(step)

    def _work(self) -> None:
        _here.computes = True
        while True:
            step = self._steps.get()
            step.run()
            del step  # else its arrays would be kept until the next one

    def end(self) -> None:
        """Wait for the step under way: a library that is torn down while it computes may crash."""
        _ending.set()
        if self._thread is not None:
            last = _Step(int, (), Scope())
            self._steps.put(last)
            with Attempt():
                last.outcome.exception(PATIENCE)


_thread = _ComputeThread()


def _renew() -> None:
    """A forked child has none of its parent's threads."""
    global _thread
    _thread = _ComputeThread()
    _here.__dict__.clear()


os.register_at_fork(after_in_child=_renew)
atexit.register(lambda: _thread.end())
