"""How many calls the workers of a cluster take at once, what they are called, and which GPU each one sees."""

from __future__ import annotations

import os
import stat
import time

import pytest
from dask.utils import key_split

from deepfinder_dask.errors import SettingsError
from deepfinder_dask.execution import DaskExecutor, open_executor
from deepfinder_dask.execution.dispatch import group_name
from deepfinder_dask.execution.local import VISIBLE, choose_devices, device_environment, visible_devices
from deepfinder_dask.execution.window import Run
from deepfinder_dask.execution.workforce import SLOT, Roster, Workforce


@pytest.fixture(scope="module")
def cluster():
    with open_executor(workers=2) as executor:
        yield executor


class FakeClient:
    """Stands in for a connection: tells of workers, runs nothing."""

    status = "running"

    def __init__(self, **workers):
        self.facts = workers

    def nthreads(self):
        return {address: facts["nthreads"] for address, facts in self.facts.items()}

    def scheduler_info(self, n_workers=5):
        assert n_workers == -1
        return {"workers": self.facts}


def worker(nthreads, nanny=None, **resources):
    return {"nthreads": nthreads, "resources": resources, "nanny": nanny}


@pytest.mark.parametrize(
    ("workers", "in_flight", "resource", "lanes", "needs"),
    [
        ([worker(4), worker(4)], None, None, 8, None),  # a user's cluster: what its threads say
        ([worker(4), worker(4)], 2, None, 4, None),
        ([worker(2, **{SLOT: 1.0})] * 2, None, None, 2, {SLOT: 1}),  # ours: one a process
        ([worker(2, **{SLOT: 1.0})] * 2, 1, None, 2, {SLOT: 1}),
        ([worker(2, **{SLOT: 1.0})] * 2, 2, None, 4, {SLOT: 1 / 2}),
        ([worker(4, **{SLOT: 1.0})], 3, None, 3, {SLOT: 1 / 3}),
        ([worker(4, GPU=1.0), worker(16)], 4, "GPU", 4, {"GPU": 1 / 4}),  # only where there is one
        ([worker(8, GPU=2.0)], 2, "GPU", 2, {"GPU": 1 / 2}),
        ([worker(4), worker(4)], 2, "GPU", 4, None),  # nobody says
        ([], 2, None, 1, None),
    ],
)
def test_lanes(workers, in_flight, resource, lanes, needs):
    client = FakeClient(**{f"tcp://{n}": facts for n, facts in enumerate(workers)})
    force = Workforce(client, in_flight, resource, None)
    assert force.lanes == lanes
    assert force.resources == (None if needs is None else pytest.approx(needs))
    if needs:
        assert all(sum([share] * (in_flight or 1)) <= 1 for share in force.resources.values())


def test_the_window_follows_workers_that_come_and_go(monkeypatch):
    monkeypatch.setattr("deepfinder_dask.execution.workforce.LOOK_EVERY", 0.0)
    client = FakeClient(a=worker(1))
    run = Run(client, 8, str, range(100), "work", None, None)
    assert run._window() == 2  # one under way, one ahead
    client.facts["b"] = worker(3)
    assert run.workforce.look()
    assert run._window() == 6
    run.seconds = 0.001
    assert run._window() == 8 * 4
    client.facts.clear()
    assert run.workforce.look()
    assert not run.workforce.look()
    assert run._window() == 8


def test_a_worker_is_the_same_when_its_nanny_starts_it_again(monkeypatch):
    monkeypatch.setattr("deepfinder_dask.execution.workforce.LOOK_EVERY", 0.0)
    client = FakeClient(a=worker(1, nanny="A"), b=worker(1, nanny="B"))
    force = Workforce(client, None, None, ["a"])
    assert force.addresses == {"a"}
    del client.facts["a"]
    force.look()
    assert force.addresses == {"a"}  # none is there: wait
    client.facts["c"] = worker(1, nanny="A")
    force.look()
    assert force.addresses == {"c"}


def test_batches_grow_for_quick_items_and_spread_over_all_workers():
    client = FakeClient(a=worker(1), b=worker(1))
    run = Run(client, 8, str, range(1000), "work", None, None)
    assert run._take() == [0]
    run.size = 16
    assert len(run._take()) == 16
    run.left = 30
    assert len(run._take()) == 8


def test_items_that_are_hardly_worth_a_task_are_not_spread_one_by_one():
    client = FakeClient(a=worker(1), b=worker(1))
    sent = {}
    for seconds in (1e-5, 0.005, 0.2):
        run = Run(client, 8, str, range(100), "work", None, None)
        run.seconds, run.size = seconds, 64
        sent[seconds] = []
        while indices := run._take():
            sent[seconds].append(len(indices))
        assert sum(sent[seconds]) == 100
    assert sent[1e-5] == [25] * 4  # each worker has two
    assert min(sent[0.005]) == 2  # a hundredth of a second
    assert min(sent[0.2]) == 1


