"""A SLURM of one node on this machine, in a folder of its own: munged, slurmctld and slurmd on free ports, as root."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "squeue")
PATIENCE = 30.0
"""Seconds that a daemon has to answer."""


def why_not() -> str | None:
    """Why no SLURM can be started here; None where one can."""
    missing = [name for name in PROGRAMS if _program(name) is None]
    if missing:
        return f"no SLURM here: {', '.join(missing)} not found (Debian: slurm-wlm, munge)"
    if os.geteuid() != 0:
        return "SLURM's daemons start jobs as root only"
    return None


@contextmanager
def one_node_slurm(folder: Path, *, cores: int = 4, memory: int = 8192) -> Iterator[dict[str, str]]:
    """Start the daemons; environment variables that let SLURM's commands find them.

    Parameters
    ----------
    folder : Path
        New folder for configuration, state and logs.
    cores, memory : int
        Cores and MiB that the node says it has; more than the machine's are allowed.
    """
    host = socket.gethostname().split(".")[0]
    for name in ("state", "spool", "log", "munge"):
        (folder / name).mkdir(parents=True)
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    (folder / "munge").chmod(0o755)
    socket_file = f"/run/munge-{os.getpid()}-{time.monotonic_ns()}.socket"  # its path may have 107 characters only
    control, node = _free_ports(2)
    configuration = folder / "slurm.conf"
    configuration.write_text(
        f"""ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={socket_file}
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld
SlurmdLogFile={folder}/log/slurmd
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0
KillWait=5
OverTimeLimit=0
MinJobAge=300
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory} State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE State=UP
""",
        encoding="utf-8",
    )
    environment = {"SLURM_CONF": str(configuration)}
    daemons = []
    try:
        munge = ["munged", "-F", "--force", f"--key-file={key}", f"--socket={socket_file}"]
        munge += [f"--log-file={folder}/log/munged", f"--pid-file={folder}/munged.pid", f"--seed-file={folder}/seed"]
        daemons.append(_start(munge, folder, environment))
        _wait(lambda: Path(socket_file).exists(), folder, "munged")
        daemons.append(_start(["slurmctld", "-D"], folder, environment))
        daemons.append(_start(["slurmd", "-D", "-N", host], folder, environment))
        _wait(lambda: "idle" in _ask(["sinfo", "-h", "-o", "%T"], environment), folder, "slurmctld and slurmd")
        yield environment
        _ask(["scancel", "--partition=test"], environment)
        _wait(lambda: not _ask(["squeue", "-h"], environment).strip(), folder, "jobs that were cancelled")
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        Path(socket_file).unlink(missing_ok=True)
        Path(f"{socket_file}.lock").unlink(missing_ok=True)


def _program(name: str) -> str | None:
    """Path of a program; daemons lie beside what users call."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def _start(command: list[str], folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    program = _program(command[0])
    assert program is not None
    with (folder / "log" / f"{command[0]}.out").open("wb") as log:
        return subprocess.Popen(
            [program, *command[1:]], stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **environment}
        )


def _ask(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environment}
    )
    return done.stdout


def _wait(condition, folder: Path, what: str) -> None:
    limit = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > limit:
            logs = "\n".join(
                f"{log.name}: {log.read_text(errors='replace')[-1500:]}" for log in sorted((folder / "log").iterdir())
            )
            raise AssertionError(f"{what} did not come in {PATIENCE:g} s:\n{logs}")
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A SLURM for the tests of a module: the environment that its commands need."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with one_node_slurm(tmp_path_factory.mktemp("slurm")) as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield environment
