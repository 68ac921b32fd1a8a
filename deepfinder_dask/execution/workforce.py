"""The workers of a cluster that a run may use, and how many calls they take at once, while they come and go."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from deepfinder_dask.errors import InputError

if TYPE_CHECKING:
    from distributed import Client

SLOT = "DEEPFINDER_SLOT"
"""What each process of our own clusters has one of: a call takes its share, so that a function with one call in flight
runs once in a process, whatever its threads."""
CPU = "CPU"
"""What workers without GPUs have one of, where a cluster has both: a call that names no resource goes to them."""
LOOK_EVERY = 1.0
"""Seconds between two looks at the workers, at least."""


class Roster:
    """What the scheduler says of its workers, asked now and then for all runs of a connection together.

    Parameters
    ----------
    client : distributed.Client
        Connection to the scheduler.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self._lock = threading.Lock()
        self._looked = float("-inf")
        self._addresses: frozenset[str] = frozenset()
        self._facts: dict[str, dict[str, Any]] = {}

    def look(self, *, fresh: bool = False) -> dict[str, dict[str, Any]]:
        """What is known of each worker, by address; the same object while the workers are the same.

        Parameters
        ----------
        fresh : bool
            Ask also where it was asked a moment ago.

        Raises
        ------
        OSError
            If the scheduler does not answer.
        """
        with self._lock:
            now = time.monotonic()
            if fresh or now - self._looked >= LOOK_EVERY:
                self._looked = now
                addresses = frozenset(self.client.nthreads())
                if addresses != self._addresses:
                    self._facts, self._addresses = self._ask(), addresses
            return self._facts

    def _ask(self) -> dict[str, dict[str, Any]]:
        # Newer ones tell five by default.
        some = "n_workers" in inspect.signature(self.client.scheduler_info).parameters
        info = self.client.scheduler_info(n_workers=-1) if some else self.client.scheduler_info()
        return dict(info["workers"])


class Workforce:
    """Workers of a cluster, as one run sees them.

    Parameters
    ----------
    client : distributed.Client
        Connection to the scheduler.
    in_flight : int or None
        Calls that one process may have under way; None for as many as it has threads.
    resource : str or None
        What a call needs, where workers advertise it; None is "CPU".
    among : collection of str or None
        Addresses of the only workers to use. A worker that a nanny starts again has a new address and is the same.
    roster : Roster, optional
        Where other runs of the connection look, too.
    """

    def __init__(
        self,
        client: Client,
        in_flight: int | None,
        resource: str | None,
        among: Collection[str] | None,
        roster: Roster | None = None,
    ) -> None:
        self.roster = roster or Roster(client)
        self.in_flight = in_flight
        self.resource = resource
        self.lanes = 1
        """Calls that may be under way in all workers together."""
        self.processes = 1
        """Workers."""
        self.addresses: frozenset[str] | None = None
        """The only workers to use; None for all."""
        self.resources: dict[str, float] | None = None
        """What one task takes of its worker."""
        self._chosen: frozenset[str] | None = None
        self._known: dict[str, dict[str, Any]] | None = None
        if among is not None:
            here = self.roster.look(fresh=True)  # who was asked may have come a moment ago
            self._chosen = frozenset(_home(address, facts) for address, facts in here.items() if address in among)
            if not self._chosen:
                raise InputError(
                    f"expected one of {len(here)} workers, got {', '.join(among) or 'none'}: ask them again"
                )
        self.look()

    def look(self) -> bool:
        """Look at the workers, now and then; whether they have changed."""
        try:
            workers = self.roster.look()
        except OSError:  # a scheduler that is gone is told of by the tasks that it dropped
            return False
        if workers is self._known:
            return False
        self._known = workers
        if self._chosen is not None:
            workers = {address: facts for address, facts in workers.items() if _home(address, facts) in self._chosen}
            self.addresses = frozenset(workers) or self.addresses  # where all are gone, tasks wait, and are sent again
        self._count(list(workers.values()))
        return True

    def _count(self, workers: list[dict[str, Any]]) -> None:
        at_once = self.in_flight or 1
        share = (1 - 1e-9) / at_once  # sums of shares are rounded
        needs = {}
        if workers and all(SLOT in facts["resources"] for facts in workers):
            needs[SLOT] = share
        resource = self.resource or CPU
        if any(resource in facts["resources"] for facts in workers):
            needs[resource] = share
            workers = [facts for facts in workers if resource in facts["resources"]]
        if workers:
            self.resources = needs or None
        lanes = 0
        for facts in workers:
            lane = int(facts["nthreads"])
            if self.in_flight is not None:
                lane = min(lane, self.in_flight)
            for name in needs:
                lane = min(lane, max(1, int(facts["resources"][name] / share)))
            lanes += lane
        self.lanes, self.processes = max(1, lanes), max(1, len(workers))


def _home(address: str, facts: dict[str, Any]) -> str:
    """What stays the same when a worker is started again."""
    return str(facts.get("nanny") or address)
