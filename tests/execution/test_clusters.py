"""The table [workers]: what it may say, what jobs are asked for, and what is refused in one line."""

from __future__ import annotations

import asyncio
import os
import shutil
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from deepfinder_dask.errors import InputError, PartialFailure, SettingsError
from deepfinder_dask.execution.clusters import (
    LocalWorkers,
    LsfWorkers,
    MixedWorkers,
    PbsWorkers,
    SchedulerWorkers,
    SlurmWorkers,
    SshWorkers,
    open_workforce,
    read_workers,
)
from deepfinder_dask.execution.clusters.batch import batch_group, job_class, job_options
from deepfinder_dask.execution.clusters.groups import Workplace
from deepfinder_dask.execution.clusters.keeping import IN_VAIN, Keeper
from deepfinder_dask.execution.clusters.settings import KINDS
from deepfinder_dask.execution.workforce import SLOT, Workforce

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "clusters"
JOBS = {"cores": 8, "memory": "16GiB", "walltime": "02:00:00"}


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_examples_are_read(example):
    """Also with what is commented out, which others are then left out for."""
    text = example.read_text(encoding="utf-8")
    settings = read_workers(tomllib.loads(text)["workers"])
    assert settings.kind == example.stem.split("-")[0]
    known = {field.name for kind in KINDS.values() for field in fields(kind)}
    for line in text.splitlines():
        if line.startswith("# ") and " = " in line.split("#")[1]:
            key, _, value = line.removeprefix("# ").partition(" = ")
            assert key in known, line
            tomllib.loads(f"{key} = {value}")


def test_every_kind_has_an_example():
    assert {path.stem.split("-")[0] for path in EXAMPLES.glob("*.toml")} == set(KINDS)
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"({path.name})" in readme for path in EXAMPLES.glob("*.toml"))


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({}, "workers.kind: expected one of local, scheduler, ssh, slurm, lsf, pbs, gpu, mixed, got none"),
        ({"kind": "slrum"}, "workers.kind: .*, got 'slrum': did you mean 'slurm'?"),
        ({"kind": "local", "process": 2}, "workers.process: no key of kind = 'local': did you mean 'processes'?"),
        ({"kind": "local", "processes": "2"}, "workers.processes: expected a whole number, got '2'"),
        ({"kind": "local", "processes": True}, "workers.processes: expected a whole number, got True"),
        ({"kind": "local", "processes": 0}, "workers.processes: expected at least 1, got 0"),
        ({"kind": "local", "memory": "8 gigs"}, "workers.memory: expected a size such as \"8GiB\", got '8 gigs'"),
        ({"kind": "local", "memory": "0GiB"}, "workers.memory: expected a size such as \"8GiB\", got '0GiB'"),
        ({"kind": "scheduler"}, "workers.address: kind = 'scheduler' needs it, found none"),
        ({"kind": "ssh", "hosts": "node"}, "workers.hosts: expected a list of words in quotes, got 'node'"),
        ({"kind": "ssh", "hosts": []}, "workers.hosts: expected at least one host, got none"),
        ({"kind": "slurm", "cores": 8, "memory": "1GiB"}, "workers.walltime: kind = 'slurm' needs it, found none"),
        (
            {"kind": "pbs", **JOBS, "walltime": "2h"},
            'workers.walltime: expected "HH:MM:SS" or "D-HH:MM:SS", got \'2h\'',
        ),
        ({"kind": "lsf", **JOBS, "processes": 9}, "workers.processes: expected at most 8, the cores, got 9"),
        (
            {"kind": "slurm", **JOBS, "gpu": True, "processes": 2},
            "workers.processes: expected 1 where gpu = true, got 2",
        ),
        ({"kind": "slurm", **JOBS, "minimum": 2}, "workers.minimum: expected a maximum beside it, got none"),
        ({"kind": "slurm", **JOBS, "jobs": 2, "maximum": 3}, "workers.jobs: give either jobs, or minimum and maximum"),
        ({"kind": "slurm", **JOBS, "lifetime": "02:00:00"}, "workers.lifetime: expected lifetime and stagger together"),
        ({"kind": "mixed", "cpu": {"kind": "local"}}, "workers.gpu: expected a table [workers.gpu], got none"),
        ({"kind": "mixed", "cpu": {"kind": "locla"}}, "workers.cpu.kind: .*: did you mean 'local'?"),
        (
            {"kind": "mixed", "cpu": {"kind": "gpu"}, "gpu": {"kind": "gpu"}},
            "workers.cpu: expected workers without GPUs, got such with GPUs",
        ),
        (
            {"kind": "mixed", "cpu": {"kind": "local"}, "gpu": {"kind": "local"}},
            'workers.gpu: expected kind = "gpu", or gpu = true',
        ),
        (
            {"kind": "mixed", "cpu": {"kind": "local"}, "gpu": {"kind": "scheduler", "address": "tcp://a:1"}},
            "workers.gpu.kind: expected workers that are started, got 'scheduler'",
        ),
    ],
)
def test_what_cannot_work_is_named(table, told):
    import re

    pattern = re.escape(told).replace(re.escape(".*"), ".*")
    with pytest.raises(SettingsError, match=pattern) as error:
        read_workers(table)
    assert "\n" not in str(error.value)


