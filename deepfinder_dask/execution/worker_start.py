"""What each of our worker processes does first: it leaves Ctrl-C to the process that started it."""

from __future__ import annotations

import signal
import threading
from typing import Any


def dask_setup(worker: Any) -> None:
    """Ignore interrupts from the terminal, which reach all processes at once."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
