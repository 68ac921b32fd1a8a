"""What the table ``[workers]`` may say: one dataclass for each kind."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from deepfinder_dask.errors import SettingsError
from deepfinder_dask.execution.sizes import to_bytes

MARGIN = 0.1
"""Part of the walltime before whose end workers leave by themselves."""
LONGEST_MARGIN = 600.0
"""Seconds that this part is at most."""


@dataclass(frozen=True)
class LocalWorkers:
    """Processes on this machine."""

    kind: ClassVar[str] = "local"
    processes: int = 1
    """Worker processes."""
    cores: int | None = None
    """Cores that they share; by default all that this process may use."""
    memory: str | None = None
    """Memory of one process, such as "8GiB", above which it is ended and its block done again; by default no limit."""

    def __post_init__(self) -> None:
        _at_least("processes", self.processes, 1)
        _at_least("cores", self.cores, 1)
        _check_memory(self.memory)


@dataclass(frozen=True)
class GpuWorkers:
    """A process for each GPU of this machine (dask-cuda, where it is installed)."""

    kind: ClassVar[str] = "gpu"
    processes: int | None = None
    """GPUs to use; by default all that CUDA_VISIBLE_DEVICES leaves."""

    def __post_init__(self) -> None:
        _at_least("processes", self.processes, 1)


@dataclass(frozen=True)
class SchedulerWorkers:
    """The workers of a Dask scheduler that runs already; whoever started them looks after them."""

    kind: ClassVar[str] = "scheduler"
    address: str
    """Its address, such as "tcp://host:8786"."""


@dataclass(frozen=True)
class SshWorkers:
    """Hosts that are reached by SSH, with this folder and this Python on a file system that they share."""

    kind: ClassVar[str] = "ssh"
    hosts: tuple[str, ...]
    """Names or addresses."""
    processes: int = 1
    """Worker processes on each host."""
    cores: int | None = None
    """Cores that the processes of a host share; by default all."""
    memory: str | None = None
    """Memory of one process, such as "16GiB", above which it is ended and its block done again; by default no limit."""
    gpu: bool = False
    """Whether each host has a GPU that its process works with (then one process on each host)."""
    user: str | None = None
    """Name to log in with; by default that of the user here."""
    port: int | None = None
    """Port of the SSH servers; by default what ~/.ssh/config says, or 22."""
    key: str | None = None
    """File of the private key; by default those of ssh and its agent."""
    known_hosts: str | None = None
    """File of the hosts' public keys; by default ~/.ssh/known_hosts. A host that is in none is refused."""
    python: str | None = None
    """Python on the hosts; by default the path of the one that runs here."""
    interface: str | None = None
    """Network interface of this machine that the hosts reach, such as "ib0"; by default that of its default route."""

    def __post_init__(self) -> None:
        if not self.hosts:
            raise SettingsError("workers.hosts: expected at least one host, got none")
        _at_least("processes", self.processes, 1)
        _at_least("cores", self.cores, 1)
        _check_memory(self.memory)
        if self.gpu and self.processes > 1:
            raise SettingsError(
                f"workers.processes: expected 1 where gpu = true, got {self.processes}: name a host once for each GPU"
            )


@dataclass(frozen=True)
class _Jobs:
    """Jobs of a batch system, with this folder and this Python on a file system that its nodes share."""

    cores: int
    """Cores of a job."""
    memory: str
    """Memory of a job, such as "32GiB"; a worker that takes more is ended and its block computed again."""
    walltime: str
    """Time that a job may run: "HH:MM:SS" or "D-HH:MM:SS"."""
    jobs: int = 1
    """Jobs at a time."""
    minimum: int | None = None
    """Fewest jobs, where their number follows the work (with `maximum`, instead of `jobs`)."""
    maximum: int | None = None
    """Most jobs, where their number follows the work."""
    processes: int = 1
    """Worker processes in a job, which share its cores and memory."""
    gpu: bool = False
    """Whether each job asks for a GPU and works with it (then one process in a job)."""
    queue: str | None = None
    """Queue, or partition."""
    account: str | None = None
    """Account, or project, that pays."""
    directives: tuple[str, ...] = ()
    """More of the batch system's options, such as "--constraint=avx512"."""
    prologue: tuple[str, ...] = ()
    """Lines of shell before the worker starts, such as "module load cuda"."""
    lifetime: str | None = None
    """Time after which a worker takes no more blocks and leaves; by default a tenth, at most ten minutes, before the
    walltime."""
    stagger: str | None = None
    """How much earlier or later that is, at random, so that not all leave at once; by default half of what lies between
    lifetime and walltime."""
    interface: str | None = None
    """Network interface of the nodes and of this machine, such as "ib0"; by default that of the default route."""
    local_folder: str | None = None
    """Folder on the nodes for Dask's own files, such as "/scratch"; by default Dask's."""
    log_folder: str | None = None
    """Folder for what jobs print; by default the batch system's."""
    python: str | None = None
    """Python on the nodes; by default the path of the one that runs here."""

    def __post_init__(self) -> None:
        for name in ("cores", "jobs", "processes", "maximum"):
            _at_least(name, getattr(self, name), 1)
        _at_least("minimum", self.minimum, 0)
        _check_memory(self.memory)
        if self.processes > self.cores:
            raise SettingsError(f"workers.processes: expected at most {self.cores}, the cores, got {self.processes}")
        if self.gpu and self.processes > 1:
            raise SettingsError(
                f"workers.processes: expected 1 where gpu = true, got {self.processes}: ask for more jobs instead"
            )
        if self.minimum is not None and self.maximum is None:
            raise SettingsError("workers.minimum: expected a maximum beside it, got none: add maximum = 20")
        if self.maximum is not None:
            if self.jobs != 1:
                raise SettingsError("workers.jobs: give either jobs, or minimum and maximum")
            if (self.minimum or 0) > self.maximum:
                raise SettingsError(
                    f"workers.minimum: expected at most the maximum, {self.maximum}, got {self.minimum}"
                )
        self.leaving()

    def leaving(self) -> tuple[float, float]:
        """Lifetime of a worker and its stagger, in seconds.

        Raises
        ------
        SettingsError
            If a worker could still be there when the batch system ends its job.
        """
        walltime = to_seconds("walltime", self.walltime)
        margin = min(LONGEST_MARGIN, walltime * MARGIN)
        lifetime = walltime - margin if self.lifetime is None else to_seconds("lifetime", self.lifetime)
        between = walltime - lifetime
        stagger = max(0.0, between / 2) if self.stagger is None else to_seconds("stagger", self.stagger)
        if lifetime + stagger >= walltime or lifetime <= stagger:
            raise SettingsError(
                f"workers.lifetime: expected lifetime and stagger together below the walltime {self.walltime}, and the "
                f"stagger below the lifetime, got {lifetime:g} s and {stagger:g} s: leave both out"
            )
        return lifetime, stagger


