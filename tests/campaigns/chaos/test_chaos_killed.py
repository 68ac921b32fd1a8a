"""Workers, drivers and schedulers killed, starved, paused: the same command ends with the bytes of a calm run."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def same(chaos, undisturbed, names=None):
    """Assert that particles, label maps and probabilities are those of a run that nobody disturbed."""
    names = names or chaos.names
    assert chaos.hashes(names) == undisturbed.hashes(names)


def begun(chaos, records):
    return lambda: len(chaos.records()) >= records


def test_workers_are_killed(chaos, undisturbed):
    """Three of them, one after the other, of one run, which ends well."""
    draw = random.Random(1)
    running = chaos.start()
    for records in (2, 10, 18):
        assert chaos.until(begun(chaos, records), running)
        assert chaos.until(lambda: running.kill_worker(draw), running)
    assert running.wait() == 0, running.said()
    same(chaos, undisturbed)


def test_the_driver_is_killed(chaos, undisturbed):
    for records in (1, 9, 20):
        running = chaos.start()
        assert chaos.until(begun(chaos, records), running), running.said()
        running.kill()
        chaos.look()
    chaos.run()
    chaos.look()
    same(chaos, undisturbed)
    assert chaos.summary()["counts"] == {"done": 4}


@pytest.fixture
def cluster(tmp_path):
    """Starts a scheduler on always the same port, and workers of it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []

    def start(what, *options):
        command = [sys.executable, "-m", "dask", what, *options, "--no-dashboard"]
        environment = {**os.environ, "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
        log = (tmp_path / f"{what}-{len(started)}.log").open("w")
        with log:
            one = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        started.append(one)
        return one

    def scheduler():
        return start("scheduler", "--host", "127.0.0.1", "--port", str(port))

    def worker(*options):
        return start("worker", address, "--nthreads", "2", "--resources", "DEEPFINDER_SLOT=1", *options)

    address = f"tcp://127.0.0.1:{port}"
    yield address, scheduler, worker
    for one in started:
        if one.poll() is None:
            family = [*psutil.Process(one.pid).children(recursive=True), psutil.Process(one.pid)]
            for process in family:
                process.kill()
        one.wait()


def test_the_scheduler_is_killed(chaos, undisturbed, cluster):
    address, scheduler, worker = cluster
    chaos.write(workers=f'kind = "scheduler"\naddress = "{address}"')
    first = scheduler()
    workers = [worker(), worker()]
    running = chaos.start()
    assert chaos.until(begun(chaos, 6), running), running.said()
    first.kill()
    assert running.wait() == 1
    assert "run the same command again" in running.said()
    assert "Traceback" not in running.said()
    for one in workers:
        one.wait(120)  # they find out
    chaos.look()
    scheduler()
    workers = [worker(), worker()]
    chaos.run()
    chaos.look()
    same(chaos, undisturbed)


HUNGRY = """
import threading, time
from pathlib import Path

def dask_setup(worker):
    threading.Thread(target=eat, daemon=True).start()

def eat():
    mark = Path({mark!r})
    while not mark.exists():
        time.sleep(0.05)
    try:
        mark.unlink()
    except FileNotFoundError:
        return
    held = []
    while True:
        held.append(bytearray(b"x" * 2**26))
        time.sleep(0.01)
"""


def test_a_worker_runs_out_of_memory(chaos, undisturbed, cluster, tmp_path):
    """It takes more than its limit while it computes: its nanny ends it, and others do its blocks."""
    address, scheduler, worker = cluster
    mark = tmp_path / "eat"
    (tmp_path / "hungry.py").write_text(HUNGRY.format(mark=str(mark)))
    chaos.write(workers=f'kind = "scheduler"\naddress = "{address}"')
    scheduler()
    hungry = worker("--preload", str(tmp_path / "hungry.py"), "--memory-limit", "3GiB")
    worker()
    running = chaos.start()
    assert chaos.until(begun(chaos, 4), running), running.said()
    (before,) = workers_of(hungry)
    mark.touch()
    assert chaos.until(lambda: before not in workers_of(hungry), running)
    assert running.wait() == 0, running.said()
    same(chaos, undisturbed)


def workers_of(nanny):
    found = []
    for one in psutil.Process(nanny.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # ended meanwhile, waited for or not
            if "spawn_main" in " ".join(one.cmdline()):
                found.append(one.pid)
    return found


def test_a_worker_is_paused(chaos, undisturbed):
    running = chaos.start()
    assert chaos.until(begun(chaos, 4), running)
    for worker in running.workers():
        worker.send_signal(signal.SIGSTOP)
        time.sleep(4)
        worker.send_signal(signal.SIGCONT)
    assert running.wait() == 0, running.said()
    same(chaos, undisturbed)


def test_killed_ten_times_at_random(chaos_of_twenty, undisturbed):
    """Driver and workers of a campaign of twenty, one of them broken: the same command ends it with the same bytes."""
    chaos = chaos_of_twenty
    broken = chaos.names[7]
    whole = chaos.source(broken).read_bytes()
    chaos.source(broken).write_bytes(whole[: len(whole) * 2 // 3])
    rest = [name for name in chaos.names if name != broken]
    draw = random.Random(11)
    victims = ["driver"] * 6 + ["worker"] * 4
    draw.shuffle(victims)
    running = chaos.start()
    goal = 0
    for victim in victims:
        goal = len(chaos.records()) + draw.randrange(3, 9)
        assert chaos.until(begun(chaos, goal), running), running.said()
        time.sleep(draw.random())
        if victim == "worker":
            assert chaos.until(partial(running.kill_worker, draw), running), running.said()
        else:
            running.kill()
            chaos.look()
            running = chaos.start()
    assert running.wait() == 1, running.said()
    chaos.look()
    assert f"{broken}: " in running.said()
    assert "Traceback" not in running.said()
    assert chaos.summary()["counts"] == {"done": 19, "failed": 1}
    same(chaos, undisturbed, rest)
    before = {path: path.stat().st_mtime_ns for path in chaos.output.rglob("state.json")}
    chaos.run(expect=1)  # nothing is left to do
    assert before == {path: path.stat().st_mtime_ns for path in chaos.output.rglob("state.json")}
