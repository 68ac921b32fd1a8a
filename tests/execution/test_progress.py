"""How far the work is: in a bar, and in numbers for other programs."""

from __future__ import annotations

import json

import pytest

from deepfinder_dask.execution import Ledger, Progress, note_voxels


class Clock:
    """Time that passes when it is told to."""

    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("deepfinder_dask.execution.progress.time.monotonic", clock)
    return clock


def test_rate_and_time_left_count_voxels_of_this_run_only(clock):
    with Progress("work", 10, done=4, voxels=1000, voxels_done=400) as bar:
        assert bar.numbers()["rate"] is None
        assert bar.numbers()["seconds_left"] is None
        clock.now += 2
        bar.advance(voxels=100)
        numbers = bar.numbers()
    assert numbers == {
        "description": "work",
        "unit": "block",
        "done": 5,
        "total": 10,
        "voxels_done": 500,
        "voxels": 1000,
        "rate": 50.0,
        "seconds": 2.0,
        "seconds_left": 10.0,
        "finished": False,
    }


def test_without_voxels_units_are_counted(clock):
    with Progress("work", 10, done=4) as bar:
        clock.now += 3
        bar.advance(3)
        assert bar.numbers()["rate"] == 1
        assert bar.numbers()["seconds_left"] == 3


def test_the_rate_is_that_of_the_last_minute(clock):
    with Progress("work", 1000) as bar:
        for _ in range(100):
            clock.now += 1
            bar.advance(1)
        for _ in range(80):
            clock.now += 1
            bar.advance(5)
        assert bar.numbers()["rate"] == 5


def test_numbers_are_reported_at_most_once_a_second_and_at_the_end(clock):
    reports = []
    with pytest.raises(KeyError), Progress("work", 100, report=reports.append) as bar:  # noqa: PT012  # a loop
        assert [report["done"] for report in reports] == [0]
        for _ in range(45):
            clock.now += 0.1
            bar.advance()
        raise KeyError
    assert len(reports) == 1 + 4 + 1
    assert reports[-1]["done"] == 45
    assert not reports[-1]["finished"]


def test_all_of_it_done_before_is_finished():
    reports = []
    with Progress("work", 3, done=3, voxels=30, voxels_done=30, report=reports.append):
        pass
    assert reports[-1]["finished"]
    assert reports[-1]["seconds_left"] == 0


def test_the_bar_says_voxels_a_second_and_time_left(clock, capsys):
    with Progress("dig", 4, enabled=True, done=1, voxels=4_000_000, voxels_done=1_000_000) as bar:
        clock.now += 0.5
        bar.advance(1, 1_000_000)
    shown = capsys.readouterr().err
    assert "2/4" in shown
    assert "2 Mvoxels/s, 0:01 left" in shown


def test_other_programs_read_the_numbers_in_a_file(tmp_path):
    ledger = Ledger(tmp_path)
    with Progress("work", 2, report=ledger.write_progress) as bar:
        bar.advance(2)
    numbers = json.loads((tmp_path / "progress.json").read_text())
    assert (numbers["done"], numbers["total"], numbers["finished"]) == (2, 2, True)


def test_voxels_of_a_block_under_way_count_once(clock):
    with Progress("work", 2, voxels=1000) as bar:
        clock.now += 1
        note_voxels(300)
        assert bar.numbers()["voxels_done"] == 300
        assert bar.numbers()["seconds_left"] == pytest.approx(700 / 300, abs=0.1)
        note_voxels(300)  # once more, as when a block is begun anew: never beyond what there is
        note_voxels(900)
        assert bar.numbers()["voxels_done"] == 1000
        bar.advance(voxels=500)
        bar.advance(voxels=500)
        assert bar.numbers()["voxels_done"] == 1000
        assert bar.numbers()["finished"]


def test_voxels_are_noted_on_the_innermost_bar_only():
    note_voxels(5)  # nobody listens
    with Progress("outer", 1, voxels=10) as outer:
        with Progress("inner", 1, voxels=10) as inner:
            note_voxels(4)
        note_voxels(1)
    note_voxels(5)
    assert (outer.numbers()["voxels_done"], inner.numbers()["voxels_done"]) == (1, 4)
