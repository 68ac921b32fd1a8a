"""Killed at any instant and called again, ``segment`` goes on and gives the same bytes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deepfinder_dask.errors import InputError, OutputExistsError, PartialFailure, SettingsError
from deepfinder_dask.execution import SerialExecutor, hold, open_executor
from deepfinder_dask.networks import save_weights
from deepfinder_dask.segmentation import Segmentation, segment, verify
from deepfinder_dask.segmentation.store import ledger_of
from deepfinder_dask.tomograms import is_finished

SHAPE = (11, 20, 94)
BLOCK = (12, 12, 16)
BLOCKS = 1 * 2 * 6
CHILD = """
import sys
from deepfinder_dask import segment
tomogram, weights, output, workers = sys.argv[1:]
if __name__ == "__main__":
    segment(tomogram, weights, output, block=(12, 12, 16), scores=True, workers=int(workers) or None, progress=False)
"""


@pytest.fixture
def job(make_tomogram, weights, tmp_path):
    """Tomogram, weights file and what an undisturbed run gives."""
    tomogram = make_tomogram(SHAPE)
    save_weights(weights, tmp_path / "w.safetensors")
    undisturbed = segment(tomogram, weights, tmp_path / "undisturbed.zarr", scores=True)
    return tomogram.path, str(tmp_path / "w.safetensors"), undisturbed


def contents(done: Segmentation):
    return [volume.read() for volume in (done.label_map, done.probability_map, done.score_map)]


def same(one: Segmentation, other: Segmentation) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(contents(one), contents(other), strict=True))


def stamps(store: Path) -> dict[str, int]:
    """When each record was written."""
    return {str(p): p.stat().st_mtime_ns for p in store.glob(".ledger/records/**/*.json")}


def start(job, output, workers=0) -> subprocess.Popen:
    tomogram, weights, _ = job
    script = output.with_suffix(".py")
    script.write_text(CHILD)
    words = [sys.executable, str(script), tomogram, weights, str(output), str(workers)]
    return subprocess.Popen(words, start_new_session=True)


def kill_when(child: subprocess.Popen, output: Path, records: int, delay: float) -> None:
    """SIGKILL once so many blocks are recorded, and a moment later; or once it has ended."""
    deadline = time.monotonic() + 120
    while child.poll() is None and len(stamps(output)) < records and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(delay)
    child.kill()
    child.wait()


@pytest.mark.parametrize(
    ("kills", "workers"),
    [(2, 0), pytest.param(10, 0, marks=pytest.mark.slow), pytest.param(10, 2, marks=pytest.mark.slow)],
)
def test_killed_at_random_instants_it_ends_the_same(job, tmp_path, kills, workers):
    output = tmp_path / "killed.zarr"
    dice = random.Random(kills + workers)
    for number in range(kills):
        before = stamps(output)
        kill_when(start(job, output, workers), output, dice.randint(0, 2) + len(before), dice.random() * 0.3)
        after = stamps(output)
        assert before.items() <= after.items(), "a recorded block was done again"
        if number == 0:
            assert len(after) < BLOCKS
    before = stamps(output)
    if not is_finished(output):  # the last kill may have come too late
        assert start(job, output, workers).wait() == 0
    assert before.items() <= stamps(output).items()
    done = Segmentation.open(str(output))
    assert same(done, job[2])
    assert verify(done) == BLOCKS
    assert not list(output.rglob("*.partial"))


class Interrupting(SerialExecutor):
    """Stops after so many items, as Ctrl-C would."""

    def __init__(self, after: int) -> None:
        self.after = after

    def run(self, function, items, **options):
        results = super().run(function, items, **options)
        for number, result in enumerate(results):
            if number == self.after:
                results.close()
                raise KeyboardInterrupt
            yield result


def interrupted(job, output, after=5, **options):
    tomogram, weights, _ = job
    with pytest.raises(KeyboardInterrupt):
        segment(tomogram, weights, output, block=BLOCK, scores=True, executor=Interrupting(after), **options)


def test_a_resumed_run_keeps_its_blocks_whatever_is_asked_now(job, tmp_path):
    output = tmp_path / "s.zarr"
    interrupted(job, output)
    before = stamps(output)
    assert 5 <= len(before) < BLOCKS
    done = segment(*job[:2], output, scores=True, memory=2**31, block=(8, 8, 8))
    assert tuple(done.attributes["plan"]["core"]) == BLOCK
    assert before.items() <= stamps(output).items()
    assert same(done, job[2])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scores": False}, "other settings"),
        ({"augment": True}, "other settings"),
        ({"score_type": "uint8"}, "other settings"),
        ({"weights": True}, "other weights"),
        ({"tomogram": True}, "another tomogram"),
    ],
)
def test_a_ledger_of_other_work_is_refused_and_left_alone(job, make_tomogram, weights, tmp_path, change, words):
    output = tmp_path / "s.zarr"
    interrupted(job, output)
    before = stamps(output)
    tomogram, network, options = job[0], weights, {"scores": True, **change}
    if options.pop("weights", False):
        network = replace(weights, state={name: values * 1.5 for name, values in weights.state.items()})
    if options.pop("tomogram", False):
        tomogram = make_tomogram(SHAPE, values=np.random.default_rng(9).normal(5, 3, SHAPE).astype("f4"), name="other")
    with pytest.raises(OutputExistsError, match=f"begun with {words}.*--overwrite"):
        segment(tomogram, network, output, **options)
    assert stamps(output) == before
    assert same(segment(*job[:2], output, scores=True), job[2])


def test_a_ledger_of_workers_of_another_kind_is_refused(job, tmp_path, monkeypatch):
    output = tmp_path / "s.zarr"
    interrupted(job, output)
    plan = output / ".ledger" / "plan.json"
    text = json.loads(plan.read_text())
    text["identity"]["machine"] = "cpu SVE"
    plan.write_text(json.dumps(text))
    with pytest.raises(OutputExistsError, match=r"workers of another kind \(cpu SVE, now cpu"):
        segment(*job[:2], output, scores=True)


def test_begun_anew_nothing_of_the_older_work_stays(job, weights, tmp_path):
    output = tmp_path / "s.zarr"
    interrupted(job, output)
    other = replace(weights, state={name: values * 1.5 for name, values in weights.state.items()})
    done = segment(job[0], other, output, scores=True, overwrite=True)
    assert same(done, segment(job[0], other, tmp_path / "t.zarr", scores=True))
    verify(done)


def test_two_processes_never_work_in_one_output(job, tmp_path):
    output = tmp_path / "s.zarr"
    interrupted(job, output)
    with (
        hold(tmp_path / ".s.zarr.lock", output),
        pytest.raises(InputError, match="another process is at work"),
    ):
        segment(*job[:2], output, scores=True)
    assert same(segment(*job[:2], output, scores=True), job[2])


def test_a_worker_left_over_from_replaced_work_writes_nothing(job, tmp_path):
    """It finds another token in the ledger."""
    kept = []

    class Keeping(SerialExecutor):
        def run(self, function, items, **options):
            if hasattr(function, "ledger"):
                kept.append((function, items[0]))
            return super().run(function, items, **options)

    output = tmp_path / "s.zarr"
    segment(*job[:2], output, block=BLOCK, scores=True, executor=Keeping())
    with pytest.raises(OutputExistsError):
        segment(*job[:2], output)
    done = segment(*job[:2], output, block=BLOCK, scores=True, overwrite=True)
    before = stamps(output)
    function, block = kept[0]
    (output / ".ledger" / "records" / "000" / "0.json").unlink()
    with pytest.raises(SettingsError, match="belongs to other work"):
        function(block)
    assert stamps(output).items() <= before.items()
    assert len(stamps(output)) == BLOCKS - 1
    assert same(done, job[2])


@pytest.mark.parametrize("workers", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_a_damaged_block_of_the_tomogram_stops_no_other(make_tomogram, weights, tmp_path, workers):
    tomogram = make_tomogram((16, 16, 160), chunk=16, statistics=True)
    whole = tomogram.read()
    bad = Path(tomogram.path, "0", "c", "0", "0", "9")
    saved = bad.read_bytes()
    bad.write_bytes(saved[:100])
    output = tmp_path / "s.zarr"
    options = {"block": (16, 16, 16), "workers": workers}
    with pytest.raises(PartialFailure, match=r"4 of 10 blocks failed, all others are recorded: block \d .*damaged"):
        segment(tomogram, weights, output, **options)
    assert len(stamps(output)) == 6
    before = stamps(output)
    bad.write_bytes(saved)
    done = segment(tomogram, weights, output, **options)
    assert before.items() <= stamps(output).items()
    reference = segment(make_tomogram((16, 16, 160), values=whole, name="clean"), weights, tmp_path / "b.zarr")
    assert np.array_equal(done.label_map.read(), reference.label_map.read())


class Killing:
    """Runs a block function, but dies of one block."""

    in_flight = 2

    def __init__(self, function, number: int) -> None:
        self.function, self.number = function, number

    def __call__(self, block):
        if block.number == self.number:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.function(block)


class Poisoned:
    """An executor whose workers die of one block."""

    def __init__(self, executor, number: int) -> None:
        self.executor, self.number = executor, number
        self.workers = executor.workers

    def ask(self, function):
        return self.executor.ask(function)

    def run(self, function, items, **options):
        return self.executor.run(Killing(function, self.number), items, **options)


@pytest.mark.slow
def test_a_block_that_kills_its_worker_is_named_and_the_rest_completes(job, tmp_path):
    output = tmp_path / "s.zarr"
    with (
        open_executor(workers=2) as executor,
        pytest.raises(PartialFailure, match=r"1 of 12 blocks failed, all others are recorded: block 7 \(voxels .*kill"),
    ):
        segment(*job[:2], output, block=BLOCK, scores=True, executor=Poisoned(executor, 7))
    assert len(stamps(output)) == BLOCKS - 1
    assert same(segment(*job[:2], output, scores=True), job[2])


@pytest.mark.slow
def test_five_workers_killed_mid_run_change_nothing(job, tmp_path):
    output = tmp_path / "s.zarr"
    killed = []

    with open_executor(workers=2) as executor:

        class Murderous:
            workers = executor.workers
            ask = staticmethod(executor.ask)

            @staticmethod
            def run(function, items, **options):
                for number, result in enumerate(executor.run(function, items, **options)):
                    if number % 2 == 0 and len(killed) < 5 and hasattr(function, "ledger"):
                        pid = next(iter(executor.ask(os.getpid).values()))
                        os.kill(pid, signal.SIGKILL)
                        killed.append(pid)
                    yield result

        done = segment(*job[:2], output, block=BLOCK, scores=True, executor=Murderous())
    assert len(killed) == 5
    assert same(done, job[2])
    assert verify(done) == BLOCKS


def test_progress_is_told_to_other_programs(job, tmp_path):
    output = tmp_path / "s.zarr"
    interrupted(job, output)
    half = ledger_of(str(output)).progress()
    assert not half["finished"]
    segment(*job[:2], output, scores=True)
    numbers = ledger_of(str(output)).progress()
    assert numbers["finished"]
    assert (numbers["done"], numbers["total"]) == (BLOCKS, BLOCKS)
    assert numbers["voxels_done"] == numbers["voxels"] == np.prod(SHAPE)


def test_damage_is_found(job, tmp_path):
    output = tmp_path / "s.zarr"
    segment(*job[:2], output, block=BLOCK, scores=True)
    assert verify(output) == BLOCKS
    shard = next((output / "labels" / "0" / "c" / "0" / "1").iterdir())
    saved = shard.read_bytes()
    shard.unlink()  # reads as background, which no checksum of Zarr's own would notice
    with pytest.raises(PartialFailure, match=r"1 of 12 blocks are damaged: block \d+ \(voxels .*differs"):
        verify(output)
    torn = bytearray(saved)
    torn[len(torn) // 2] ^= 1
    shard.write_bytes(torn)
    with pytest.raises(PartialFailure, match="1 of 12 blocks are damaged"):
        verify(output)
    shard.write_bytes(saved)
    assert verify(output, workers=2) == BLOCKS
