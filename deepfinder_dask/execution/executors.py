"""Executors: the same block functions in this process, or on the workers of a Dask cluster.

A block function takes one small item (usually a :class:`~deepfinder_dask.blocks.Block`), reads and writes volumes
itself, and returns kilobytes. There are no edges between blocks, so a cluster never holds their data and an executor is
only a window of submitted tasks.
"""

from __future__ import annotations

import logging
import secrets
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from deepfinder_dask.errors import InputError, PartialFailure, SettingsError
from deepfinder_dask.execution.computing import CORES, own_cores
from deepfinder_dask.execution.in_process import SerialExecutor
from deepfinder_dask.execution.protocol import Attempt, Executor, Failure, ends_the_run, reason_of

if TYPE_CHECKING:
    from distributed import Client, Future

T = TypeVar("T")
R = TypeVar("R")


class DaskExecutor:
    """Items on the workers of a Dask cluster, a window of them submitted at a time.

    Parameters
    ----------
    client : distributed.Client
        Connection to the scheduler.
    tasks_ahead : int
        Items submitted for each worker thread.
    """

    def __init__(self, client: Client, tasks_ahead: int = 4) -> None:
        self.client = client
        self.tasks_ahead = tasks_ahead

    @property
    def workers(self) -> int:
        """Worker threads known to the scheduler now."""
        return max(1, sum(int(n) for n in self.client.nthreads().values()))

    def ask(self, function: Callable[[], R]) -> dict[str, R]:
        """Call a function once in every worker process (see :class:`Executor`)."""
        answers: dict[str, R] = self.client.run(function)
        return answers

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
        from distributed import as_completed

        submitted: dict[Any, tuple[int, Future[Any]]] = {}
        waiting = iter(range(len(items)))
        # The function may be large beside an item (it carries weights): one task keeps it, the items depend on that.
        # Unlike scattered data, it is made again when the workers that hold it die.
        # No key is ever used again: a scheduler that still holds a result answers with it instead of computing.
        name = f"{label}-{secrets.token_hex(8)}"
        shared = self.client.submit(_Carrier, function, key=f"{name}-function", pure=False)

        def submit(index: int) -> Future[Any]:
            future = self.client.submit(_call, shared, items[index], key=f"{name}-{index}", pure=False)
            submitted[future.key] = index, future
            return future

        window = self.tasks_ahead * self.workers
        queue = as_completed([submit(index) for index in islice(waiting, window)], loop=self.client.loop)
        try:
            for future in queue:
                index, _ = submitted.pop(future.key)
                with Attempt() as attempt:
                    result = self._result(future, label, index)
                future.release()
                if attempt.error is None:
                    yield index, result
                elif failures is None or ends_the_run(attempt.error):
                    raise attempt.error
                else:
                    failures.append(Failure(index, reason_of(attempt.error)))
                following = next(waiting, None)
                if following is not None:
                    queue.add(submit(following))
        finally:
            queue.clear()
            for _, future in submitted.values():
                future.release()  # what was not begun never is: nobody waits for it

    def _result(self, future: Future[Any], label: str, index: int) -> Any:
        from distributed import KilledWorker

        try:
            return future.result()
        except KilledWorker as error:
            raise PartialFailure(
                f"{label}: workers died at item {index} or one computed beside it, most often for lack of memory: "
                "use smaller blocks or fewer workers"
            ) from error
        except CancelledError as error:
            raise PartialFailure(
                f"{label}: the scheduler dropped item {index}, most often because it was stopped or the connection "
                "was lost: run the same command again"
            ) from error


class _Carrier:
    """Keeps the scheduler from treating a function as data of its own."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function


def _call(carrier: _Carrier, item: Any) -> Any:
    return carrier.function(item)


@contextmanager
def open_executor(
    workers: int | None = None, scheduler: str | None = None, *, gpus: bool = False
) -> Iterator[Executor]:
    """Executor for a number of local processes, for a running cluster, or for this process.

    Parameters
    ----------
    workers : int, optional
        Start this many local worker processes; the cores are shared out between them.
    scheduler : str, optional
        Address of a running Dask scheduler, such as ``tcp://host:8786``.
    gpus : bool
        Start one local worker process for each GPU, or for ``workers`` of them.

    Yields
    ------
    Executor
        In-process when neither is given.

    Raises
    ------
    SettingsError
        If both are given, or the number of workers is below 1.
    InputError
        If no scheduler answers at the address.
    """
    if workers is not None and scheduler is not None:
        raise SettingsError("give either a number of workers or the address of a scheduler, not both")
    if workers is not None and workers < 1:
        raise SettingsError(f"expected at least 1 worker, got {workers}")
    if workers is None and scheduler is None:
        yield SerialExecutor()
        return

    import dask
    from distributed import Client, LocalCluster

    if scheduler is not None:
        try:
            _check_address(scheduler)
            client = Client(scheduler, timeout="10s", set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise InputError(
                f"no Dask scheduler answers at {scheduler}: check the address and that it is running"
            ) from error
        with client:
            yield DaskExecutor(client)
        return
    threads = str(max(1, own_cores() // (workers or 1)))
    share = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", CORES), threads)
    # A worker first runs the imports of the user's script, so that libraries must find their share before that.
    early = {f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in share.items()}
    with _deaf_to_interrupts(), dask.config.set(early):
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            host="127.0.0.1",
            memory_limit=0,
            silence_logs=logging.CRITICAL,  # what fails comes back as an exception
            env=share,
        )
    with cluster, Client(cluster, set_as_default=False) as client:
        yield DaskExecutor(client)


def _check_address(address: str) -> None:
    """Raise a ValueError where nothing could answer: a client that finds out by itself hangs when Python exits."""
    from distributed.comm.addressing import parse_address, parse_host_port
    from distributed.comm.registry import get_backend

    scheme, place = parse_address(address)
    get_backend(scheme)
    if scheme in ("tcp", "tls"):
        parse_host_port(place)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Let processes that are started meanwhile ignore Ctrl-C for good, and this one until the end.

    A terminal interrupts all processes at once. Workers that went down by themselves would each leave a traceback;
    this process answers alone, and stops them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