def test_workers_leave_before_the_walltime():
    assert SlurmWorkers(**JOBS).leaving() == (7200 - 600, 300)
    assert SlurmWorkers(8, "16GiB", "00:10:00").leaving() == (540, 30)
    assert SlurmWorkers(8, "16GiB", "1-00:00:00", lifetime="20:00:00").leaving() == (72000, 7200)


def script(settings, mixed=False):
    job = job_class(settings.kind)(scheduler="tcp://head:8786", name="a-1", **job_options(settings, mixed=mixed))
    return job.job_script().splitlines()


def test_a_slurm_job_asks_for_what_the_table_says():
    settings = SlurmWorkers(
        **JOBS,
        processes=2,
        queue="normal",
        account="project",
        directives=("--constraint=avx512",),
        prologue=("module purge",),
        interface="lo",
        local_folder="/scratch",
    )
    lines = script(settings)
    assert {
        "#SBATCH -p normal",
        "#SBATCH -A project",
        "#SBATCH --cpus-per-task=8",
        "#SBATCH --mem=16G",
        "#SBATCH -t 02:00:00",
        "#SBATCH --constraint=avx512",
        "export OMP_NUM_THREADS=4",
        "export DEEPFINDER_CORES=4",
        "export DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE=False",
    } <= set(lines)
    assert lines.index("module purge") < lines.index("export OMP_NUM_THREADS=4")
    command = lines[-1]
    for words in (
        "--memory-limit 8.00GiB",
        "--nworkers 2",
        f"--resources {SLOT}=1 ",
        "--lifetime 6600s --lifetime-stagger 300s",
        "--interface lo",
        "--local-directory /scratch",
    ):
        assert words in f"{command} "
    assert command.rindex("--nthreads 2") > command.index("--nthreads 4")


def test_gpus_are_asked_for_in_the_words_of_each_system():
    assert "#SBATCH --gres=gpu:1" in script(SlurmWorkers(**JOBS, gpu=True))
    own = script(SlurmWorkers(**JOBS, gpu=True, directives=("--gres=gpu:a100:1",)))
    assert [line for line in own if "gres" in line] == ["#SBATCH --gres=gpu:a100:1"]
    assert '#BSUB -gpu "num=1"' in script(LsfWorkers(**JOBS, gpu=True))
    assert "#PBS -l select=1:ncpus=8:mem=16384MB:ngpus=1" in script(PbsWorkers(**JOBS, gpu=True))
    assert f"--resources {SLOT}=1,GPU=1" in script(SlurmWorkers(**JOBS, gpu=True))[-1]


def test_lsf_and_pbs_jobs():
    lines = script(LsfWorkers(**JOBS, queue="normal", account="project"))
    assert {"#BSUB -q normal", '#BSUB -P "project"', "#BSUB -n 8", "#BSUB -W 02:00"} <= set(lines)
    lines = script(PbsWorkers(**JOBS, queue="workq", account="project"))
    assert {
        "#PBS -q workq",
        "#PBS -A project",
        "#PBS -l select=1:ncpus=8:mem=16GB",
        "#PBS -l walltime=02:00:00",
    } <= set(lines)


