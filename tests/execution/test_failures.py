"""Items that fail, workers that die: the rest completes, nothing collected is done again, and each loss is named."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from functools import partial

import pytest

from deepfinder_dask.errors import InputError, PartialFailure, SettingsError, StorageError
from deepfinder_dask.execution import Failure, SerialExecutor, open_executor
from deepfinder_dask.execution.batches import Parcel, Work, run_batch

DEADLY = 7


class Flawed:
    """Fails for some items, each in its own way."""

    def __init__(self, in_flight=1):
        self.in_flight = in_flight

    def __call__(self, item):
        if item == 3:
            raise ValueError("no such\nthing")
        if item == 5:
            raise InputError("item 5 is constant")
        return item


def full_disk(item):
    if item == 2:
        raise StorageError("cannot write: the disk is full")
    return item


def counted(folder, seconds, item):
    """Leaves one file for each time that it is run."""
    time.sleep(seconds)
    (folder / f"{item}-{os.getpid()}-{time.monotonic_ns()}").touch()
    return os.getpid()


def deadly(folder, item):
    (folder / f"{item}-{time.monotonic_ns()}").touch()
    if item == DEADLY:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def runs(folder):
    return Counter(int(file.name.split("-")[0]) for file in folder.iterdir())


@pytest.fixture(scope="module")
def cluster():
    with open_executor(workers=2) as executor:
        yield executor


@pytest.mark.parametrize("in_flight", [1, 3])
@pytest.mark.parametrize("where", ["in-process", "workers"])
def test_failures_are_collected_and_the_rest_completes(where, in_flight, request):
    executor = SerialExecutor() if where == "in-process" else request.getfixturevalue("cluster")
    failures = []
    done = sorted(executor.run(Flawed(in_flight), range(12), label="flawed", failures=failures))
    assert done == [(n, n) for n in range(12) if n not in (3, 5)]
    assert sorted(failures, key=lambda failure: failure.index) == [
        Failure(3, "ValueError: no such thing"),
        Failure(5, "item 5 is constant"),
    ]


@pytest.mark.parametrize("where", ["in-process", "workers"])
def test_what_concerns_all_items_ends_the_run(where, request):
    executor = SerialExecutor() if where == "in-process" else request.getfixturevalue("cluster")
    failures = []
    with pytest.raises(StorageError, match="disk is full"):
        list(executor.run(full_disk, range(12), label="full", failures=failures))
    assert not failures


def test_an_item_that_kills_its_worker_is_named_and_the_rest_completes(tmp_path):
    failures = []
    with open_executor(workers=2) as executor:
        items = range(40)
        done = sorted(executor.run(partial(deadly, tmp_path), items, label="deadly", failures=failures))
    assert done == [(n, n) for n in items if n != DEADLY]
    assert [failure.index for failure in failures] == [DEADLY]
    assert failures[0].reason.startswith("killed its worker again and again, most often for lack of memory")
    assert "\n" not in failures[0].reason
    # Once beside others or in a batch, and once alone.
    assert runs(tmp_path)[DEADLY] == 3


def test_workers_killed_from_outside_lose_no_item(tmp_path):
    """Three of them; an item that was collected before is not done again."""
    items = range(40)
    collected = set()
    with open_executor(workers=2) as executor:
        pids = {}
        for number, (index, pid) in enumerate(executor.run(partial(counted, tmp_path, 0.05), items, label="count")):
            assert index not in collected
            collected.add(index)
            pids[index] = pid, runs(tmp_path)[index]
            if number in (3, 15, 25):
                os.kill(pid, signal.SIGKILL)
                time.sleep(0.05)
    assert collected == set(items)
    for index, (_, before) in pids.items():
        assert runs(tmp_path)[index] == before


def test_an_item_runs_again_alone(cluster, tmp_path):
    """While it does, nothing else of the run is under way."""
    failures = []
    running = partial(overlapping, tmp_path)
    list(cluster.run(running, range(10), label="alone", failures=failures))
    assert [failure.index for failure in failures] == [4]
    assert (tmp_path / "second").read_text() == "running: 4"


def overlapping(folder, item):
    mark = folder / f"running-{item}"
    mark.touch()
    time.sleep(0.2)
    if item == 4:
        again = (folder / "first").exists()
        beside = sorted(int(one.name.split("-")[1]) for one in folder.glob("running-*"))
        (folder / ("second" if again else "first")).write_text(f"running: {' '.join(map(str, beside))}")
        if not again:
            for one in folder.glob("running-*"):
                one.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    mark.unlink(missing_ok=True)
    return item


class Loading:
    """Kills the worker that takes it; the scheduler, in this process, takes it too."""

    def __init__(self, safe):
        self.safe = safe
        if os.getpid() != safe:
            os.kill(os.getpid(), signal.SIGKILL)

    def __reduce__(self):
        return Loading, (self.safe,)

    def __call__(self, item):
        return item


def test_a_function_that_kills_whoever_takes_it_ends_the_run():
    with (
        open_executor(workers=1) as executor,
        pytest.raises(PartialFailure, match=r"^load: .*most often for lack of memory"),
    ):
        list(executor.run(Loading(os.getpid()), range(4), label="load", failures=[]))


def test_a_batch_that_is_no_longer_wanted_ends_early(monkeypatch):
    """Directly, without a cluster: what it did is kept, the rest is named by its absence."""
    asked = iter([False, False, True])
    monkeypatch.setattr("deepfinder_dask.execution.batches._no_longer_wanted", lambda: lambda: next(asked, True))
    done = run_batch(Parcel([4, 5, 6], [1, 2, 3]), Work("run", str, None, collect=True))
    assert done.results == [(4, "1"), (5, "2")]
    assert not done.failed


def test_one_process_has_no_more_calls_under_way_than_it_may():
    here, most = [], []

    def call(item):
        here.append(item)
        most.append(len(here))
        time.sleep(0.05)
        here.remove(item)

    work = Work("limited", call, 2, collect=False)
    threads = [threading.Thread(target=run_batch, args=(Parcel([n], [n]), work)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 2


def test_only_the_workers_chosen_are_used(cluster):
    addresses = cluster.ask(os.getpid)
    assert len(addresses) == 2
    for address, pid in addresses.items():
        done = cluster.run(partial(pid_of, 0.01), range(8), label="chosen", among=[address])
        assert {found for _, found in done} == {pid}
    with pytest.raises(InputError, match="expected one of 2 workers, got tcp://nobody:1"):
        list(cluster.run(str, range(3), label="nobody", among=["tcp://nobody:1"]))


def test_a_chosen_worker_that_is_started_again_goes_on(cluster, tmp_path):
    """It has another address then."""
    address, pid = next(iter(cluster.ask(os.getpid).items()))
    found = []
    for _, one in cluster.run(partial(counted, tmp_path, 0.1), range(12), label="again", among=[address]):
        if not found:
            os.kill(pid, signal.SIGKILL)
        found.append(one)
    assert len(found) == 12
    assert len(set(found)) == 2


def pid_of(seconds, _):
    time.sleep(seconds)
    return os.getpid()


def test_in_process_asks_itself():
    assert SerialExecutor().ask(os.getpid) == {"in-process": os.getpid()}


def test_a_question_that_raises_is_told(cluster):
    with pytest.raises(SettingsError, match="bad question"):
        cluster.ask(bad_question)


def bad_question():
    raise SettingsError("bad question")


def test_a_scheduler_that_is_gone_when_workers_are_asked_is_told():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = [sys.executable, "-m", "dask", "scheduler", "--host", f"tcp://{address}", "--no-dashboard"]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as scheduler:
        asked = False
        while scheduler.poll() is None:
            with suppress(InputError), open_executor(scheduler=f"tcp://{address}") as executor:
                scheduler.kill()
                scheduler.wait()
                with pytest.raises(PartialFailure, match="connection to the scheduler was lost"):
                    executor.ask(os.getpid)
                asked = True
    assert asked
