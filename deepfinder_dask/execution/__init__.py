"""Execution of block functions, with progress.

In: a function and the items it is applied to. Out: its results, in the order of completion. The same functions run in
this process, on local worker processes or on any Dask cluster, and give the same bytes.
"""

from deepfinder_dask.execution.executors import DaskExecutor, Executor, SerialExecutor, open_executor
from deepfinder_dask.execution.options import options_to_settings
from deepfinder_dask.execution.progress import Progress, silence

__all__ = ["DaskExecutor", "Executor", "Progress", "SerialExecutor", "open_executor", "options_to_settings", "silence"]
