"""Jobs of SLURM, LSF and PBS, through dask-jobqueue."""

from __future__ import annotations

import asyncio
import getpass
import shutil
from collections.abc import Mapping
from typing import Any

from deepfinder_dask.errors import InputError, SettingsError
from deepfinder_dask.execution.clusters.groups import Started, Workplace, resources
from deepfinder_dask.execution.clusters.required import require
from deepfinder_dask.execution.clusters.settings import (
    LsfWorkers,
    PbsWorkers,
    SlurmWorkers,
    to_clock,
    to_seconds,
)
from deepfinder_dask.execution.local import KEPT_MEMORY, PRELOAD, THREADS, THREADS_BY_GPU, VISIBLE, shared_environment
from deepfinder_dask.execution.sizes import to_bytes

LISTINGS = {
    "slurm": ("squeue", "--noheader", "--format=%A", "--user"),
    "lsf": ("bjobs", "-noheader", "-o", "jobid", "-u"),
    "pbs": ("qselect", "-u"),
}
"""Command that names the jobs of a user that wait or run, by kind; the user comes last."""
LISTING_SECONDS = 60.0
"""Longest that this command may take."""


def batch_group(
    settings: SlurmWorkers | LsfWorkers | PbsWorkers, name: str | None = None, *, started: int | None = None
) -> Workplace:
    """Jobs that hold workers.

    Parameters
    ----------
    settings : SlurmWorkers, LsfWorkers or PbsWorkers
        What they ask for.
    name : str, optional
        Name of the group in a mixture.
    started : int, optional
        Jobs to begin with; default those of the settings.

    Raises
    ------
    SettingsError
        If dask-jobqueue is not installed.
    InputError
        If the commands of the batch system are not on this machine.
    """
    require("dask_jobqueue", settings.kind, settings.kind)
    job = job_class(settings.kind)
    if shutil.which(job.submit_command.split()[0]) is None:
        raise InputError(
            f"no command {job.submit_command.split()[0]} here: run the campaign on a machine that submits jobs of "
            f'kind = "{settings.kind}"'
        )
    template = {"cls": job, "options": job_options(settings, mixed=name is not None)}
    if settings.processes > 1:
        template["group"] = [f"-{number}" for number in range(settings.processes)]
    count = settings.jobs if started is None else started
    specs = {f"{name or settings.kind}-{number}": template for number in range(count)}

    async def over(jobs: Mapping[str, Started]) -> set[str]:
        alive = await _listed(settings.kind)
        return {one for one, job in jobs.items() if _number(job) not in alive} if alive is not None else set()

    varies = settings.maximum is not None
    return Workplace(specs, template if varies else None, settings.interface, over=over)


def job_options(settings: SlurmWorkers | LsfWorkers | PbsWorkers, *, mixed: bool = False) -> dict[str, Any]:
    """Options of a job as dask-jobqueue takes them."""
    lifetime, stagger = settings.leaving()
    has = resources(gpu=settings.gpu, mixed=mixed)
    environment = shared_environment(settings.processes, settings.cores)
    for key, value in KEPT_MEMORY.items():
        environment["DASK_" + key.upper().replace(".", "__")] = str(value)
    if mixed and not settings.gpu:
        environment[VISIBLE] = ""
    options: dict[str, Any] = {
        "cores": settings.cores,
        "processes": settings.processes,
        "memory": f"{to_bytes(settings.memory)}B",
        "queue": settings.queue,
        "walltime": to_clock(to_seconds("walltime", settings.walltime)),
        "job_name": "deepfinder",
        "interface": settings.interface,
        "local_directory": settings.local_folder,
        "log_directory": settings.log_folder,
        "python": settings.python,
        "job_extra_directives": list(settings.directives),
        "job_script_prologue": [
            *settings.prologue,
            *(f"export {key}={value}" for key, value in environment.items()),
        ],
        # The last one counts: dask-jobqueue gives a process as many threads as cores.
        "worker_extra_args": [
            *("--nthreads", str(THREADS_BY_GPU if settings.gpu else THREADS)),
            *("--resources", ",".join(f"{key}={value:g}" for key, value in has.items())),
            *("--lifetime", f"{lifetime:.0f}s", "--lifetime-stagger", f"{stagger:.0f}s"),
            *("--preload", PRELOAD, "--no-dashboard"),
        ],
    }
    given = " ".join(settings.directives)
    if isinstance(settings, SlurmWorkers):
        options["account"] = settings.account
        if settings.gpu and "gres" not in given and "--gpu" not in given:
            options["job_extra_directives"].append("--gres=gpu:1")
    elif isinstance(settings, LsfWorkers):
        options["project"] = settings.account
        options["walltime"] = options["walltime"][:-3]  # it knows no seconds
        if settings.gpu and "-gpu" not in given:
            options["job_extra_directives"].append('-gpu "num=1"')
    else:
        options["account"] = settings.account
        if settings.gpu:
            mebibytes = -(-to_bytes(settings.memory) // 2**20)
            options["resource_spec"] = f"select=1:ncpus={settings.cores}:mem={mebibytes}MB:ngpus=1"
    return options


def job_class(kind: str) -> Any:
    """Class of the jobs of a batch system, whose errors are one line."""
    from dask_jobqueue import lsf, pbs, slurm
    from distributed.core import Status

    base: Any = {"slurm": slurm.SLURMJob, "lsf": lsf.LSFJob, "pbs": pbs.PBSJob}[kind]

    class _Job(base):  # type: ignore[misc]
        async def start(self) -> None:
            try:
                await super().start()
            except (RuntimeError, ValueError) as error:
                said = str(error).partition("stderr:")[2].strip() or str(error)
                raise SettingsError(
                    f"{self.submit_command} refused a job, it says {' '.join(said.split())!r}: correct the table of "
                    "workers"
                ) from error

        async def close(self) -> None:
            await super().close()
            self.status = Status.closed

    return _Job


async def _listed(kind: str) -> set[str] | None:
    """Numbers of the user's jobs that wait or run; None where the batch system does not answer now."""
    command = (*LISTINGS[kind], getpass.getuser())
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    except OSError:
        return None
    try:
        out, err = await asyncio.wait_for(process.communicate(), LISTING_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
    if process.returncode != 0 and b"No unfinished job found" not in err:
        return None
    return {line.strip().partition(".")[0] for line in out.decode().splitlines() if line.strip()}


def _number(job: Any) -> str | None:
    number: str | None = job.job_id
    return number
