"""From settings of workers to an executor."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from deepfinder_dask.execution.cluster import DaskExecutor
from deepfinder_dask.execution.clusters.batch import batch_group
from deepfinder_dask.execution.clusters.groups import Workplace, local_group
from deepfinder_dask.execution.clusters.keeping import Keeper
from deepfinder_dask.execution.clusters.reading import read_workers
from deepfinder_dask.execution.clusters.settings import (
    GpuWorkers,
    Group,
    LocalWorkers,
    MixedWorkers,
    SchedulerWorkers,
    SshWorkers,
    WorkersTable,
)
from deepfinder_dask.execution.clusters.ssh import ssh_group
from deepfinder_dask.execution.local import deaf_to_interrupts, kept_environment, local_workers, shared_environment
from deepfinder_dask.execution.opening import open_executor
from deepfinder_dask.execution.protocol import Executor
from deepfinder_dask.execution.sizes import to_bytes


@contextmanager
def open_workforce(table: Mapping[str, Any] | WorkersTable) -> Iterator[Executor]:
    """Start the workers that a campaign file asks for, look after them, and stop them in the end.

    Parameters
    ----------
    table : mapping or settings
        The table ``[workers]``, as TOML gives it, or what :func:`read_workers` makes of it.

    Yields
    ------
    Executor
        At once: jobs may still wait in their queue. What is run waits for the first worker.

    Raises
    ------
    SettingsError
        If the table is wrong, a package is missing (the extra to install is named), or the batch system refuses a job.
    InputError
        If no scheduler or host answers, or this machine cannot submit jobs.
    """
    settings = read_workers(table) if isinstance(table, Mapping) else table
    if isinstance(settings, SchedulerWorkers):
        with open_executor(scheduler=settings.address) as executor:
            yield executor
    elif isinstance(settings, LocalWorkers):
        memory = None if settings.memory is None else to_bytes(settings.memory)
        with local_workers(settings.processes, gpus=False, cores=settings.cores, memory=memory) as client:
            yield DaskExecutor(client)
    elif isinstance(settings, GpuWorkers):
        with local_workers(settings.processes, gpus=True) as client:
            yield DaskExecutor(client)
    elif isinstance(settings, MixedWorkers):
        with _kept([_group(settings.cpu, "cpu"), _group(settings.gpu, "gpu")], None) as executor:
            yield executor
    elif isinstance(settings, SshWorkers):
        with _kept([_group(settings)], None) as executor:
            yield executor
    else:
        bounds = None if settings.maximum is None else (settings.minimum or 0, settings.maximum)
        place = batch_group(settings, started=None if bounds is None else bounds[0])
        with _kept([place], bounds) as executor:
            yield executor


def _group(settings: Group, name: str | None = None) -> Workplace:
    if isinstance(settings, LocalWorkers | GpuWorkers):
        return local_group(settings, name or settings.kind)
    if isinstance(settings, SshWorkers):
        return ssh_group(settings, name)
    return batch_group(settings, name)


@contextmanager
def _kept(places: Sequence[Workplace], bounds: tuple[int, int] | None) -> Iterator[Executor]:
    """Executor on a cluster of these groups whose scheduler runs in this process."""
    import dask
    from distributed import Client, Scheduler, SpecCluster

    scheduler: dict[str, Any] = {
        "port": 0,
        "dashboard": True,
        "dashboard_address": "127.0.0.1:0",
        # The first death is told at once; what is run again, and how, is decided by the run.
        "allowed_failures": 0,
    }
    interface = next((place.interface for place in places if place.interface), None)
    if interface is not None:
        scheduler["interface"] = interface
    elif all(place.here for place in places):
        scheduler["host"] = "127.0.0.1"
    config: dict[str, Any] = {"distributed.deploy.lost-worker-timeout": "1000 days"}  # ours to look after
    for place in places:
        config |= place.config
    specs = {name: dict(spec) for place in places for name, spec in place.specs.items()}
    template = next((dict(place.template) for place in places if place.template is not None), None)
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(config))
        stack.enter_context(kept_environment((*shared_environment(1), "CUDA_VISIBLE_DEVICES")))
        with deaf_to_interrupts():
            cluster = SpecCluster(
                workers=specs,
                scheduler={"cls": Scheduler, "options": scheduler},
                worker=template,
                silence_logs=logging.CRITICAL,
                name="deepfinder",
            )
        stack.enter_context(cluster)
        client = stack.enter_context(Client(cluster, set_as_default=False))
        keeper = stack.enter_context(Keeper(cluster, places, bounds))
        keeper.executor = DaskExecutor(client, watch=keeper.check)
        yield keeper.executor
