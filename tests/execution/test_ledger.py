"""The ledger holds what was finished, whole records only, whatever is killed when."""

from __future__ import annotations

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import fsspec
import pytest

from deepfinder_dask.errors import InputError, SettingsError, StorageError
from deepfinder_dask.execution import Ledger, hold

PLAN = {"shape": [4, 5, 6], "weights": {"sha256": "abc"}, "memory": 8}


@pytest.fixture(params=["local", "memory"])
def ledger(request, tmp_path):
    if request.param == "local":
        yield Ledger(tmp_path / "ledger")
        return
    yield Ledger(f"memory://{tmp_path.name}/ledger")
    fsspec.filesystem("memory").store.clear()


def copied(ledger):
    """As it arrives on a worker."""
    return pickle.loads(pickle.dumps(ledger))  # noqa: S301  # our own


def test_what_is_recorded_is_there(ledger):
    assert ledger.plan() is None
    ledger.begin(PLAN)
    assert ledger.plan() == PLAN
    assert ledger.recorded() == {}
    for number in (1234, 7, 0):
        ledger.record(number, {"seconds": number / 2, "checksum": "f00"})
    assert ledger.recorded() == {n: {"seconds": n / 2, "checksum": "f00"} for n in (0, 7, 1234)}
    assert list(ledger.recorded()) == [0, 7, 1234]
    assert [ledger.has(n) for n in (7, 8)] == [True, False]
    ledger.write_progress({"done": 3})
    assert ledger.progress()["done"] == 3


def test_it_goes_on_with_the_same_plan_only(ledger):
    ledger.begin({"grid": (1, 2), **PLAN})
    ledger.record(0, {})
    again = Ledger(ledger.folder)
    again.begin({"grid": (1, 2), **PLAN})
    assert again.recorded() == {0: {}}
    with pytest.raises(SettingsError, match=r'weights.sha256 is "abc" there and "xyz" here'):
        again.begin({"grid": (1, 2), **PLAN, "weights": {"sha256": "xyz"}})
    with pytest.raises(SettingsError, match=r"surplus is null there and 1 here"):
        again.begin({"grid": (1, 2), **PLAN, "surplus": 1})


def test_it_can_be_pickled_and_records_elsewhere(ledger):
    ledger.begin(PLAN)
    copied(ledger).record(3, {"by": "a worker"})
    assert ledger.recorded() == {3: {"by": "a worker"}}
    Ledger(ledger.folder).record(4, {})
    assert set(Ledger(ledger.folder).recorded()) == {3, 4}


def test_a_worker_left_over_from_another_plan_records_nothing_for_this_one(ledger):
    ledger.begin(PLAN)
    left_over = copied(ledger)
    ledger.record(1, {})
    ledger.clear()
    assert ledger.plan() is None
    ledger.begin({**PLAN, "memory": 4})
    left_over.record(0, {})
    assert ledger.recorded() == {}
    assert not ledger.has(0)


def test_a_clearing_that_was_killed_leaves_no_record_for_the_next_plan(ledger):
    ledger.begin(PLAN)
    ledger.record(1, {})
    ledger._files.remove("plan.json")  # the first step of clearing
    ledger = Ledger(ledger.folder)
    ledger.begin(PLAN)
    assert ledger.recorded() == {}


def test_records_without_a_plan_are_refused(ledger):
    with pytest.raises(SettingsError, match="has no plan"):
        ledger.record(0, {})
    with pytest.raises(SettingsError, match="has no plan"):
        Ledger(ledger.folder).record(0, {})
    assert not ledger.has(0)
    assert ledger.recorded() == {}


