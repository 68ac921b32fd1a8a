"""Workers on hosts that are reached by SSH, through Dask's own SSH workers (asyncssh)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepfinder_dask.errors import InputError
from deepfinder_dask.execution.clusters.groups import Started, Workplace, resources
from deepfinder_dask.execution.clusters.required import require
from deepfinder_dask.execution.clusters.settings import SshWorkers
from deepfinder_dask.execution.local import (
    KEPT_MEMORY,
    PRELOAD,
    THREADS,
    THREADS_BY_GPU,
    VISIBLE,
    shared_environment,
)
from deepfinder_dask.execution.protocol import Attempt, reason_of
from deepfinder_dask.execution.sizes import to_bytes
from deepfinder_dask.execution.worker_start import PROCESSES

START_SECONDS = 300.0
"""How long the processes of a host may take to start: an environment on a slow network disk takes minutes."""


def ssh_group(settings: SshWorkers, name: str | None = None) -> Workplace:
    """A connection to each host, whose processes end with it.

    Parameters
    ----------
    settings : SshWorkers
        Hosts, and how to log in.
    name : str, optional
        Name of the group in a mixture.

    Raises
    ------
    SettingsError
        If asyncssh is not installed.
    """
    require("asyncssh", settings.kind, "ssh")
    environment = {PROCESSES: str(settings.processes)}
    if settings.cores is not None:
        environment |= shared_environment(settings.processes, settings.cores)
    if name is not None and not settings.gpu:
        environment[VISIBLE] = ""
    worker: dict[str, Any] = {
        "n_workers": settings.processes,
        "nthreads": THREADS_BY_GPU if settings.gpu else THREADS,
        "memory_limit": to_bytes(settings.memory) if settings.memory else 0,
        "resources": resources(gpu=settings.gpu, mixed=name is not None),
        "preload": [PRELOAD],
        "env": environment,
        "dashboard": False,
    }
    if settings.interface is not None:
        worker["interface"] = settings.interface
    given = {"username": settings.user, "port": settings.port, "known_hosts": _file(settings.known_hosts)}
    connect: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if settings.key is not None:
        connect["client_keys"] = [_file(settings.key)]
    host_class = _host_class()
    specs = {}
    for number, host in enumerate(settings.hosts):
        options = {"address": host, "connect_options": connect, "kwargs": worker, "remote_python": settings.python}
        specs[f"{name or 'ssh'}-{number}"] = {"cls": host_class, "options": options}
    early = {f"distributed.nanny.pre-spawn-environ.{key}": value for key, value in environment.items()}

    async def over(hosts: Mapping[str, Started]) -> set[str]:
        return {one for one, host in hosts.items() if _ended(host)}

    return Workplace(specs, None, settings.interface, config={**KEPT_MEMORY, **early, **_logging()}, over=over)


def _logging() -> dict[str, Any]:
    """Configuration with which workers say that they have started, by which Dask learns of it, whatever is hushed."""
    from dask import config

    levels = config.get("logging", {})
    if "version" in levels or config.get("logging-file-config", None):  # in the hands of the user
        return {}
    return {"logging": {**levels, "distributed.worker": "info"}}


def _file(path: str | None) -> str | None:
    return None if path is None else str(Path(path).expanduser())


def _ended(host: Any) -> bool:
    """Whether the processes of a host, or the way to it, are gone."""
    return bool(host.proc is None or host.proc.exit_status is not None or host.proc.is_closing())


def _host_class() -> Any:
    from distributed.deploy import ssh

    base: Any = ssh.Worker  # untyped

    class _Host(base):  # type: ignore[misc]
        async def start(self) -> None:
            with Attempt() as attempt:
                await asyncio.wait_for(super().start(), START_SECONDS)
            error, attempt.error = attempt.error, None
            if error is None:
                return
            if not isinstance(error, Exception):
                raise error
            late = isinstance(error, TimeoutError)
            reason = f"not all had started after {START_SECONDS:.0f} s" if late else reason_of(error)
            raise InputError(
                f"no workers on {self.address} by SSH ({reason}): check that `ssh {self.address}` needs no "
                f"password and that {self.remote_python or 'this Python'} is there"
            ) from error

    return _Host