@dataclass(frozen=True)
class SlurmWorkers(_Jobs):
    """Jobs of SLURM (sbatch)."""

    kind: ClassVar[str] = "slurm"


@dataclass(frozen=True)
class LsfWorkers(_Jobs):
    """Jobs of LSF (bsub); `account` is its project."""

    kind: ClassVar[str] = "lsf"


@dataclass(frozen=True)
class PbsWorkers(_Jobs):
    """Jobs of PBS (qsub)."""

    kind: ClassVar[str] = "pbs"


Group: TypeAlias = LocalWorkers | GpuWorkers | SshWorkers | SlurmWorkers | LsfWorkers | PbsWorkers
"""Workers that we start ourselves."""


@dataclass(frozen=True)
class MixedWorkers:
    """Workers with GPUs, which segment, and others, which do the rest."""

    kind: ClassVar[str] = "mixed"
    cpu: Group
    """The table `[workers.cpu]`: any kind but gpu, scheduler and mixed."""
    gpu: Group
    """The table `[workers.gpu]`: of kind gpu, or of a batch system or ssh, which then are given gpu = true."""

    def __post_init__(self) -> None:
        for name, group in (("cpu", self.cpu), ("gpu", self.gpu)):
            if getattr(group, "maximum", None) is not None:
                raise SettingsError(f"workers.{name}.maximum: expected jobs = N in a mixture, got a number that varies")
        if isinstance(self.cpu, GpuWorkers) or getattr(self.cpu, "gpu", False):
            raise SettingsError("workers.cpu: expected workers without GPUs, got such with GPUs")
        if not isinstance(self.gpu, GpuWorkers) and not getattr(self.gpu, "gpu", False):
            raise SettingsError('workers.gpu: expected kind = "gpu", or gpu = true, got workers without GPUs')


WorkersTable: TypeAlias = Group | SchedulerWorkers | MixedWorkers
"""What the table ``[workers]`` becomes."""

KINDS: dict[str, type[WorkersTable]] = {
    kind.kind: kind
    for kind in (
        LocalWorkers,
        SchedulerWorkers,
        SshWorkers,
        SlurmWorkers,
        LsfWorkers,
        PbsWorkers,
        GpuWorkers,
        MixedWorkers,
    )
}
"""Dataclass by the word behind ``kind =``."""


def to_seconds(name: str, text: str) -> float:
    """Seconds from ``HH:MM:SS`` or ``D-HH:MM:SS``.

    Raises
    ------
    SettingsError
        If it is none of these.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):([0-5]\d):([0-5]\d)", text.strip())
    if match is None:
        raise SettingsError(f'workers.{name}: expected "HH:MM:SS" or "D-HH:MM:SS", got {text!r}')
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60.0 + seconds


def to_clock(seconds: float) -> str:
    """``HH:MM:SS``, as all batch systems but LSF read it."""
    minutes, rest = divmod(math.floor(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest:02d}"


def _at_least(name: str, value: int | None, lowest: int) -> None:
    if value is not None and value < lowest:
        raise SettingsError(f"workers.{name}: expected at least {lowest}, got {value}")


def _check_memory(text: str | None) -> None:
    if text is None:
        return
    try:
        size = to_bytes(text)
    except ValueError:
        size = 0
    if size <= 0:
        raise SettingsError(f'workers.memory: expected a size such as "8GiB", got {text!r}')
