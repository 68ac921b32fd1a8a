"""Free disk: nothing is begun, and blocks wait, while there is too little of it."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from deepfinder_dask.errors import StorageError
from deepfinder_dask.execution import check_interrupt
from deepfinder_dask.execution.sizes import bytes_in_words

LOOK_EVERY = 2.0
"""Seconds between two looks at a disk that has room."""
WAIT_EVERY = 1.0
"""Seconds between two looks at a disk that has none."""
AGAIN_AFTER = 30.0
"""Seconds after which a write that failed is tried again where the disk has room: what filled it may be gone."""
NEW_AFTER = 120.0
"""Seconds without such a failure after which the next one is patiently waited for anew."""


class Space:
    """The disk of a campaign.

    Parameters
    ----------
    folder : Path
        A folder on it, which is there.
    keep : int
        Bytes that stay free.
    patience : float
        Seconds to wait for room.
    say : callable
        Takes what to tell the user, one line.
    """

    def __init__(self, folder: Path, keep: int, patience: float, say: Callable[[str], object]) -> None:
        self.folder, self.keep, self.patience, self.say = folder, keep, patience, say
        self._looked = float("-inf")
        self._lock = threading.Lock()
        self._told = False
        self._failed = self._since = float("-inf")

    def check(self) -> None:
        """Wait where there is no room; cheap where there was some a moment ago."""
        now = time.monotonic()
        if now - self._looked >= LOOK_EVERY:
            self._looked = now
            self.wait_for_room()

    def wait_for_room(self, needed: int = 0) -> None:
        """Wait until so many bytes could be written.

        Raises
        ------
        StorageError
            If there is no room for too long.
        """
        until = time.monotonic() + self.patience
        while (free := shutil.disk_usage(self.folder).free) < self.keep + needed:
            self._wait(until, f"{bytes_in_words(free)} are free, {bytes_in_words(self.keep + needed)} are needed")
        if self._told:
            with self._lock:
                self._told = False
            self.say("there is room on the disk again: going on")

    def wait_after_full(self, reason: str) -> None:
        """Wait after a write failed for lack of room: until something was freed, or may have been before this look.

        Raises
        ------
        StorageError
            If nothing was freed for too long.
        """
        now = time.monotonic()
        if now - self._failed > NEW_AFTER:
            self._since = now
        until = self._since + self.patience
        before = shutil.disk_usage(self.folder).free
        while (free := shutil.disk_usage(self.folder).free) <= max(before, self.keep):
            if free > self.keep and time.monotonic() >= now + AGAIN_AFTER:
                break
            self._wait(until, reason)
        self._failed = time.monotonic()
        self.wait_for_room()

    def _wait(self, until: float, why: str) -> None:
        check_interrupt()
        if time.monotonic() >= until:
            raise StorageError(f"the disk of {self.folder} is full ({why}): free some space, then run the same again")
        with self._lock:
            tell, self._told = not self._told, True
        if tell:
            self.say(f"paused: the disk of {self.folder} is full ({why}): free some space")
        time.sleep(min(WAIT_EVERY, max(0.0, until - time.monotonic())))
