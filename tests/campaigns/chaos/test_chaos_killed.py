"""Workers and drivers killed: the same command ends with the bytes of a calm run."""

from __future__ import annotations

import random

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