def test_runs_beside_each_other_ask_for_the_workers_once(monkeypatch):
    asked = []
    client = FakeClient(a=worker(1))
    monkeypatch.setattr(client, "nthreads", lambda: asked.append(1) or FakeClient.nthreads(client))
    roster = Roster(client)
    first = Workforce(client, None, None, None, roster)
    assert (Workforce(client, None, None, None, roster).lanes, len(asked)) == (1, 1)
    client.facts["b"] = worker(1)
    assert Workforce(client, None, None, ["b"], roster).addresses == {"b"}  # it came a moment ago
    assert first.look()  # what one run saw, all do
    assert (first.lanes, len(asked)) == (2, 2)


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("segment-TS_01", "segment_TS_01"),
        ("segment-TS-01-bin4", "segment_TS_01_bin4"),
        ("pyramid level 1", "pyramid level 1"),
        ("7", "run_7"),
    ],
)
def test_dashboards_show_what_a_task_is(label, shown):
    assert key_split(f"{group_name(label)}-17..32-0123456789abcdef-5") == shown


class Numbered:
    def __init__(self, number):
        self.number = number


@pytest.fixture
def keys(cluster, monkeypatch):
    """Keys of the tasks that are sent."""
    keys = []
    send = cluster.client.map

    def watched(*arguments, key, **options):
        keys.extend(key)
        return send(*arguments, key=key, **options)

    monkeypatch.setattr(cluster.client, "map", watched)
    return keys


def test_keys_name_tomogram_and_block(cluster, keys):
    list(cluster.run(type_of, [Numbered(40), Numbered(77)], label="segment-TS_01"))
    assert {key_split(key) for key in keys} == {"segment_TS_01"}
    assert [key.split("-")[1] for key in keys] == ["40", "77"]


def type_of(item):
    return type(item).__name__


def test_many_quick_items_take_few_tasks(cluster, keys):
    assert sum(1 for _ in cluster.run(abs, range(3000), label="many")) == 3000
    assert len(keys) < 600  # 188 of 16 items; the first ones are single while nobody knows how quick they are
    keys.clear()
    assert sum(1 for _ in cluster.run(slow, range(8), label="slow")) == 8
    assert len(keys) == 8


def slow(_):
    time.sleep(0.06)


def test_one_item_runs_at_a_time_in_a_process_unless_it_wants_more(cluster, tmp_path):
    one, *_ = cluster.ask(os.getpid)
    function = Beside(tmp_path)
    assert max(found for _, found in cluster.run(function, range(6), label="one", among=[one])) == 1
    function.in_flight = 2
    assert max(found for _, found in cluster.run(function, range(12), label="two", among=[one])) == 2


class Beside:
    """How many of these are under way."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, item):
        mark = self.folder / str(item)
        mark.touch()
        time.sleep(0.15)
        found = len(list(self.folder.iterdir()))
        mark.unlink()
        return found


def test_each_process_sees_one_gpu():
    assert [device_environment(["0", "1"], n) for n in (0, 1)] == [{VISIBLE: "0"}, {VISIBLE: "1"}]
    assert choose_devices(["0", "GPU-5e1", "3"], None) == ["0", "GPU-5e1", "3"]
    assert choose_devices(["0", "1", "3"], 2) == ["0", "1"]
    with pytest.raises(SettingsError, match="expected a GPU, found none"):
        choose_devices([], None)
    with pytest.raises(SettingsError, match="for each of 3 workers, found 2"):
        choose_devices(["0", "1"], 3)


def test_gpus_are_counted_without_a_library(tmp_path, monkeypatch):
    assert visible_devices({VISIBLE: "2, 5"}) == ["2", "5"]
    assert visible_devices({VISIBLE: ""}) == []
    assert visible_devices({VISIBLE: "1,-1,0"}) == ["1"]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_devices({}) == []
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: x)'\necho '  MIG 1g'\necho 'GPU 1: A (UUID: y)'\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    assert visible_devices({}) == ["0", "1"]


def test_a_worker_for_each_gpu(monkeypatch):
    """With the devices named, and none there: each process sees its own, also when it is started again."""
    monkeypatch.setenv(VISIBLE, "GPU-a,GPU-b")
    with open_executor(gpus=True) as executor:
        assert isinstance(executor, DaskExecutor)
        assert executor.workers == 2
        assert sorted(executor.ask(seen).values()) == ["GPU-a", "GPU-b"]
        assert set(executor.client.nthreads().values()) == {4}
        failures = []
        list(executor.run(dying, range(2), label="dying", failures=failures))
        assert len(failures) == 1
        limit = time.monotonic() + 120
        while len(executor.client.nthreads()) < 2 and time.monotonic() < limit:
            time.sleep(0.1)
        assert sorted(executor.ask(seen).values()) == ["GPU-a", "GPU-b"]


def seen():
    return os.environ[VISIBLE]


def dying(item):
    if item == 1:
        os._exit(1)


def test_no_gpu_is_told_in_one_line(monkeypatch):
    monkeypatch.setenv(VISIBLE, "")
    with pytest.raises(SettingsError, match="found none"), open_executor(gpus=True):
        pass


def test_a_worker_that_dies_again_and_again_is_started_again(cluster):
    """Left alone, a local cluster gives up a worker that is away when it looks, some seconds after an earlier death."""
    import dask

    assert dask.config.get("distributed.deploy.lost-worker-timeout") == "1000 days"
    assert cluster.workers == 2
