"""Items in this process: one after the other, or a few at once where reading, computing and writing overlap."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from queue import SimpleQueue
from typing import Any, TypeVar

from deepfinder_dask.execution.computing import PATIENCE, Scope
from deepfinder_dask.execution.protocol import Attempt, Failure, calls_in_flight, ends_the_run, reason_of

T = TypeVar("T")
R = TypeVar("R")


class SerialExecutor:
    """Items in this process: in order, unless the function asks for more than one in flight."""

    workers = 1

    def run(
        self,
        function: Callable[[T], R],
        items: Sequence[T],
        *,
        label: str,
        failures: list[Failure] | None = None,
        among: Collection[str] | None = None,
    ) -> Iterator[tuple[int, R]]:
        """Apply ``function`` to every item (see :class:`Executor`); nothing is begun before it is asked for."""
        at_once = min(calls_in_flight(function), len(items))
        if at_once > 1:
            return _overlapped(function, items, failures, at_once)
        return _in_turn(function, items, failures)

    def ask(self, function: Callable[[], R]) -> dict[str, R]:
        """Call a function in this process."""
        return {"in-process": function()}


def _in_turn(function: Callable[[T], R], items: Sequence[T], failures: list[Failure] | None) -> Iterator[tuple[int, R]]:
    for index in range(len(items)):
        with Attempt() as attempt, Scope().entered():
            result = function(items[index])
        if attempt.error is None:
            yield index, result
            continue
        _judge(index, attempt, failures)


def _judge(index: int, attempt: Attempt, failures: list[Failure] | None) -> None:
    """Take note of what an item raised, or raise it again."""
    error, attempt.error = attempt.error, None
    if error is None:
        return
    if failures is None or ends_the_run(error):
        try:
            raise error
        finally:
            del error  # a frame that holds its own exception lives on with all its arrays
    failures.append(Failure(index, reason_of(error)))


def _overlapped(
    function: Callable[[T], R], items: Sequence[T], failures: list[Failure] | None, at_once: int
) -> Iterator[tuple[int, R]]:
    """Items on a few threads; no more are begun than are under way and fetched."""
    scope = Scope()
    todo: SimpleQueue[int | None] = SimpleQueue()
    done: SimpleQueue[tuple[int, Attempt, Any]] = SimpleQueue()

    def work() -> None:
        with scope.entered():
            while (index := todo.get()) is not None:
                result = None
                with Attempt() as attempt:
                    if not scope.stopped:
                        result = function(items[index])
                done.put((index, attempt, result))
                del attempt, result

    threads = [threading.Thread(target=work, name=f"item-{n}", daemon=True) for n in range(at_once)]
    patience: float | None = None
    waiting = iter(range(len(items)))
    try:
        for _ in range(at_once):
            todo.put(next(waiting))
        for thread in threads:
            thread.start()
        for _ in range(len(items)):
            index, attempt, result = done.get()
            if attempt.error is not None:
                _judge(index, attempt, failures)
                todo.put(next(waiting, None))
                continue
            todo.put(next(waiting, None))
            yield index, result
            del result
    except KeyboardInterrupt:
        patience = PATIENCE / at_once
        raise
    finally:
        scope.stop()
        for _ in threads:
            todo.put(None)
        for thread in threads:  # what was begun ends now, or whoever cleans up after us would race it
            if thread.ident is not None:
                thread.join(patience)
