"""Runs that share a cluster: one window, turns by rank, one suspect alone in the cluster; and how busy workers were."""

from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial

import pytest

from deepfinder_dask.execution import Failure, Pool, Scope, SharedExecutor, check_interrupt, open_executor
from deepfinder_dask.execution.idleness import BusyClock, Idleness
from deepfinder_dask.execution.in_process import SerialExecutor


def test_one_window_is_shared_and_the_earlier_comes_first():
    pool = Pool()
    first, second = pool.join(0, "inference"), pool.join(1, "inference")
    woken = []
    second.when_woken(lambda: woken.append("second"))
    first.when_woken(lambda: woken.append("first"))
    assert first.take(6, wanted=4) == 4
    assert second.take(6, wanted=10) == 2  # what the first has no use for
    assert second.take(6, wanted=8) == 0
    assert first.take(6, wanted=5) == 0
    second.give(2)
    assert woken == ["first"]
    assert second.take(6, wanted=8) == 0  # the first one waits for it
    assert first.take(6, wanted=5) == 2
    assert pool.join(9, "conversion").take(2, wanted=5) == 2  # another kind has a window of its own


def test_limits_of_a_kind_and_least_room():
    pool = Pool({"conversion": 1})
    share = pool.join(0, "conversion")
    assert share.take(32, wanted=9, least=16) == 1
    other = Pool().join()
    assert other.take(32, wanted=20) == 20
    assert other.take(32, wanted=9, least=16) == 0
    other.give(4)
    assert other.take(32, wanted=9, least=16) == 9


def test_whoever_leaves_gives_everything_back():
    pool = Pool()
    first, second = pool.join(0), pool.join(1)
    woken = threading.Event()
    second.when_woken(woken.set)
    assert first.take(3, wanted=3) == 3
    assert second.take(3, wanted=1) == 0
    first.leave()
    assert woken.is_set()
    assert second.take(3, wanted=9) == 3
    assert second.total() == 3


def test_alone_means_alone_in_the_cluster():
    pool = Pool()
    suspect, other, late = pool.join(5, "a"), pool.join(0, "b"), pool.join(1, "c")
    assert other.take(4, wanted=2) == 2
    assert not suspect.alone()
    assert other.take(4, wanted=2) == 0  # nothing is begun meanwhile, whatever its kind or rank
    assert late.take(4, wanted=2) == 0
    other.give(2)
    assert suspect.alone()
    assert suspect.total() == 1
    assert other.take(4, wanted=2) == 0
    suspect.give(1)
    assert other.take(4, wanted=2) == 2


def test_runs_that_wait_do_not_wake_each_other_for_nothing():
    """A run that is woken gives back what came back meanwhile: most often nothing."""
    pool, woken = Pool(), []
    shares = [pool.join(rank) for rank in range(3)]
    for share in shares[1:]:
        share.when_woken(lambda: woken.append(1))
    assert shares[0].take(2, wanted=2) == 2
    assert [share.take(2, wanted=1) for share in shares[1:]] == [0, 0]
    shares[1].give(0)
    assert not woken
    shares[0].give(1)
    assert len(woken) == 2


def test_who_stands_behind_another_is_woken_when_room_is_left():
    pool, woken = Pool(), []
    busy, earlier, later = pool.join(0), pool.join(1), pool.join(2)
    later.when_woken(lambda: woken.append("later"))
    assert busy.take(4, wanted=4) == 4
    assert (earlier.take(4, wanted=1), later.take(4, wanted=3)) == (0, 0)
    busy.give(3)
    assert woken == ["later"]
    assert later.take(4, wanted=3) == 0  # the earlier one first
    assert earlier.take(4, wanted=1) == 1
    assert woken == ["later", "later"]
    assert later.take(4, wanted=3) == 2


def test_who_need_not_be_alone_any_more_holds_nobody_up():
    pool, woken = Pool(), []
    other, suspect = pool.join(0), pool.join(1)
    other.when_woken(lambda: woken.append("other"))
    assert other.take(2, wanted=1) == 1
    assert not suspect.alone()
    assert other.take(2, wanted=1) == 0
    assert suspect.take(4, wanted=2) == 0  # the other comes first
    assert woken == ["other"]
    assert other.take(4, wanted=1) == 1
    assert suspect.take(4, wanted=2) == 2


def test_busy_seconds_of_overlapping_batches_count_once():
    clock = BusyClock()
    with clock.running(), clock.running():
        time.sleep(0.05)
    once = clock.seconds()
    time.sleep(0.05)
    assert clock.seconds() == once
    assert once >= 0.05


def test_the_idle_share_is_that_of_the_time_in_which_there_was_enough_to_do(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("deepfinder_dask.execution.idleness.time.monotonic", lambda: now[0])
    idleness = Idleness()
    for moment in range(1, 11):
        now[0] = float(moment)
        idleness.note("busy", float(moment), 1.0)
        idleness.note("half", moment / 2, 0.5)
        if moment == 8:
            idleness.note_full()
    now[0] = 100.0  # the tail does not count
    facts = idleness.to_dict()
    assert facts["full_until"] == 8.0
    assert facts["idle"] == pytest.approx(1 - 12 / 15.5, abs=1e-3)  # from its first batch on, 4 of 7.5 s
    assert list(facts["workers"]) == ["busy", "half"]


def test_work_inside_other_work_is_stopped_with_it():
    outer = Scope()
    with outer.entered(), Scope().entered():
        check_interrupt()
        outer.stop()
        with pytest.raises(KeyboardInterrupt):
            check_interrupt()


def stop_at(scope, number):
    if number == 3:
        scope.stop()
    check_interrupt()
    return number


def test_a_stopped_run_in_this_process_ends():
    scope = Scope()
    with scope.entered():
        results = SerialExecutor().run(partial(stop_at, scope), range(10), label="stopped")
        assert [next(results)[0] for _ in range(3)] == [0, 1, 2]
        with pytest.raises(KeyboardInterrupt):
            next(results)


def slowly(number):
    time.sleep(0.02)
    return number


def deadly(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.02)
    return number


def test_runs_side_by_side_lose_nothing_and_share_no_blame():
    """Three tomograms on two workers; a block of one of them kills whoever takes it."""
    pool, results, failures = Pool(), {}, {0: [], 1: [], 2: []}
    most = []

    def drive(executor, rank):
        function = deadly if rank == 1 else slowly
        shared = SharedExecutor(executor, pool, rank, "inference")
        results[rank] = []
        for index, _ in shared.run(function, range(30), label=f"run-{rank}", failures=failures[rank]):
            results[rank].append(index)
            most.append(shared_total(pool))

    with open_executor(workers=2) as executor:
        threads = [threading.Thread(target=drive, args=(executor, rank)) for rank in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(results[0]) == sorted(results[2]) == list(range(30))
    assert sorted(results[1]) == [n for n in range(30) if n != 3]
    assert failures[0] == failures[2] == []
    assert [failure.index for failure in failures[1]] == [3]
    assert isinstance(failures[1][0], Failure)
    assert max(most) <= 2 * 8  # two lanes, eight ahead: one window, however many runs


def shared_total(pool):
    return sum(share.under_way for share in list(pool._shares))
