"""How busy the workers of a cluster were, from what they tell with each batch that they finish."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

SAMPLE_EVERY = 0.5
"""Seconds between two samples of a worker, at least; twice that whenever there are too many."""
MOST_SAMPLES = 1000
"""Samples kept of a worker."""


class BusyClock:
    """Seconds in which a process had at least one batch under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way = 0
        self._since = 0.0
        self._total = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """What is done meanwhile counts."""
        with self._lock:
            if self._under_way == 0:
                self._since = time.perf_counter()
            self._under_way += 1
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1
                if self._under_way == 0:
                    self._total += time.perf_counter() - self._since

    def seconds(self) -> float:
        """Busy seconds so far."""
        with self._lock:
            now = time.perf_counter() - self._since if self._under_way else 0.0
            return self._total + now


class Idleness:
    """Samples of how long each worker was busy, and when there was last enough for all of them to do."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._samples: dict[str, list[tuple[float, float]]] = {}
        self._every = SAMPLE_EVERY
        self._full = 0.0

    def note(self, worker: str, busy: float, batch_seconds: float) -> None:
        """A worker finished a batch, and had been busy for so many seconds since its process began."""
        now = time.monotonic() - self._began
        with self._lock:
            samples = self._samples.setdefault(worker, [(max(0.0, now - batch_seconds), busy - batch_seconds)])
            if len(samples) > 1 and now - samples[-2][0] < self._every:
                samples[-1] = (now, busy)
                return
            samples.append((now, busy))
            if len(samples) > MOST_SAMPLES:
                del samples[1:-1:2]
                self._every *= 2

    def note_full(self) -> None:
        """All workers have something to do just now."""
        self._full = time.monotonic() - self._began

    def to_dict(self) -> dict[str, Any]:
        """What was measured, JSON.

        Returns
        -------
        dict
            ``seconds`` since the beginning; ``full_until``, the last moment at which all workers had something to do;
            ``idle``, the share of time until then in which workers were idle (None before anything was measured);
            ``workers``: by worker, samples ``[seconds, busy seconds]``.
        """
        with self._lock:
            samples = {worker: list(values) for worker, values in self._samples.items()}
            full = self._full
        busy = whole = 0.0
        for values in samples.values():
            start = values[0][0]
            if full > start:
                busy += _at(values, full) - values[0][1]
                whole += full - start
        return {
            "seconds": round(time.monotonic() - self._began, 3),
            "full_until": round(full, 3),
            "idle": round(max(0.0, 1 - busy / whole), 4) if whole else None,
            "workers": {name: [[round(t, 3), round(b, 3)] for t, b in values] for name, values in samples.items()},
        }


def _at(samples: list[tuple[float, float]], moment: float) -> float:
    """Busy seconds at a moment, between two samples in proportion."""
    for (t0, b0), (t1, b1) in pairwise(samples):
        if moment <= t1:
            return b0 + (b1 - b0) * (moment - t0) / (t1 - t0) if t1 > t0 else b1
    return samples[-1][1]
