"""Groups of workers as Dask's ``SpecCluster`` takes them, and those of this machine."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from deepfinder_dask.execution.clusters.settings import GpuWorkers, LocalWorkers
from deepfinder_dask.execution.local import (
    KEPT_MEMORY,
    PRELOAD,
    THREADS,
    THREADS_BY_GPU,
    VISIBLE,
    choose_devices,
    shared_environment,
    visible_devices,
)
from deepfinder_dask.execution.sizes import to_bytes
from deepfinder_dask.execution.workforce import CPU, SLOT

GPU = "GPU"
"""What workers with a GPU have one of."""


class Started(Protocol):
    """A job or a connection that holds workers, as it is kept in a cluster."""

    async def close(self) -> None:
        """End it."""
        ...


@dataclass(frozen=True)
class Workplace:
    """Where the workers of one group run, and how it is found out that they are over."""

    specs: Mapping[str, Mapping[str, Any]]
    """What ``SpecCluster`` starts, by name."""
    template: Mapping[str, Any] | None = None
    """Of this more can be started; None where their number is fixed."""
    interface: str | None = None
    """Network interface that they reach the scheduler by."""
    here: bool = False
    """Whether they run on this machine."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Configuration of Dask while they run."""
    over: Callable[[Mapping[str, Started]], Coroutine[Any, Any, set[str]]] | None = None
    """Which of them have come to an end; None where others look after them."""


def resources(*, gpu: bool, mixed: bool) -> dict[str, float]:
    """What a worker process has one of."""
    return {SLOT: 1.0, **({GPU: 1.0} if gpu else {CPU: 1.0} if mixed else {})}


def local_group(settings: LocalWorkers | GpuWorkers, name: str) -> Workplace:
    """Processes on this machine, in a mixture.

    Raises
    ------
    SettingsError
        If there are fewer GPUs than processes.
    """
    from deepfinder_dask.execution.device_nanny import PlacedNanny

    gpu = isinstance(settings, GpuWorkers)
    devices = choose_devices(visible_devices(), settings.processes) if gpu else []
    count = len(devices) or settings.processes or 1
    shares = shared_environment(count, None if isinstance(settings, GpuWorkers) else settings.cores)
    memory = None if isinstance(settings, GpuWorkers) else settings.memory
    specs = {}
    for number in range(count):
        options = {
            "nthreads": THREADS_BY_GPU if gpu else THREADS,
            "memory_limit": to_bytes(memory) if memory else 0,
            "host": "127.0.0.1",
            "preload": [PRELOAD],
            "resources": resources(gpu=gpu, mixed=True),
            "dashboard": False,
            "silence_logs": 50,
            "placed": {**shares, VISIBLE: devices[number] if gpu else ""},
        }
        specs[f"{name}-{number}"] = {"cls": PlacedNanny, "options": options}
    return Workplace(specs, here=True, config=KEPT_MEMORY)
