"""Nannies whose workers have an environment of their own, such as one GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from distributed import Nanny

from deepfinder_dask.execution.local import device_environment


class PlacedNanny(Nanny):
    """Starts a worker process, again where it dies, whose environment is set before any library is loaded.

    Parameters
    ----------
    *arguments, **options
        As for :class:`distributed.Nanny`.
    placed : mapping
        Environment variables.
    """

    def __init__(self, *arguments: Any, placed: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.pre_spawn_env.update(placed or {})  # before any library can count the GPUs
        self.env.update(placed or {})


class DeviceNanny(PlacedNanny):
    """Starts a worker process that sees only the GPU of its number.

    Parameters
    ----------
    *arguments, **options
        As for :class:`distributed.Nanny`; its name is the number of the worker.
    devices : sequence of str
        All GPUs, one for each worker.
    """

    def __init__(self, *arguments: Any, devices: Sequence[str] = (), **options: Any) -> None:
        super().__init__(*arguments, placed=device_environment(devices, int(options["name"])), **options)
