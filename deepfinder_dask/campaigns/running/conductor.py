"""Many tomograms through their stages at once: driver threads, one pool of workers, and what to do about trouble.

::

    tomograms in order ─► driver thread 0 ─ convert ─ segment ─ cluster ─ export ─► state.json
                          driver thread 1 ─ convert ─ segment ─ …          │
                          …                                                ▼
                                             windows of the pool (execution/sharing.py) ─► workers

A driver thread computes nothing: it hands blocks to the pool and waits. Without a cluster there is one, this one, and
tomograms are done one after the other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from deepfinder_dask.campaigns.planning.config import Limits
from deepfinder_dask.campaigns.planning.entries import Entry
from deepfinder_dask.campaigns.running.inputs import has_changed
from deepfinder_dask.campaigns.running.space import Space
from deepfinder_dask.campaigns.running.stages import Outcome, Place, Stage, identities
from deepfinder_dask.campaigns.running.states import StageState, TomogramState, now
from deepfinder_dask.campaigns.running.trouble import Verdict, judge
from deepfinder_dask.campaigns.running.watching import Board, Watched
from deepfinder_dask.execution import DaskExecutor, Pool, Scope, SharedExecutor, check_interrupt
from deepfinder_dask.execution.protocol import Attempt, reason_of

if TYPE_CHECKING:
    from deepfinder_dask.execution import Executor

LOOK_EVERY = 0.5
"""Seconds between two looks at the threads, at most."""
MOST_THREADS = 64
"""Tomograms under way at once where nobody says, at most."""

Finish = Callable[[Place, TomogramState, "Executor"], None]
"""What is done when all stages of a tomogram are."""
Tidy = Callable[[Place, "Executor"], None]
"""What is done when a tomogram is declared done."""


@dataclass
class Conductor:
    """Drives tomograms through stages.

    Public for benchmarks: with stages of one's own it schedules blocks that compute nothing.
    """

    home: Path
    """Folder of the campaign; each tomogram has ``tomograms/NAME`` in it."""
    stages: Sequence[Stage]
    """In order."""
    executor: Executor
    """Where blocks run."""
    limits: Limits = field(default_factory=Limits)
    """What may be taken at once, and how often it is tried."""
    finish: Finish | None = None
    """Done when all stages of a tomogram are."""
    tidy: Tidy | None = None
    """Done when a tomogram is declared done."""
    board: Board = field(default_factory=Board)
    """Where it stands, for whoever looks."""
    until: str | None = None
    """The last stage that is done in this run; None for all."""
    asked: Callable[[], bool] | None = None
    """Whether somebody wants it to stop."""

    def __post_init__(self) -> None:
        self.pool = Pool(self.limits.windows())
        self.scope = Scope(self.asked)
        self.space = Space(self.home, self.limits.free_disk, self.limits.wait_for_disk, self.board.say)
        self._ended: BaseException | None = None

    def place(self, entry: Entry) -> Place:
        """A tomogram and its folder."""
        return Place(entry, self.home / "tomograms" / entry.name)

    def run(self, work: Sequence[tuple[Entry, TomogramState]]) -> None:
        """Do what is to be done, in order; states are written as it goes.

        Raises
        ------
        DeepFinderError
            What ended the campaign before its end: the scheduler is gone, the output cannot be written.
        KeyboardInterrupt
            When it is stopped; the same call goes on.
        """
        queue: SimpleQueue[tuple[int, Entry, TomogramState]] = SimpleQueue()
        for rank, (entry, state) in enumerate(work):
            queue.put((rank, entry, state))
        if isinstance(self.executor, DaskExecutor):
            self._run_threads(queue, len(work))
        else:
            with self.scope.entered():
                self._work(queue)
        if self._ended is not None:
            raise self._ended
        if self.scope.stopped:
            raise KeyboardInterrupt

    def stop(self) -> None:
        """End what is under way at its next check, and begin nothing else."""
        self.scope.stop()
        self.pool.wake()

    def _run_threads(self, queue: SimpleQueue[tuple[int, Entry, TomogramState]], count: int) -> None:
        most = self.limits.tomograms or min(MOST_THREADS, self.executor.workers + 2)
        threads = [
            threading.Thread(target=self._work_inside, args=(queue,), name=f"tomogram-{n}", daemon=True)
            for n in range(min(most, count))
        ]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive() and not self.scope.stopped:
                    thread.join(LOOK_EVERY)
        finally:
            self.stop()
            for thread in threads:
                thread.join()

    def _work_inside(self, queue: SimpleQueue[tuple[int, Entry, TomogramState]]) -> None:
        with self.scope.entered():
            self._work(queue)

    def _work(self, queue: SimpleQueue[tuple[int, Entry, TomogramState]]) -> None:
        """Take tomograms until there are none."""
        while not self.scope.stopped:
            try:
                rank, entry, state = queue.get_nowait()
            except Empty:
                return
            with Attempt() as attempt:
                self._drive(rank, entry, state)
            self.board.leave(entry.name, state.state)
            if attempt.error is not None:
                if self._ended is None or isinstance(self._ended, KeyboardInterrupt):
                    self._ended = attempt.error
                self.stop()
                return

    def _drive(self, rank: int, entry: Entry, state: TomogramState) -> None:
        """One tomogram through all stages that are not done."""
        place = self.place(entry)
        stages = [stage for stage in self.stages if stage.applies(entry)]
        wanted = identities(list(self.stages), entry)
        self.board.enter(entry.name)
        if state.stages and has_changed(entry.source, state.input):
            state.stages, state.input = {}, {}
            for stage in reversed(stages):
                stage.clear(place)
        first = next((i for i, s in enumerate(stages) if not is_done(state, s, wanted)), len(stages))
        if first < len(stages):
            first = next((i for i, s in enumerate(stages[:first]) if not s.present(place)), first)
        for stage in reversed(stages[first:]):
            held = state.stages.get(stage.name)
            if held is None or held.identity != wanted[stage.name]:
                stage.clear(place)
            if stage is not stages[first] or held is None or held.identity != wanted[stage.name]:
                state.stages.pop(stage.name, None)
        state.state, state.reason = "running", None
        for stage in stages[first:]:
            if not self._stage(rank, place, stage, wanted[stage.name], state):
                return
            if stage.name == self.until and stage is not stages[-1]:
                state.state = "pending"
                state.write(place.folder)
                return
        if self.finish is not None:
            self.finish(place, state, self._executor(rank, "clustering"))
        state.state, state.stage, state.reason = "done", None, None
        state.write(place.folder)
        if self.tidy is not None:
            self.tidy(place, self._executor(rank, "clustering"))

    def _stage(self, rank: int, place: Place, stage: Stage, identity: str, state: TomogramState) -> bool:
        """One stage, tried again where that may help; whether it is done."""
        tries = 0
        while True:
            check_interrupt()
            self.space.wait_for_room(int(state.input.get("bytes") or 0) if stage.kind == "conversion" else 0)
            record = StageState("running", started=now(), identity=identity)
            state.stages[stage.name], state.stage = record, stage.name
            state.attempts += 1
            state.write(place.folder)
            watched = Watched(self._executor(rank, stage.kind), self.board, self.space, place.entry.name, stage.name)
            outcome = Outcome()
            started = time.perf_counter()
            with Attempt() as attempt:
                stage.run(place, watched, outcome)
            record.ended, record.seconds = now(), round(time.perf_counter() - started, 3)
            record.blocks = watched.blocks
            if attempt.error is None:
                record.state, record.notes = "done", outcome.notes
                if outcome.input is not None:
                    state.input = outcome.input
                return True
            error, attempt.error = attempt.error, None
            tries += 1
            if not self._go_on(error, tries, place, record, state):
                return False

    def _go_on(self, error: BaseException, tries: int, place: Place, record: StageState, state: TomogramState) -> bool:
        """Whether to try a stage again after an error; where not, the tomogram is given up or the campaign ends."""
        verdict: Verdict = judge(error)
        if verdict in ("wait", "end"):
            record.state = state.state = "pending"
            state.reason = "interrupted" if not isinstance(error, Exception) else reason_of(error)
            if verdict == "wait":
                self.space.wait_after_full(error)
                return True
            with Attempt():
                state.write(place.folder)
            raise error
        if verdict == "retry" and tries <= self.limits.retries:
            pause = self.limits.backoff * 2 ** (tries - 1)
            self.board.say(f"{place.entry.name}: {reason_of(error)}: tried again in {pause:g} s")
            self._sleep(pause)
            return True
        record.state = state.state = "failed" if verdict == "fail" else "quarantined"
        state.reason = reason_of(error)
        state.write(place.folder)
        return False

    def _executor(self, rank: int, kind: str) -> Executor:
        if isinstance(self.executor, DaskExecutor):
            return SharedExecutor(self.executor, self.pool, rank, kind)
        return self.executor

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            check_interrupt()
            time.sleep(min(left, 0.2))


def is_done(state: TomogramState, stage: Stage, wanted: Mapping[str, str]) -> bool:
    """Whether a stage is done, and with what it would be done now."""
    held = state.stages.get(stage.name)
    return held is not None and held.state == "done" and held.identity == wanted[stage.name]
