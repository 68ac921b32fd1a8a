"""Execution of block functions: in this process, on local workers, on any Dask cluster, with the same bytes.

In: a function and the items it is applied to. Out: its results, in the order of completion; a ledger of what is
finished; and how far it is.

``open_executor`` gives an :class:`Executor`; its ``run`` applies a function to items. A function that wants its reading
and writing to overlap with computing says so (``in_flight``) and hands what it computes to :func:`compute`, the one
compute thread of a process. A :class:`Ledger` keeps what is finished, so that a killed run can go on.
"""

from deepfinder_dask.execution.cluster import DaskExecutor
from deepfinder_dask.execution.computing import Scope, check_interrupt, compute, computing_cores
from deepfinder_dask.execution.in_process import SerialExecutor
from deepfinder_dask.execution.ledger import Ledger
from deepfinder_dask.execution.locking import hold
from deepfinder_dask.execution.opening import open_executor
from deepfinder_dask.execution.options import options_to_settings
from deepfinder_dask.execution.progress import Progress, note_voxels, silence
from deepfinder_dask.execution.protocol import Executor, Failure
from deepfinder_dask.execution.sharing import Pool, SharedExecutor

__all__ = [
    "DaskExecutor",
    "Executor",
    "Failure",
    "Ledger",
    "Pool",
    "Progress",
    "Scope",
    "SerialExecutor",
    "SharedExecutor",
    "check_interrupt",
    "compute",
    "computing_cores",
    "hold",
    "note_voxels",
    "open_executor",
    "options_to_settings",
    "silence",
]
