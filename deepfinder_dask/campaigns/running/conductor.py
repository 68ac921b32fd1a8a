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
from deepfinder_dask.errors import StorageError
from deepfinder_dask.execution import DaskExecutor, Pool, Scope, SharedExecutor, check_interrupt
from deepfinder_dask.execution.protocol import Attempt, reason_of

if TYPE_CHECKING:
    from deepfinder_dask.execution import Executor

LOOK_EVERY = 0.5
"""Seconds between two looks at the threads, at most."""
COUNT_EVERY = 5.0
"""Seconds between two looks at how many workers there are."""
PATIENCE = 60.0
"""Seconds that threads have to end, when told to."""
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
    doubted: Callable[[Place, str], str | None] | None = None
    """Name of the stage whose result a reason of failure says to be damaged: it is made again, once."""
    asked: Callable[[], bool] | None = None
    """Whether somebody wants it to stop."""

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.pool = Pool(self.limits.windows())
        self.scope = Scope(self.asked)
        self.space = Space(self.home, self.limits.free_disk, self.limits.wait_for_disk, self.board.say)
        self._ended: BaseException | None = None
        self._stopped = False
        self._damaged: set[tuple[str, str]] = set()

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
            self._stopped = self.scope.stopped
        if self._ended is not None:
            raise self._ended
        if self._stopped:
            raise KeyboardInterrupt

    def stop(self) -> None:
        """End what is under way at its next check, and begin nothing else."""
        self.scope.stop()
        self.pool.wake()

    def _run_threads(self, queue: SimpleQueue[tuple[int, Entry, TomogramState]], count: int) -> None:
        threads: list[threading.Thread] = []
        try:
            while not self.scope.stopped:
                wanted = min(count, self.limits.tomograms or min(MOST_THREADS, self.executor.workers + 2))
                while len(threads) < wanted and not queue.empty():  # more, when workers came
                    name = f"tomogram-{len(threads)}"
                    threads.append(threading.Thread(target=self._work_inside, args=(queue,), name=name, daemon=True))
                    threads[-1].start()
                until = time.monotonic() + COUNT_EVERY
                while time.monotonic() < until and not self.scope.stopped:
                    alive = next((thread for thread in threads if thread.is_alive()), None)
                    if alive is None and queue.empty():
                        return
                    if alive is not None:
                        alive.join(LOOK_EVERY)
        finally:
            self._stopped = self.scope.stopped
            self.stop()
            until = time.monotonic() + PATIENCE
            for thread in threads:
                thread.join(max(0.0, until - time.monotonic()))

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
        wanted = identities(self.stages, entry)
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
        until = next((i for i, s in enumerate(stages) if s.name == self.until), len(stages) - 1)
        for stage in stages[first : until + 1]:
            if not self._stage(rank, place, stage, wanted[stage.name], state):
                if self._removed_damage(place, stages, state):
                    self._drive(rank, entry, state)
                return
        if until < len(stages) - 1:
            state.state, state.reason = "pending", None
            self._write(place, state)
            return
        if self.finish is not None and not self._finish(rank, place, state, self.finish):
            return
        state.state, state.stage, state.reason = "done", None, None
        self._write(place, state)
        if self.tidy is not None:
            with Attempt() as attempt:
                self.tidy(place, self._executor(rank, "clustering"))
            error, attempt.error = attempt.error, None
            if error is not None and judge(error) == "end":
                raise error
            if error is not None:  # what is there too long does no harm
                self.board.say(f"{entry.name}: done, but nothing of it is dropped: {reason_of(error)}")

    def _stage(self, rank: int, place: Place, stage: Stage, identity: str, state: TomogramState) -> bool:
        """One stage, tried again where that may help; whether it is done."""
        tries = 0
        while True:
            check_interrupt()
            record = StageState("running", started=now(), identity=identity)
            state.stages[stage.name], state.stage = record, stage.name
            state.attempts += 1
            self._write(place, state)
            watched = Watched(self._executor(rank, stage.kind), self.board, self.space, place.entry.name, stage.name)
            outcome = Outcome()
            started = time.perf_counter()
            with Attempt() as attempt:
                self.space.wait_for_room(file_bytes(place.entry.source) if stage.kind == "conversion" else 0)
                started = time.perf_counter()
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
            if not self._go_on(error, tries, place, state, record):
                return False

    def _finish(self, rank: int, place: Place, state: TomogramState, finish: Finish) -> bool:
        """What comes after the last stage, tried again in the same way."""
        tries = 0
        while True:
            with Attempt() as attempt:
                finish(place, state, self._executor(rank, "clustering"))
            if attempt.error is None:
                return True
            error, attempt.error = attempt.error, None
            tries += 1
            if not self._go_on(error, tries, place, state):
                return False

    def _go_on(
        self, error: BaseException, tries: int, place: Place, state: TomogramState, record: StageState | None = None
    ) -> bool:
        """Whether to try again after an error; where not, the tomogram is given up, or the campaign ends."""
        verdict: Verdict = judge(error)
        reason = reason_of(error) if isinstance(error, Exception) else "interrupted"
        state.reason = reason
        if verdict in ("wait", "end"):
            state.state = "pending"
            if record is not None:
                record.state = "pending"
            with Attempt():  # where nothing can be written, the error itself says so
                state.write(place.folder)
            if verdict == "end":
                raise error
            error.__traceback__ = None  # it would keep the run alive, with its share of the workers
            self.space.wait_after_full(reason)
            return True
        error.__traceback__ = None
        if verdict == "retry" and tries <= self.limits.retries:
            pause = self.limits.backoff * 2 ** (tries - 1)
            self.board.say(f"{place.entry.name}: {reason}: tried again in {pause:g} s")
            self._sleep(pause)
            return True
        state.state = "failed" if verdict == "fail" else "quarantined"
        if record is not None:
            record.state = state.state
        self._write(place, state)
        return False

    def _write(self, place: Place, state: TomogramState) -> None:
        """Write a state; where the disk is full, when there is room."""
        while True:
            try:
                state.write(place.folder)
            except StorageError as error:
                if judge(error) != "wait":
                    raise
                self.space.wait_after_full(reason_of(error))
            else:
                return

    def _removed_damage(self, place: Place, stages: Sequence[Stage], state: TomogramState) -> bool:
        """Remove a result of an earlier stage that turns out to be damaged; False where there is none, or once more."""
        name = None if self.doubted is None else self.doubted(place, state.reason or "")
        if name is None or (place.entry.name, name) in self._damaged:
            return False
        self._damaged.add((place.entry.name, name))
        self.board.say(f"{place.entry.name}: what {name} left is damaged, and is made again")
        for stage in stages:
            if stage.name == name:
                stage.clear(place)
        state.stages.pop(name, None)
        return True

    def _executor(self, rank: int, kind: str) -> Executor:
        if isinstance(self.executor, DaskExecutor):
            return SharedExecutor(self.executor, self.pool, rank, kind)
        return self.executor

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            check_interrupt()
            time.sleep(min(left, 0.2))


def file_bytes(source: str) -> int:
    """Size of a file, about what its conversion takes; 0 for stores and URLs."""
    path = Path(source)
    return path.stat().st_size if path.is_file() else 0


def is_done(state: TomogramState, stage: Stage, wanted: Mapping[str, str]) -> bool:
    """Whether a stage is done, and with what it would be done now."""
    held = state.stages.get(stage.name)
    return held is not None and held.state == "done" and held.identity == wanted[stage.name]
