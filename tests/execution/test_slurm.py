"""Work on a real SLURM of one node, started here: results, jobs that end, jobs that never come."""

from __future__ import annotations

import os
import subprocess
import time
from functools import partial

import pytest

from deepfinder_dask.errors import PartialFailure, SettingsError
from deepfinder_dask.execution import SerialExecutor
from deepfinder_dask.execution.clusters import keeping, open_workforce

pytestmark = pytest.mark.slow
"""It takes no minutes, but starts daemons as root."""


@pytest.fixture
def table(tmp_path):
    return {
        "kind": "slurm",
        "cores": 1,
        "memory": "2GiB",
        "walltime": "00:20:00",
        "jobs": 2,
        "queue": "test",
        "interface": "lo",
        "local_folder": str(tmp_path / "dask"),
        "log_folder": str(tmp_path / "log"),
    }


def squares(folder, item):
    """Leaves one file for each time that it is run."""
    time.sleep(0.2)
    (folder / f"{item}-{os.environ['SLURM_JOB_ID']}-{time.monotonic_ns()}").touch()
    return item * item


def jobs_of(folder):
    return {file.name.split("-")[1] for file in folder.iterdir()}


def in_queue():
    done = subprocess.run(["squeue", "-h", "-o", "%A"], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_jobs_do_the_work_and_are_cancelled_in_the_end(slurm, table, tmp_path):
    folder = tmp_path / "runs"
    folder.mkdir()
    with open_workforce(table) as executor:
        answers = executor.ask(cores)
        assert set(answers.values()) == {"1"}
        found = sorted(executor.run(partial(squares, folder), range(60), label="squares"))
        assert found == sorted(SerialExecutor().run(pow_two, range(60), label="squares"))
        assert len(jobs_of(folder)) == 2
    limit = time.monotonic() + 30
    while in_queue() and time.monotonic() < limit:
        time.sleep(0.2)
    assert not in_queue()


def cores():
    return os.environ["DEEPFINDER_CORES"]


def pow_two(item):
    return item * item


def test_workers_leave_before_the_walltime_and_jobs_come_again(slurm, table, tmp_path, monkeypatch):
    """Each worker lives for some seconds; the work takes several lives, and no item is suspected of a death."""
    monkeypatch.setattr(keeping, "LOOK_EVERY", 0.5)
    folder = tmp_path / "runs"
    folder.mkdir()
    failures = []
    with open_workforce({**table, "lifetime": "00:00:06", "stagger": "00:00:02"}) as executor:
        found = sorted(executor.run(partial(squares, folder), range(250), label="squares", failures=failures))
    assert found == [(n, n * n) for n in range(250)]
    assert not failures
    assert len(jobs_of(folder)) > 2


def test_jobs_that_are_killed_come_again(slurm, table, tmp_path, monkeypatch):
    monkeypatch.setattr(keeping, "LOOK_EVERY", 0.5)
    folder = tmp_path / "runs"
    folder.mkdir()
    failures = []
    collected = {}
    with open_workforce(table) as executor:
        for index, square in executor.run(partial(squares, folder), range(100), label="squares", failures=failures):
            collected[index] = square
            if len(collected) in (20, 50):
                for job in in_queue():
                    subprocess.run(["scancel", "--signal=KILL", "--full", job], check=True)
    assert collected == {n: n * n for n in range(100)}
    assert not failures
    assert len(jobs_of(folder)) > 2


def test_their_number_follows_the_work(slurm, table, tmp_path, monkeypatch):
    monkeypatch.setattr(keeping, "LOOK_EVERY", 0.5)
    monkeypatch.setattr("deepfinder_dask.execution.window.WORTH", 2.0)
    folder = tmp_path / "runs"
    folder.mkdir()
    few = {**{key: value for key, value in table.items() if key != "jobs"}, "minimum": 0, "maximum": 3}
    with open_workforce(few) as executor:
        assert not in_queue()
        found = sorted(executor.run(partial(squares, folder), range(150), label="squares"))
        assert len(jobs_of(folder)) == 3
        limit = time.monotonic() + 30
        while in_queue() and time.monotonic() < limit:
            time.sleep(0.2)
        assert not in_queue()  # nothing is left to do
    assert found == [(n, n * n) for n in range(150)]


def test_jobs_that_end_before_their_worker_came_are_told(slurm, table, monkeypatch):
    monkeypatch.setattr(keeping, "LOOK_EVERY", 0.5)
    with (
        pytest.raises(PartialFailure, match="jobs in a row ended before a worker of theirs reached the scheduler"),
        open_workforce({**table, "prologue": ["exit 3"]}) as executor,
    ):
        executor.ask(os.getpid)


def test_what_slurm_refuses_is_told_in_one_line(slurm, table):
    with (
        pytest.raises(SettingsError, match=r"sbatch refused a job, it says .*invalid partition") as told,
        open_workforce({**table, "queue": "nowhere"}),
    ):
        pass
    assert "\n" not in str(told.value)
