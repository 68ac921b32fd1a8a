"""One compute thread a process, and Ctrl-C that ends what it computes."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import weakref
from functools import partial

import numpy as np
import pytest

from deepfinder_dask.execution import SerialExecutor, check_interrupt, compute, computing_cores, open_executor
from deepfinder_dask.execution.computing import Scope


def test_all_steps_run_on_one_thread_one_after_the_other():
    under_way, most, threads = [], [], set()

    def step(number):
        threads.add(threading.get_ident())
        under_way.append(number)
        most.append(len(under_way))
        time.sleep(0.01)
        under_way.remove(number)
        return number

    found = []
    callers = [threading.Thread(target=lambda n=n: found.append(compute(step, n))) for n in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sorted(found) == list(range(8))
    assert (max(most), len(threads)) == (1, 1)
    assert threading.get_ident() not in threads


def test_a_step_may_compute_itself():
    assert compute(compute, max, 3, 4) == 4


def test_an_exception_comes_back_with_its_traceback():
    def inner_function():
        raise ZeroDivisionError("in the step")

    with pytest.raises(ZeroDivisionError, match="in the step") as caught:
        compute(inner_function)
    assert "inner_function" in [frame.name for frame in traceback.extract_tb(caught.tb)]
    assert compute(int) == 0


def test_nothing_of_a_step_is_kept():
    """Neither arguments nor results: they are gigabytes."""
    array = np.zeros(3)
    argument = weakref.ref(array)
    result = compute(np.copy, array)
    kept = weakref.ref(result)
    del array, result
    assert argument() is None
    assert kept() is None


def test_an_error_keeps_nothing_either():
    array = np.zeros(3)
    argument = weakref.ref(array)
    failures = []
    function = partial(compute, fail, array)
    assert list(SerialExecutor().run(function, [0], label="fail", failures=failures)) == []
    del array, function
    gc.collect()
    assert argument() is None
    assert [failure.reason for failure in failures] == ["ValueError"]


def fail(array, number):
    raise ValueError


def test_a_stopped_scope_ends_its_steps_and_no_others():
    scope = Scope()
    with scope.entered():
        check_interrupt()
        scope.stop()
        with pytest.raises(KeyboardInterrupt):
            check_interrupt()
        with pytest.raises(KeyboardInterrupt):
            compute(int)
    check_interrupt()
    assert compute(int) == 0


@pytest.mark.parametrize("in_flight", [1, 2])
def test_a_run_that_is_left_early_begins_nothing_more(in_flight):
    begun, ended = [], []

    class Item:
        def __call__(self, number):
            begun.append(number)
            if number == 1:
                raise MemoryError("here")
            time.sleep(0.05)
            ended.append(number)

    Item.in_flight = in_flight
    with pytest.raises(MemoryError, match="here"):
        list(SerialExecutor().run(Item(), range(20), label="leave"))
    now = list(begun)
    assert len(now) <= 2 * in_flight
    time.sleep(0.15)
    assert begun == now
    assert sorted(ended) == sorted(set(begun) - {1})  # nothing is still under way


def test_items_overlap_and_a_window_of_them_is_begun():
    """Reading and writing of one item go on while another one computes."""
    begun = []
    both = threading.Barrier(2, timeout=20)

    class Item:
        in_flight = 2

        def __call__(self, number):
            begun.append(number)
            both.wait()
            return compute(threading.get_ident)

    run = SerialExecutor().run(Item(), range(8), label="overlap")
    assert not begun
    found = []
    for index, thread in run:
        found.append((index, thread))
        assert len(begun) <= len(found) + 2
    assert sorted(index for index, _ in found) == list(range(8))
    assert len({thread for _, thread in found}) == 1


def test_cores_are_those_of_this_process(monkeypatch):
    for name in ("DEEPFINDER_CORES", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert computing_cores() == len(os.sched_getaffinity(0))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert computing_cores() == 1
    monkeypatch.setenv("DEEPFINDER_CORES", "3")
    assert computing_cores() == 3


def test_cores_of_a_worker_of_another_cluster_are_its_threads():
    """Dask sets OMP_NUM_THREADS=1 there."""
    from distributed import Client, LocalCluster

    from deepfinder_dask.execution import DaskExecutor

    options = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "worker_dashboard_address": None}
    cluster = LocalCluster(n_workers=1, threads_per_worker=2, silence_logs=50, **options)
    with cluster, Client(cluster, set_as_default=False) as client:
        executor = DaskExecutor(client)
        own = len(os.sched_getaffinity(0))
        assert list(executor.ask(computing_cores).values()) == [min(2, own)]
        assert [found for _, found in executor.run(cores_of_a_step, [0], label="cores")] == [min(2, own)]


def test_local_workers_leave_the_environment_of_this_process_as_it_is(monkeypatch):
    """Dask sets variables of workers in the process that starts them; what is computed here later has all cores."""
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("DEEPFINDER_CORES", raising=False)
    with open_executor(workers=2) as executor:
        assert sorted(executor.ask(computing_cores).values()) == [max(1, len(os.sched_getaffinity(0)) // 2)] * 2
        assert os.environ["OMP_NUM_THREADS"] == "7"
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "DEEPFINDER_CORES" not in os.environ


def cores_of_a_step(_):
    return compute(computing_cores)


def test_the_cores_are_shared_out_between_our_workers():
    with open_executor(workers=2) as executor:
        own = len(os.sched_getaffinity(0))
        assert set(executor.ask(computing_cores).values()) == {max(1, own // 2)}
        assert executor.workers == 2


def test_execution_loads_no_torch():
    code = (
        "import sys\n"
        "from deepfinder_dask.execution import *\n"
        "assert compute(int) == 0 and computing_cores() >= 1\n"
        "assert 'torch' not in sys.modules and 'distributed' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


SCRIPT = """
import os, sys, time
from pathlib import Path
from deepfinder_dask.execution import check_interrupt, compute, open_executor