def test_cores_of_a_mixture_see_no_gpu():
    assert "export CUDA_VISIBLE_DEVICES=" in script(SlurmWorkers(**JOBS), mixed=True)
    assert f"--resources {SLOT}=1,CPU=1" in script(SlurmWorkers(**JOBS), mixed=True)[-1]
    assert not [line for line in script(SlurmWorkers(**JOBS, gpu=True), mixed=True) if "CUDA" in line]


def test_a_missing_package_is_told_with_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for settings, words in (
        (SlurmWorkers(**JOBS), r'need dask-jobqueue, .*: pip install "deepfinder_dask\[slurm\]"'),
        (PbsWorkers(**JOBS), r'pip install "deepfinder_dask\[pbs\]"'),
        (SshWorkers(("a",)), r'need asyncssh, .*: pip install "deepfinder_dask\[ssh\]"'),
    ):
        with pytest.raises(SettingsError, match=words), open_workforce(settings):
            pass


def test_a_machine_that_submits_no_jobs_is_told(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(InputError, match="no command bsub here"):
        batch_group(LsfWorkers(**JOBS))


def cores():
    return os.environ["DEEPFINDER_CORES"]


def gpu():
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def test_local_workers_and_a_scheduler_that_runs():
    with open_workforce({"kind": "local", "processes": 2, "cores": 6, "memory": "4GiB"}) as executor:
        assert set(executor.ask(cores).values()) == {"3"}
        limits = executor.client.run(lambda dask_worker: dask_worker.memory_manager.memory_limit)
        assert set(limits.values()) == {4 * 2**30}
        with open_workforce(SchedulerWorkers(executor.client.scheduler.address)) as other:
            assert sorted(other.run(abs, range(20), label="abs")) == [(n, n) for n in range(20)]


class OnGpu:
    """Says what its worker sees."""

    in_flight = 2

    def __init__(self, resource):
        self.resource = resource

    def __call__(self, item):
        return gpu()


def test_a_mixture_sends_each_function_where_it_belongs(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a")
    table = {"kind": "mixed", "cpu": {"kind": "local", "processes": 1}, "gpu": {"kind": "gpu"}}
    assert isinstance(read_workers(table), MixedWorkers)
    with open_workforce(table) as executor:
        executor.client.wait_for_workers(2)
        assert {seen for _, seen in executor.run(OnGpu("GPU"), range(12), label="gpu")} == {"GPU-a"}
        assert {seen for _, seen in executor.run(OnGpu(None), range(12), label="cpu")} == {""}
        assert Workforce(executor.client, 2, None, None).processes == 1
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-a"


class Job:
    """A job that SLURM has forgotten."""

    def __init__(self):
        self.job_id = "7"
        self.closed = False

    async def close(self):
        self.closed = True


class Cluster:
    """Stands in for SpecCluster: starts jobs at once."""

    scheduler_address = "tcp://head:8786"

    def __init__(self, count):
        self.worker_spec = {f"slurm-{number}": {} for number in range(count)}
        self.workers = {name: Job() for name in self.worker_spec}
        self.scheduler_info = {"workers": {}}
        self.started = 0

    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        for name in self.worker_spec:
            if name not in self.workers:
                self.workers[name] = Job()
                self.started += 1


def test_jobs_that_are_over_are_replaced_until_it_is_in_vain():
    cluster = Cluster(2)

    async def over(jobs):
        return {"slurm-1"} & set(jobs)

    keeper = Keeper(cluster, [Workplace(cluster.worker_spec, over=over)], None)
    cluster.scheduler_info["workers"]["tcp://a"] = {"name": "slurm-1"}
    for _ in range(5):  # its worker was there each time: that is what walltimes do
        asyncio.run(keeper._look())
        keeper.check()
    assert keeper.replaced == cluster.started == 5
    cluster.scheduler_info["workers"].clear()
    for _ in range(IN_VAIN):
        asyncio.run(keeper._look())
    with pytest.raises(PartialFailure, match="3 jobs in a row ended before a worker of theirs reached the scheduler"):
        keeper.check()


def test_settings_need_no_table():
    assert read_workers({"kind": "local", "processes": 3}) == LocalWorkers(3)
    assert read_workers({"kind": "ssh", "hosts": ["a", "b"]}) == SshWorkers(("a", "b"))
