"""What becomes of a tomogram when a stage goes wrong: tried again, failed, quarantined, paused; or all ends."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import time
from collections import Counter, namedtuple
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from deepfinder_dask.campaigns.planning.config import Limits
from deepfinder_dask.campaigns.planning.entries import Entry
from deepfinder_dask.campaigns.running.conductor import Conductor
from deepfinder_dask.campaigns.running.inputs import has_changed, identify
from deepfinder_dask.campaigns.running.stages import BlocksStage
from deepfinder_dask.campaigns.running.states import TomogramState
from deepfinder_dask.campaigns.running.survey import survey
from deepfinder_dask.campaigns.running.trouble import PassingError, judge
from deepfinder_dask.errors import FormatError, PartialFailure, StorageError
from deepfinder_dask.execution import SerialExecutor, open_executor
from deepfinder_dask.execution.window import DEADLY


def os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def caused(error: Exception, by: Exception) -> Exception:
    error.__cause__ = by
    return error


@dataclass(frozen=True)
class Scripted(BlocksStage):
    """Raises what was planned for a tomogram, one error a try, and then succeeds."""

    plan: dict[str, list[BaseException]] = field(default_factory=dict)
    begun: Counter = field(default_factory=Counter)

    def run(self, place, executor, outcome):
        self.begun[place.entry.name] += 1
        if self.plan.get(place.entry.name):
            raise self.plan[place.entry.name].pop(0)
        super().run(place, executor, outcome)


def scripted(**plan: list[BaseException]) -> Scripted:
    return Scripted(abs, 3, plan=plan)


def work_of(*names: str) -> list[tuple[Entry, TomogramState]]:
    return [(Entry(name, f"/nowhere/{name}"), TomogramState(name, f"/nowhere/{name}")) for name in names]


def conduct(home, stage, *names, **limits: Any) -> tuple[Conductor, dict[str, TomogramState]]:
    work = work_of(*names)
    given = {"free_disk": 0, "backoff": 0.001, **limits}
    conductor = Conductor(home, [stage], SerialExecutor(), limits=Limits(**given))
    conductor.run(work)
    return conductor, {entry.name: state for entry, state in work}


def test_each_error_has_its_verdict():
    assert judge(os_error(errno.EIO)) == "retry"
    assert judge(caused(FormatError("cannot open s3://…"), os_error(errno.ECONNRESET))) == "retry"
    assert judge(PassingError("a stale handle")) == "retry"
    assert judge(FormatError("t.mrc is truncated")) == "fail"
    assert judge(FileNotFoundError(errno.ENOENT, "gone")) == "fail"
    assert judge(KeyError("what nobody foresaw")) == "fail"
    assert judge(os_error(errno.ENOSPC)) == "wait"
    assert judge(StorageError("cannot write x: the disk is full: free some space")) == "wait"
    assert judge(StorageError("cannot write x: no permission")) == "end"
    assert judge(PartialFailure(f"item 3 {DEADLY}")) == "quarantine"
    assert judge(PartialFailure("2 of 9 blocks failed, all others are recorded")) == "retry"
    assert judge(PartialFailure("segment: the connection to the scheduler was lost: run it again")) == "end"
    assert judge(KeyboardInterrupt()) == "end"


def test_errors_of_reading_are_tried_again_and_others_are_named(tmp_path):
    stage = scripted(
        flaky=[os_error(errno.EIO), os_error(errno.ESTALE)],
        broken=[FormatError("broken.mrc is truncated:\nits header says 9 bytes")],
        hopeless=[os_error(errno.EIO)] * 9,
        deadly=[PartialFailure(f"block 7 {DEADLY}")],
    )
    conductor, states = conduct(tmp_path, stage, "broken", "flaky", "hopeless", "deadly", "good", retries=2)
    assert {name: state.state for name, state in states.items()} == {
        "broken": "failed",
        "flaky": "done",
        "hopeless": "quarantined",
        "deadly": "quarantined",
        "good": "done",
    }
    assert stage.begun == {"broken": 1, "flaky": 3, "hopeless": 3, "deadly": 1, "good": 1}
    held = json.loads((tmp_path / "tomograms" / "broken" / "state.json").read_text())
    assert held["reason"] == "broken.mrc is truncated: its header says 9 bytes"
    assert (held["state"], held["stage"], held["attempts"]) == ("failed", "blocks", 1)
    assert states["flaky"].stages["blocks"].blocks == 3
    assert len([line for line in conductor.board.messages if line.startswith("flaky: ")]) == 2


def test_pauses_grow(tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(Conductor, "_sleep", lambda self, seconds: waits.append(seconds))
    conduct(tmp_path, scripted(a=[os_error(errno.EIO)] * 9), "a", retries=4, backoff=2.0)
    assert waits == [2.0, 4.0, 8.0, 16.0]


def test_what_meets_all_tomograms_ends_the_campaign_and_fails_none(tmp_path):
    work = work_of("a", "b")
    stage = scripted(a=[StorageError("cannot write x: the file system is read-only: choose another output")])
    with pytest.raises(StorageError, match="read-only"):
        Conductor(tmp_path, [stage], SerialExecutor(), limits=Limits(free_disk=0)).run(work)
    assert [state.state for _, state in work] == ["pending", "pending"]
    assert json.loads((tmp_path / "tomograms" / "a" / "state.json").read_text())["reason"].endswith("another output")
    Conductor(tmp_path, [stage], SerialExecutor(), limits=Limits(free_disk=0)).run(work)
    assert [state.state for _, state in work] == ["done", "done"]


Usage = namedtuple("Usage", "total used free")


def test_a_full_disk_pauses_and_says_so(tmp_path, monkeypatch):
    frees = [10, 10, 500, 500]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1000, 0, frees.pop(0) if len(frees) > 1 else frees[0]))
    monkeypatch.setattr("deepfinder_dask.campaigns.running.space.WAIT_EVERY", 0.001)
    conductor, states = conduct(tmp_path, scripted(), "a", free_disk=100)
    assert states["a"].state == "done"
    said = list(conductor.board.messages)
    assert said[0].startswith("paused: the disk of")
    assert "10 B are free, 100 B are needed" in said[0]
    assert said[1] == "there is room on the disk again: going on"


def test_a_write_that_met_a_full_disk_is_done_again_when_there_is_room(tmp_path, monkeypatch):
    frees = [0, 0, 0, 900, 900]
    stage = scripted(a=[StorageError("cannot write x: the disk is full: free some space")])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1000, 0, frees.pop(0) if len(frees) > 1 else frees[0]))
    monkeypatch.setattr("deepfinder_dask.campaigns.running.space.WAIT_EVERY", 0.001)
    _, states = conduct(tmp_path, stage, "a")
    assert (states["a"].state, stage.begun["a"]) == ("done", 2)


def test_a_disk_that_stays_full_ends_the_campaign(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1000, 990, 10))
    work = work_of("a")
    with pytest.raises(StorageError, match=r"is full .*: free some space, then run the same again"):
        Conductor(tmp_path, [scripted()], SerialExecutor(), limits=Limits(free_disk=100, wait_for_disk=0.01)).run(work)
    assert work[0][1].state == "pending"


def test_room_that_was_freed_before_it_was_looked_for_is_used(tmp_path, monkeypatch):
    stage = scripted(a=[StorageError("cannot write x: the disk is full: free some space")])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1000, 0, 900))
    monkeypatch.setattr("deepfinder_dask.campaigns.running.space.WAIT_EVERY", 0.001)
    monkeypatch.setattr("deepfinder_dask.campaigns.running.space.AGAIN_AFTER", 0.01, raising=False)
    _, states = conduct(tmp_path, stage, "a", wait_for_disk=0.5)
    assert (states["a"].state, stage.begun["a"]) == ("done", 2)


def test_a_quota_that_nobody_frees_ends_the_campaign(tmp_path, monkeypatch):
    stage = scripted(a=[StorageError("cannot write x: disk quota exceeded") for _ in range(1000)])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1000, 0, 900))
    monkeypatch.setattr("deepfinder_dask.campaigns.running.space.WAIT_EVERY", 0.001)
    monkeypatch.setattr("deepfinder_dask.campaigns.running.space.AGAIN_AFTER", 0.01, raising=False)
    with pytest.raises(StorageError, match="free some space, then run the same again"):
        conduct(tmp_path, stage, "a", wait_for_disk=0.2)


def test_a_full_disk_that_met_a_state_is_waited_for(tmp_path, monkeypatch):
    frees, errors = [500, 0, 0, 900], [StorageError("state.json: cannot be written: No space left on device")]
    written = TomogramState.write

    def write(state, folder):
        if errors:
            raise errors.pop()
        written(state, folder)

    monkeypatch.setattr(TomogramState, "write", write)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1000, 0, frees.pop(0) if len(frees) > 1 else frees[0]))
    monkeypatch.setattr("deepfinder_dask.campaigns.running.space.WAIT_EVERY", 0.001)
    _, states = conduct(tmp_path, scripted(), "a")
    assert states["a"].state == "done"


def test_what_cannot_be_tidied_stays_and_stops_no_other(tmp_path):
    def tidy(place, executor):
        if place.entry.name == "a":
            raise PartialFailure(f"digest-a: item 0 {DEADLY}")

    work = work_of("a", "b")
    conductor = Conductor(tmp_path, [scripted()], SerialExecutor(), limits=Limits(free_disk=0), tidy=tidy)
    conductor.run(work)
    assert [state.state for _, state in work] == ["done", "done"]
    assert "a: " in conductor.board.messages[0]


def test_up_to_a_stage_asked_for_again_goes_no_further(tmp_path):
    stages = [BlocksStage(abs, 2, "first"), BlocksStage(abs, 2, "second")]
    work = work_of("a")
    for _ in range(2):
        Conductor(tmp_path, stages, SerialExecutor(), limits=Limits(free_disk=0), until="first").run(work)
        assert (work[0][1].state, list(work[0][1].stages)) == ("pending", ["first"])


def test_an_input_that_cannot_be_looked_at_counts_as_unchanged(tmp_path, monkeypatch):
    file = tmp_path / "t.mrc"
    file.write_bytes(b"MAP ")
    held = identify(str(file))
    os.utime(file, (1, 1))

    def refused(source):
        raise PermissionError(errno.EACCES, "Permission denied", source)

    monkeypatch.setattr("deepfinder_dask.campaigns.running.inputs.identify", refused)
    assert not has_changed(str(file), held)


def test_only_retry_failed_touches_what_was_given_up(tmp_path):
    stage = scripted(bad=[FormatError("bad"), FormatError("bad")])
    conduct(tmp_path, stage, "bad", "good")
    entries = [entry for entry, _ in work_of("bad", "good", "new")]
    again = survey(tmp_path, entries, [stage])
    assert [entry.name for entry, _ in again.todo] == ["new"]
    assert {state.tomogram: state.state for state in again.rest} == {"bad": "failed", "good": "done"}
    assert [entry.name for entry, _ in survey(tmp_path, entries, [stage], retry_failed=True).todo] == ["bad", "new"]


def test_a_torn_state_is_no_state(tmp_path):
    conduct(tmp_path, scripted(), "a")
    file = tmp_path / "tomograms" / "a" / "state.json"
    file.write_text(file.read_text()[:40])
    assert len(survey(tmp_path, [work_of("a")[0][0]], [scripted()]).todo) == 1


def counted(folder, number):
    (folder / f"{number}-{os.getpid()}-{time.monotonic_ns()}").touch()
    time.sleep(0.01)
    if number == 2 and len(list(folder.glob("2-*"))) == 1:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_tomograms_share_workers_and_a_killed_worker_costs_no_tomogram(tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    work = work_of(*(f"t{n}" for n in range(6)))
    with open_executor(workers=2) as executor:
        conductor = Conductor(tmp_path, [BlocksStage(partial(counted, marks), 8)], executor, limits=Limits(free_disk=0))
        conductor.run(work)
        facts = conductor.pool.idleness.to_dict()
    assert {state.state for _, state in work} == {"done"}
    done = Counter(int(one.name.split("-")[0]) for one in marks.iterdir())
    assert all(done[n] >= 6 for n in range(8))
    assert conductor.board.blocks == 48
    assert len(facts["workers"]) >= 2


def test_a_stopped_campaign_begins_nothing_else(tmp_path):
    begun = []
    conductor = Conductor(tmp_path, [scripted()], SerialExecutor(), limits=Limits(free_disk=0))

    class Stopping(BlocksStage):
        def run(self, place, executor, outcome):
            begun.append(place.entry.name)
            conductor.stop()
            super().run(place, executor, outcome)

    conductor.stages = [Stopping(abs, 3)]
    work = work_of("a", "b")
    with pytest.raises(KeyboardInterrupt):
        conductor.run(work)
    assert begun == ["a"]
    assert json.loads((tmp_path / "tomograms" / "a" / "state.json").read_text())["state"] in ("pending", "done")
    assert not (tmp_path / "tomograms" / "b").exists()