def step(number):
    Path(f"begun-{number}").touch()
    for _ in range(600):
        time.sleep(0.1)
        check_interrupt()
    Path(f"ended-{number}").touch()

class Item:
    in_flight = IN_FLIGHT
    def __call__(self, number):
        compute(step, number)

if __name__ == "__main__":
    with open_executor(workers=WORKERS) as executor:
        list(executor.run(Item(), range(6), label="interrupt", failures=[]))
"""


@pytest.mark.parametrize(
    ("workers", "in_flight", "everybody"), [(None, 1, True), (None, 2, True), (2, 2, True), (2, 2, False)]
)
def test_interrupt_ends_the_program(tmp_path, workers, in_flight, everybody):
    """With ``everybody`` workers are interrupted too, as a terminal does."""
    text = SCRIPT.replace("WORKERS", str(workers)).replace("IN_FLIGHT", str(in_flight))
    (tmp_path / "script.py").write_text(text)
    with subprocess.Popen(
        [sys.executable, "script.py"], cwd=tmp_path, start_new_session=True, stderr=subprocess.PIPE, text=True
    ) as process:
        limit = time.monotonic() + 60
        while not list(tmp_path.glob("begun-*")) and time.monotonic() < limit:
            time.sleep(0.05)
        begun = sorted(tmp_path.glob("begun-*"))
        if everybody:
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT, error
    assert error.rstrip().endswith("KeyboardInterrupt")
    assert error.count("Traceback") == 1, error
    assert workers or sorted(tmp_path.glob("begun-*")) == begun
    assert not list(tmp_path.glob("ended-*"))


def test_workers_stop_what_nobody_waits_for_any_more(tmp_path):
    """On a cluster that outlives the run: what is under way ends at its next check, and its batch with it."""
    with open_executor(workers=1) as executor:
        run = executor.run(Patient(tmp_path), range(8), label="patient")
        assert next(run)[0] == 0
        limit = time.monotonic() + 30
        while not (tmp_path / "begun-1").exists() and time.monotonic() < limit:
            time.sleep(0.02)
        started = time.monotonic()
        run.close()
        assert list(executor.run(str, [5], label="next")) == [(0, "5")]
        assert time.monotonic() - started < 20  # the item would have taken 60 s
        assert not list(tmp_path.glob("ended-*"))


class Patient:
    def __init__(self, folder):
        self.folder = folder

    def __call__(self, number):
        if number == 0:
            return
        (self.folder / f"begun-{number}").touch()
        for _ in range(600):
            time.sleep(0.1)
            check_interrupt()
        (self.folder / f"ended-{number}").touch()
