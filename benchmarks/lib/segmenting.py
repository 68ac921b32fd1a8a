"""Calls of ``segment`` in processes of their own, and what their outputs say of themselves."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from deepfinder_dask.execution import Ledger
from deepfinder_dask.segmentation import Segmentation
from lib.measure import measured, report, run_reporting

GIB = 2**30


def run_segment(
    tomogram: Path, weights: Path, output: Path, *, cores: int | None = None, **options: Any
) -> dict[str, Any]:
    """Segment in a process of its own, with these settings; figures of the call and of the blocks it chose.

    The call is the library's, from Zarr to label map; what the process does before it is listed apart.
    ``worker_peak_mib`` is the peak of the process that computes: a worker's, or its own.
    """
    words = [f"{key}={value}" for key, value in options.items() if value is not None]
    figures = run_reporting([sys.executable, __file__, str(tomogram), str(weights), str(output), *words], cores=cores)
    done = Segmentation.open(str(output))
    voxels = done.label_map.shape[0] * done.label_map.shape[1] * done.label_map.shape[2]
    plan = done.attributes["plan"]
    own = figures["peak_children_mib"] if "workers" in options else figures["peak_mib"]
    return {
        **figures,
        "worker_peak_mib": max(own, recorded_peak_mib(output)),
        "voxels_per_second": voxels / figures["seconds"],
        "core": list(plan["core"]),
        "blocks": plan["blocks"],
        "waste": plan["waste"],
    }


def recorded_peak_mib(output: Path) -> float:
    """Largest peak memory of a worker in the records of a segmentation's blocks, in MiB; 0 without records."""
    records = Ledger(output / ".ledger").recorded().values() if (output / ".ledger").exists() else ()
    return max((record.get("peak_bytes", 0) / 2**20 for record in records), default=0.0)


def load_network_code() -> bool:
    """Import what a worker needs for its first block."""
    return all(import_module(f"deepfinder_dask.{room}") for room in ("networks.unet", "segmentation.block"))


def main() -> None:
    """Segment as the words say, and report."""
    from deepfinder_dask.segmentation import segment

    tomogram, weights, output, *words, path = sys.argv[1:]
    chosen = dict(word.split("=", 1) for word in words)
    options: dict[str, Any] = {key: int(value) if value.isdigit() else value for key, value in chosen.items()}
    if "block" in options:
        options["block"] = tuple(int(n) for n in options["block"].split(","))
    load_network_code()  # the call is one in a running process: imports are listed as its start
    progress = sys.stderr.isatty()
    figures, _ = measured(lambda: segment(tomogram, weights, output, progress=progress, **options))
    report(path, figures)


if __name__ == "__main__":
    main()
