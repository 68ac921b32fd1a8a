"""Worker processes of this machine: the cores are shared out between them, or each is given a GPU."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from deepfinder_dask.errors import SettingsError
from deepfinder_dask.execution.computing import CORES, own_cores
from deepfinder_dask.execution.workforce import SLOT

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

VISIBLE = "CUDA_VISIBLE_DEVICES"
KEPT_MEMORY = {f"distributed.worker.memory.{name}": False for name in ("target", "spill", "pause")}
"""Dask moves its own data to disk, and pauses, long before a limit; what a block takes is not its data."""
TEAMS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
PRELOAD = "deepfinder_dask.execution.worker_start"
"""Module that each worker process imports first."""
THREADS = 2
"""Task threads of a process on the CPU: one item is read or written while another is computed."""
THREADS_BY_GPU = 4
"""Task threads of a process with a GPU: a GPU computes faster than one thread reads."""


@contextmanager
def local_workers(
    processes: int | None, *, gpus: bool, cores: int | None = None, memory: int | None = None
) -> Iterator[Client]:
    """Start worker processes on this machine, and stop them in the end.

    Parameters
    ----------
    processes : int, optional
        How many; default one for each GPU.
    gpus : bool
        Whether each is given a GPU of its own.
    cores : int, optional
        Cores that they share; default all that are ours.
    memory : int, optional
        Bytes that a process may take before it is ended; default no limit.

    Yields
    ------
    distributed.Client
        Connected to them.

    Raises
    ------
    SettingsError
        If there are fewer GPUs than processes.
    """
    import dask
    from distributed import Client

    devices = choose_devices(visible_devices(), processes) if gpus else []
    count = len(devices) or processes or 1
    environment = shared_environment(count, cores)
    # A worker first runs the imports of the user's script, so that libraries must find their share before that.
    early = {f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in environment.items()}
    with deaf_to_interrupts(), dask.config.set({**early, **KEPT_MEMORY}), kept_environment(environment):
        cluster = _start(count, devices, environment, memory or 0)
    # A local cluster looks after a lost worker some time later, and gives up one that just then is lost once more.
    patient = dask.config.set({"distributed.deploy.lost-worker-timeout": "1000 days"})
    with kept_environment(environment), patient, cluster, Client(cluster, set_as_default=False) as client:
        if devices:
            client.wait_for_workers(count)
        yield client


@contextmanager
def kept_environment(names: Iterable[str]) -> Iterator[None]:
    """Give environment variables of this process their values back in the end.

    Dask sets those of a worker here before it starts one, and leaves them: what this process computes later, and
    workers that it starts, would get the share of a worker.
    """
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def shared_environment(processes: int, cores: int | None = None) -> dict[str, str]:
    """Environment of each of a number of processes: its share of the cores, by default of all that are ours."""
    return dict.fromkeys((*TEAMS, CORES), str(max(1, (cores or own_cores()) // processes)))


def device_environment(devices: Sequence[str], process: int) -> dict[str, str]:
    """Environment of one of several processes that have a GPU each."""
    return {VISIBLE: devices[process]}


def choose_devices(devices: Sequence[str], processes: int | None) -> list[str]:
    """The GPUs that are used, one by each process.

    Raises
    ------
    SettingsError
        If there are none, or fewer than processes.
    """
    if not devices:
        raise SettingsError("expected a GPU, found none: check nvidia-smi and CUDA_VISIBLE_DEVICES, or use the CPU")
    if processes is not None and processes > len(devices):
        raise SettingsError(f"expected a GPU for each of {processes} workers, found {len(devices)}: use fewer workers")
    return list(devices[:processes])


def visible_devices(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Indices or ids of the GPUs that this process may use; no CUDA library is loaded."""
    named = environment.get(VISIBLE)
    if named is not None:
        devices = [name.strip() for name in named.split(",") if name.strip()]
        return devices[: devices.index("-1")] if "-1" in devices else devices  # as CUDA reads it
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    listed = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=60, check=False)
    count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return [str(number) for number in range(count)]


def _start(count: int, devices: list[str], environment: Mapping[str, str], memory: int) -> LocalCluster:
    from distributed import LocalCluster

    options: dict[str, Any] = {
        "n_workers": count,
        "threads_per_worker": THREADS_BY_GPU if devices else THREADS,
        "dashboard_address": "127.0.0.1:0",
        "host": "127.0.0.1",
        "memory_limit": memory,
        "silence_logs": logging.CRITICAL,  # what fails comes back as an exception
        "preload": [PRELOAD],
        "resources": {SLOT: 1.0},
        # The first death is told at once; what is run again, and how, is decided by the run.
        "scheduler_kwargs": {"allowed_failures": 0},
    }
    if not devices:
        return LocalCluster(processes=True, env=dict(environment), **options)
    if importlib.util.find_spec("dask_cuda") is not None:
        # Imported by name, since it is installed only beside GPUs.
        dask_cuda = importlib.import_module("dask_cuda")
        cluster: LocalCluster = dask_cuda.LocalCUDACluster(CUDA_VISIBLE_DEVICES=devices, **options)
        return cluster
    from deepfinder_dask.execution.device_nanny import DeviceNanny

    return LocalCluster(worker_class=DeviceNanny, env=dict(environment), devices=devices, **options)


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Let processes that are started meanwhile ignore Ctrl-C for good, and this one until the end.

    A terminal interrupts all processes at once. Workers that went down by themselves would each leave a traceback;
    this process answers alone, and stops them. (Those that are started again later ignore it themselves.)
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
