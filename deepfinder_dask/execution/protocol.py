"""What an executor is, and what becomes of an item that cannot be computed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from deepfinder_dask.errors import DeepFinderError, SettingsError, StorageError

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Failure:
    """An item that was given up."""

    index: int
    """Its place among the items."""
    reason: str
    """Why, in one line."""


class Executor(Protocol):
    """Runs one function over many items.

    A function may carry two attributes. ``in_flight`` (int, default 1) is how many calls one process may have under
    way: a function with more overlaps its reading, computing and writing, and computes through
    :func:`~deepfinder_dask.execution.compute`. ``resource`` (str or None) names what a call needs of a worker, such as
    ``"GPU"``: where workers advertise it, a call takes its share of it.
    """

    @property
    def workers(self) -> int:
        """How many items are computed at once: processes."""
        ...

    def run(
        self,
        function: Callable[[T], R],
        items: Sequence[T],
        *,
        label: str,
        failures: list[Failure] | None = None,
        among: Collection[str] | None = None,
    ) -> Iterator[tuple[int, R]]:
        """Apply ``function`` to every item.

        Parameters
        ----------
        function : callable
            Takes one item and returns kilobytes; picklable, as are the items.
        items : sequence
            The work. An item with a ``number`` is shown under it in dashboards.
        label : str
            What the work is, for dashboards and errors.
        failures : list, optional
            Takes the items that raised an exception or whose worker died, while the rest completes. Without it the
            first of them ends the run. A :class:`StorageError` and a :class:`SettingsError` always end it: they
            concern all items alike.
        among : collection of str, optional
            Addresses of the only workers that may be used, as :meth:`ask` gives them.

        Yields
        ------
        (int, result)
            Index of the item and its result, in the order of completion.

        Raises
        ------
        PartialFailure
            If an item killed its worker, alone in the cluster too, or the scheduler went away; the item is named.
        """
        ...

    def ask(self, function: Callable[[], R]) -> dict[str, R]:
        """Call a light function once in every worker process.

        Parameters
        ----------
        function : callable
            Takes nothing and returns kilobytes; picklable.

        Returns
        -------
        dict
            Results by address of the worker; ``"in-process"`` is this process.
        """
        ...


class Attempt:
    """Keeps an exception instead of letting it through: ``with Attempt() as attempt: ...``."""

    error: BaseException | None = None
    """What was raised, if anything."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.error = error
        return True


def ends_the_run(error: BaseException) -> bool:
    """Whether an error concerns more than the item that it came from."""
    return not isinstance(error, Exception) or isinstance(error, StorageError | SettingsError)


def reason_of(error: BaseException) -> str:
    """An error in one line; its class is named where it is none of ours."""
    words = " ".join(str(error).split())
    if isinstance(error, DeepFinderError) and words:
        return words
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def calls_in_flight(function: Callable[..., Any]) -> int:
    """How many calls of a function one process may have under way."""
    return max(1, int(getattr(function, "in_flight", 1)))


def resource_of(function: Callable[..., Any]) -> str | None:
    """What a call of a function needs of a worker."""
    name: str | None = getattr(function, "resource", None)
    return name
