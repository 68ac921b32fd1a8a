"""Tasks of a run as Dask sees them: batches under way, the function's own task, the bell, names."""

from __future__ import annotations

from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from deepfinder_dask.execution.batches import Sealed, Work

if TYPE_CHECKING:
    from distributed import Future


@dataclass
class Batch:
    """Items of one task."""

    indices: list[int]
    """Their places."""
    future: Future[Any]
    """The task."""
    addresses: frozenset[str] | None
    """The only workers that may take it."""
    alone: bool
    """Whether nothing else of the run is under way."""


def keep(sealed: Sealed) -> Work:
    """The task whose result stays on a worker."""
    return sealed.work


class Bell:
    """Rings with the key of a task that is done, on a thread of Dask's."""

    def __init__(self, done: SimpleQueue[str]) -> None:
        self.done = done

    def __call__(self, future: Future[Any]) -> None:
        """Ring."""
        self.done.put(str(future.key))


def group_name(label: str) -> str:
    """Name under which dashboards gather the tasks of a run.

    Dask cuts a key at the first hyphen that is followed by anything but letters, which would hide ``segment-TS_01``.
    """
    name = label.replace("-", "_")
    return name if name[:1].isalpha() else f"run_{name}"
