"""Processes measured from outside and from inside, and the machine they ran on.

Only the standard library, so that peers can use it from environments of their own.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

STARTED = "BENCHMARK_STARTED"
"""Environment variable: the time at which a measured process was started."""


def run_child(command: Sequence[str]) -> dict[str, float]:
    """Wall seconds, processor seconds and peak MiB of a process and the processes it waited for."""
    started = time.perf_counter()
    child = subprocess.Popen(command)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"a measured process failed with code {child.returncode}")
    return {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mib": usage.ru_maxrss / 1024,
    }


def run_reporting(command: Sequence[str], *, cores: int | None = None) -> dict[str, Any]:
    """Run a process that ends with :func:`report`; what it reported.

    Parameters
    ----------
    command : sequence of str
        Program and arguments; the path of the report is added as the last one.
    cores : int, optional
        Give it, and the workers that it starts, only so many of the cores.
    """
    paths = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, STARTED: repr(time.time()), "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "figures.json")
        # What a peer prints on its way, a line for each patch, is of interest only when it fails.
        with Path(folder, "printed").open("w+") as printed:
            with _only(cores):
                child = subprocess.Popen([*command, str(path)], env=environment, stdout=printed)
            if child.wait():
                printed.seek(0)
                sys.stderr.write(printed.read()[-2000:])
                raise SystemExit(f"a measured process failed with code {child.returncode}: {' '.join(command)}")
        return dict(json.loads(path.read_text()))


@contextmanager
def _only(cores: int | None) -> Iterator[None]:
    """Processes started here get the first ``cores`` of the cores that are ours; None leaves all."""
    if cores is None:
        yield
        return
    ours = os.sched_getaffinity(0)
    if cores > len(ours):
        raise SystemExit(f"needs {cores} cores, has {len(ours)}")
    os.sched_setaffinity(0, sorted(ours)[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, ours)


def report(path: str, figures: dict[str, Any]) -> None:
    """Leave figures for :func:`run_reporting`."""
    Path(path).write_text(json.dumps(figures))


def measured(function: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """Call a function; what it took, what the process took before it, and its result.

    Processor seconds are those of the process and of the children it waited for. The peak is that of this process since
    it began; ``peak_children_mib`` that of its largest child.
    """
    start_cpu, start = _cpu_seconds(), time.time()
    result = function()
    seconds, cpu = time.time() - start, _cpu_seconds() - start_cpu
    figures = {
        "cpu_seconds": cpu,
        "seconds": seconds,
        "peak_mib": peak_mib(),
        "peak_children_mib": _maxrss_mib(resource.RUSAGE_CHILDREN),
        "start_cpu_seconds": start_cpu,
        "start_seconds": start - float(os.environ.get(STARTED, start)),
    }
    return figures, result


def peak_mib() -> float:
    """Largest resident memory of this process so far, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        # ru_maxrss also remembers the process that started this one; the high-water mark of Linux does not.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return _maxrss_mib(resource.RUSAGE_SELF)


def run_and_print(
    options: Namespace, run: Callable[[Namespace, Path], dict[str, Any]], show: Callable[[dict[str, Any]], None]
) -> None:
    """Run a benchmark in a temporary folder within ``options.folder``; print its figures, as JSON if so asked."""
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        figures = run(options, Path(name))
    if options.json:
        print(json.dumps(figures))
    else:
        show(figures)


def available_mib() -> float:
    """Memory that can still be had, in MiB; infinite where the system does not tell."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable"):
                return int(line.split()[1]) / 1024
    return float("inf")


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    model, fast = platform.processor(), []
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        flags = {flag for line in lines if line.startswith("flags") for flag in line.split()}
        model = names[0] if names else model
        fast = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    here = Path(__file__).resolve().parent
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True, check=False
    )
    return {
        "cpu": f"{' '.join([model, *fast])}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "zarr", "torch")},
        "commit": commit.stdout.strip() or "unknown",
    }


def _cpu_seconds() -> float:
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)


def _maxrss_mib(who: int) -> float:
    size = resource.getrusage(who).ru_maxrss
    return size / 2**20 if sys.platform == "darwin" else size / 1024
