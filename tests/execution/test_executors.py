"""The same function gives the same results in this process and on workers, and failures are told in one line."""

from __future__ import annotations

import os
import signal
from functools import partial

import pytest

from deepfinder_dask.errors import InputError, PartialFailure, SettingsError
from deepfinder_dask.execution import DaskExecutor, open_executor

ITEMS = list(range(23))


def scaled(factor, item):
    return item * factor


def failing(item):
    if item == 3:
        raise SettingsError("item 3 cannot work")
    return item


def deadly(item):
    if item == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def deadly_once(marker, item):
    if item == 5 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item


@pytest.fixture(scope="module")
def cluster():
    with open_executor(workers=2) as executor:
        yield executor


def test_serial_and_workers_agree(cluster):
    function = partial(scaled, 7)
    with open_executor() as serial:
        here = list(serial.run(function, ITEMS, label="scale"))
    there = sorted(cluster.run(function, ITEMS, label="scale"))
    assert here == there == [(n, 7 * n) for n in ITEMS]
    assert (serial.workers, cluster.workers) == (1, 2)


def test_only_a_window_of_items_is_submitted(cluster):
    class Watched(list):
        taken = 0

        def __getitem__(self, index):
            self.taken += 1
            return super().__getitem__(index)

    items = Watched(ITEMS)
    done = 0
    for _ in DaskExecutor(cluster.client, tasks_ahead=2).run(partial(scaled, 1), items, label="window"):
        done += 1
        assert items.taken <= done - 1 + 4  # two ahead for each of two workers
    assert done == len(ITEMS)


def test_an_error_of_ours_comes_back_as_it_is(cluster):
    with pytest.raises(SettingsError, match="item 3 cannot work"):
        list(cluster.run(failing, ITEMS, label="fail"))
    assert len(list(cluster.run(partial(scaled, 1), ITEMS, label="again"))) == len(ITEMS)


def test_a_worker_that_dies_once_costs_no_result(tmp_path):
    with open_executor(workers=1) as executor:
        found = executor.run(partial(deadly_once, tmp_path / "died"), ITEMS, label="once")
        assert sorted(found) == [(n, n) for n in ITEMS]
    assert (tmp_path / "died").exists()


def test_workers_that_die_are_told_in_one_line():
    import dask

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        open_executor(workers=1) as executor,
        pytest.raises(PartialFailure, match=r"deadly: workers died at item \d or one computed beside it"),
    ):
        list(executor.run(deadly, [0, 1, 2], label="deadly"))


def test_executors_that_cannot_be_are_refused():
    with pytest.raises(SettingsError, match="not both"), open_executor(2, "tcp://127.0.0.1:1"):
        pass
    with pytest.raises(SettingsError, match="at least 1 worker"), open_executor(0):
        pass


@pytest.mark.slow
def test_a_scheduler_that_does_not_answer_is_named():
    expected = pytest.raises(InputError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9")
    with expected, open_executor(scheduler="tcp://127.0.0.1:9"):
        pass
