"""What each of our worker processes does first: it takes its share of the cores, and leaves Ctrl-C to its driver."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from deepfinder_dask.execution.computing import CORES, own_cores

PROCESSES = "DEEPFINDER_PROCESSES"
"""Environment variable: worker processes on a machine whose cores were not counted where they were started from."""


def dask_setup(worker: Any) -> None:
    """Ignore interrupts from the terminal, which reach all processes at once."""
    processes = os.environ.get(PROCESSES, "")
    if processes.isdigit() and CORES not in os.environ:
        os.environ[CORES] = str(max(1, own_cores() // int(processes)))
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
