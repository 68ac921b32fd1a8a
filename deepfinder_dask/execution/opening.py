"""Where items run, as the user says it: this process, local workers, or a running cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from deepfinder_dask.errors import InputError, SettingsError
from deepfinder_dask.execution.cluster import DaskExecutor
from deepfinder_dask.execution.in_process import SerialExecutor
from deepfinder_dask.execution.local import local_workers
from deepfinder_dask.execution.protocol import Executor


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
        Start one local worker process for each GPU, or for ``workers`` of them. A running cluster keeps its own; where
        its workers advertise the resource ``GPU``, functions that need one take their share of it.

    Yields
    ------
    Executor
        In-process when none is given.

    Raises
    ------
    SettingsError
        If both workers and a scheduler are given, the number of workers is below 1, or there are fewer GPUs.
    InputError
        If no scheduler answers at the address.
    """
    if workers is not None and scheduler is not None:
        raise SettingsError("give either a number of workers or the address of a scheduler, not both")
    if workers is not None and workers < 1:
        raise SettingsError(f"expected at least 1 worker, got {workers}")
    if scheduler is not None:
        with _running_cluster(scheduler) as executor:
            yield executor
    elif workers is not None or gpus:
        with local_workers(workers, gpus=gpus) as client:
            yield DaskExecutor(client)
    else:
        yield SerialExecutor()


@contextmanager
def _running_cluster(scheduler: str) -> Iterator[Executor]:
    from distributed import Client

    try:
        _check_address(scheduler)
        client = Client(scheduler, timeout="10s", set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise InputError(
            f"no Dask scheduler answers at {scheduler}: check the address and that it is running"
        ) from error
    with client:
        yield DaskExecutor(client)


def _check_address(address: str) -> None:
    """Raise a ValueError where nothing could answer: a client that finds out by itself hangs when Python exits."""
    from distributed.comm.addressing import parse_address, parse_host_port
    from distributed.comm.registry import get_backend

    scheme, place = parse_address(address)
    get_backend(scheme)
    if scheme in ("tcp", "tls"):
        parse_host_port(place)
