"""The same function gives the same results in this process and on workers, and failures are told in one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from deepfinder_dask.errors import InputError, PartialFailure, SettingsError
from deepfinder_dask.execution import DaskExecutor, open_executor
from deepfinder_dask.execution.window import LARGEST_BATCH

ITEMS = list(range(23))


def scaled(factor, item):
    return item * factor


def failing(item):
    if item == 3:
        raise SettingsError("item 3 cannot work")
    return item


def touching(folder, item):
    """Fails for the item that comes first, whichever that is."""
    try:
        (folder / "first").touch(exist_ok=False)
    except FileExistsError:
        time.sleep(0.3)
        (folder / str(item)).touch()
    else:
        raise SettingsError("the first item cannot work")


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

    items = Watched(range(2000))
    done = 0
    for _ in DaskExecutor(cluster.client, tasks_ahead=2).run(partial(scaled, 1), items, label="window"):
        done += 1
        ahead = 2 * 2 * LARGEST_BATCH  # two tasks for each of two workers, and as many fetched
        assert items.taken <= done - 1 + 2 * ahead
    assert done == len(items)


def test_an_error_of_ours_comes_back_as_it_is(cluster):
    with pytest.raises(SettingsError, match="item 3 cannot work"):
        list(cluster.run(failing, ITEMS, label="fail"))
    assert len(list(cluster.run(partial(scaled, 1), ITEMS, label="again"))) == len(ITEMS)


def test_what_was_not_begun_at_a_failure_never_is(cluster, tmp_path):
    """Else a run that failed goes on writing, perhaps into the outputs of the next one."""
    with pytest.raises(SettingsError, match="first item") as caught:
        list(DaskExecutor(cluster.client, tasks_ahead=8).run(partial(touching, tmp_path), ITEMS, label="touch"))
    limit = time.monotonic() + 20
    while any(cluster.client.processing().values()) and time.monotonic() < limit:
        time.sleep(0.05)
    assert len(list(tmp_path.iterdir())) < 8  # of 15 submitted; two workers, and what they held when it failed
    assert caught.tb is not None  # a debugger may hold the frame for as long as it likes


def test_no_key_is_used_twice(cluster, monkeypatch):
    """A scheduler that still holds a result would answer with it."""
    keys = []
    send = cluster.client.map

    def watched(*arguments, key, **options):
        keys.extend(key)
        return send(*arguments, key=key, **options)

    monkeypatch.setattr(cluster.client, "map", watched)
    for factor in range(4):
        assert sorted(cluster.run(partial(scaled, factor), [1, 2], label="same")) == [(0, factor), (1, 2 * factor)]
    assert len(keys) == len(set(keys)) == 8


def test_a_worker_that_dies_once_costs_no_result(tmp_path):
    with open_executor(workers=1) as executor:
        found = executor.run(partial(deadly_once, tmp_path / "died"), ITEMS, label="once")
        assert sorted(found) == [(n, n) for n in ITEMS]
    assert (tmp_path / "died").exists()


def test_workers_that_die_are_told_in_one_line():
    with (
        open_executor(workers=1) as executor,
        pytest.raises(PartialFailure, match=r"^deadly: item 2 killed its worker again .*: use smaller blocks or fewer"),
    ):
        list(executor.run(deadly, [0, 1, 2], label="deadly"))


def test_executors_that_cannot_be_are_refused():
    with pytest.raises(SettingsError, match="not both"), open_executor(2, "tcp://127.0.0.1:1"):
        pass
    with pytest.raises(SettingsError, match="at least 1 worker"), open_executor(0):
        pass


def test_work_dropped_by_the_scheduler_is_told_in_one_line(cluster):
    from distributed import Future

    with pytest.raises(PartialFailure, match=r"dropped: the scheduler dropped item \d+"):  # noqa: PT012  # a loop
        for _ in cluster.run(partial(scaled, 1), ITEMS, label="dropped"):
            cluster.client.cancel([Future(key, cluster.client) for key in list(cluster.client.futures)])


def test_workers_of_a_script_that_imports_torch_share_out_the_cores(tmp_path):
    """A worker runs the script's imports before anything else."""
    script = tmp_path / "script.py"
    script.write_text(
        "import torch\n"
        "from deepfinder_dask.execution import open_executor\n"
        "def threads(_):\n"
        "    return torch.get_num_threads()\n"
        "if __name__ == '__main__':\n"
        "    with open_executor(workers=1) as executor:\n"
        "        print(list(executor.run(threads, [0], label='threads')))\n"
    )
    environment = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == f"[(0, {os.cpu_count()})]"


@pytest.mark.parametrize("address", ["nowhere", "tcp://127.0.0.1:x"])
def test_an_address_that_cannot_be_one_is_refused_at_once(address):
    script = f"from deepfinder_dask.execution import open_executor\nwith open_executor(scheduler={address!r}): pass"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=15)
    assert done.stderr.strip().splitlines()[-1].endswith("check the address and that it is running")
    assert "Exception ignored" not in done.stderr


@pytest.mark.slow
def test_a_scheduler_that_does_not_answer_is_named():
    expected = pytest.raises(InputError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9")
    with expected, open_executor(scheduler="tcp://127.0.0.1:9"):
        pass