def test_torn_and_foreign_files_do_not_count_and_are_swept(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.begin(PLAN)
    for number in range(6):
        ledger.record(number, {"n": number})
    folder = tmp_path / "records" / "000"
    whole = (folder / "5.json").read_bytes()
    (folder / "0.json").write_bytes(whole[: len(whole) // 2])
    (folder / "1.json").write_bytes(b"")
    (folder / "2.json").write_bytes(whole)  # names another part
    (folder / "3.json").write_text(json.dumps([3]))
    (folder / "notes.txt").write_text("hello")
    (folder / "9.json").write_bytes(b"\xff\xfe")
    (folder / ".7.json.0123.partial").write_bytes(whole[:9])
    (tmp_path / ".plan.json.0123.partial").write_bytes(b"{")
    assert ledger.recorded() == {4: {"n": 4}, 5: {"n": 5}}
    assert not ledger.has(0)
    again = Ledger(tmp_path)
    again.begin(PLAN)
    assert sorted(file.name for file in folder.iterdir()) == ["4.json", "5.json"]
    assert not list(tmp_path.glob(".*"))
    again.record(0, {"n": 0})
    assert set(again.recorded()) == {0, 4, 5}


def test_a_torn_plan_is_none(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.begin(PLAN)
    ledger.record(0, {})
    (tmp_path / "plan.json").write_bytes(b'{"shape": [4,')
    again = Ledger(tmp_path)
    assert again.plan() is None
    again.begin(PLAN)
    assert again.recorded() == {}


def test_records_without_their_plan_are_none(ledger):
    ledger.begin(PLAN)
    ledger.record(1, {})
    ledger._files.remove("plan.json")
    assert Ledger(ledger.folder).recorded() == {}
    assert not Ledger(ledger.folder).has(1)


def test_a_relative_folder_is_the_same_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ledger = Ledger("ledger")
    ledger.begin(PLAN)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    copied(ledger).record(1, {})
    assert set(Ledger(f"file://{tmp_path}/ledger").recorded()) == {1}


def test_two_may_record_the_same_part_at_once(ledger):
    ledger.begin(PLAN)
    failed = []

    def record():
        try:
            for number in range(50):
                ledger.record(number, {"checksum": "same"})
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=record) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert ledger.recorded() == {n: {"checksum": "same"} for n in range(50)}


def test_what_cannot_be_written_is_told_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"^cannot write .*file/ledger: .*choose another output$"):
        Ledger(tmp_path / "file" / "ledger").begin(PLAN)


HOLDER = """
import sys, time
from pathlib import Path
from deepfinder_dask.execution import hold
with hold(Path(sys.argv[1], "lock"), sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_process_at_a_time_and_a_kill_lets_go(tmp_path):
    lock = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        expected = f"another process is at work in {tmp_path}"
        with pytest.raises(InputError, match=expected), hold(lock, tmp_path):
            pass
        process.send_signal(signal.SIGKILL)
    with hold(lock, tmp_path), pytest.raises(InputError, match=expected), hold(lock, tmp_path):
        pass
    with hold(lock, tmp_path):
        pass
    assert not lock.exists()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that nobody can write")
def test_where_nothing_can_be_written_no_other_process_is_blamed():
    with (
        pytest.raises(StorageError, match=r"^cannot write /proc: .*choose another output$"),
        hold(Path("/proc/.s.zarr.lock"), "/proc/s.zarr"),
    ):
        pass


DRIVER = """
import sys
from deepfinder_dask.execution import Ledger, SerialExecutor

class Part:
    in_flight = 3
    def __init__(self, ledger):
        self.ledger = ledger
    def __call__(self, number):
        if self.ledger.has(number):
            raise SystemExit("done again")
        self.ledger.record(number, {"number": number, "filler": "x" * 5000})

ledger = Ledger(sys.argv[1])
ledger.begin({"parts": 3000})
todo = sorted(set(range(3000)) - set(ledger.recorded()))
print("ready", flush=True)
for _ in SerialExecutor().run(Part(ledger), todo, label="parts"):
    pass
"""


def test_ten_kills_leave_whole_records_only(tmp_path):
    random.seed(5)
    before = set()
    for _ in range(10):
        with subprocess.Popen([sys.executable, "-c", DRIVER, tmp_path], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(random.uniform(0, 0.06))
            process.send_signal(signal.SIGKILL)
        ledger = Ledger(tmp_path)
        found = ledger.recorded()
        assert before <= set(found)
        assert all(facts == {"number": number, "filler": "x" * 5000} for number, facts in found.items())
        names = [Path(file).name for _, _, files in os.walk(tmp_path / "records") for file in files]
        whole = [name for name in names if not name.endswith(".partial")]
        assert len(whole) == len(found)
        before = set(found)
    subprocess.run([sys.executable, "-c", DRIVER, tmp_path], check=True)
    assert set(Ledger(tmp_path).recorded()) == set(range(3000))
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.slow
def test_a_hundred_thousand_records_are_read_in_seconds(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.begin(PLAN)
    for number in range(100_000):
        ledger.record(number, {"seconds": 1.5, "checksum": "0123456789abcdef"})
    before = time.process_time()
    assert len(ledger.recorded()) == 100_000
    assert time.process_time() - before < 30
