"""A nanny whose worker sees one GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distributed import Nanny

from deepfinder_dask.execution.local import device_environment


class DeviceNanny(Nanny):
    """Starts a worker process, again where it dies, that sees only the GPU of its number.

    Parameters
    ----------
    *arguments, **options
        As for :class:`distributed.Nanny`; its name is the number of the worker.
    devices : sequence of str
        All GPUs, one for each worker.
    """

    def __init__(self, *arguments: Any, devices: Sequence[str] = (), **options: Any) -> None:
        super().__init__(*arguments, **options)
        own = device_environment(devices, int(options["name"]))
        self.pre_spawn_env.update(own)  # before any library can count the GPUs
        self.env.update(own)
