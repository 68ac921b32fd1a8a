"""Workers as a campaign file names them: this machine, a running scheduler, SSH hosts, a batch system, GPUs, a mixture.

In: the table ``[workers]`` of a campaign file, or one of the dataclasses that it stands for. Out: an
:class:`~deepfinder_dask.execution.Executor` on workers that are kept alive: a job that comes to its end is submitted
again, and what it had begun is computed by others.

::

    [workers]                      settings.py   what a table may say, by kind
    kind = "slurm"                 reading.py    table -> settings, with errors that name the key
    …                              opening.py    settings -> executor
                                       │
             groups.py  batch.py  ssh.py   the workers of this machine, of a batch system, of hosts
                                       │
                                   keeping.py    which are over, and how many are wanted
"""

from deepfinder_dask.execution.clusters.opening import open_workforce
from deepfinder_dask.execution.clusters.reading import read_workers
from deepfinder_dask.execution.clusters.settings import (
    GpuWorkers,
    LocalWorkers,
    LsfWorkers,
    MixedWorkers,
    PbsWorkers,
    SchedulerWorkers,
    SlurmWorkers,
    SshWorkers,
    WorkersTable,
)

__all__ = [
    "GpuWorkers",
    "LocalWorkers",
    "LsfWorkers",
    "MixedWorkers",
    "PbsWorkers",
    "SchedulerWorkers",
    "SlurmWorkers",
    "SshWorkers",
    "WorkersTable",
    "open_workforce",
    "read_workers",
]
