"""Campaigns: tomograms an hour against the number of workers, what scheduling costs, how soon a finished one is over.

Run::

    python benchmarks/campaign.py workers       # 20 tomograms of noise of different sizes, 1 worker and 2
    python benchmarks/campaign.py scheduling    # 1,000 tomograms of 100 blocks that compute nothing
    python benchmarks/campaign.py resume        # 1,000 small files converted, then the same command again

``workers`` gives each worker one core, and takes the time from when the workers are there to the last state written, as
the campaign's own timings.json has it; idle is the share of the workers' time, until there was no longer enough to do
for all of them, in which one had nothing under way. Label maps and particles of all numbers of workers are compared
value by value.

``scheduling`` drives blocks that compute nothing through the real orchestration: states on disk, threads, windows,
scheduler. Its processor time is that of the process that holds driver and scheduler.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from lib.measure import machine, measured, report, run_and_print, run_reporting

SMALLEST, LARGEST = (48, 128, 128), (96, 256, 256)
"""Voxels of the tomograms of ``workers``, z, y, x."""
FILE = (8, 16, 16)
"""Voxels of the files of ``resume``."""


def make_files(folder: Path, count: int, smallest: tuple[int, int, int], largest: tuple[int, int, int]) -> None:
    """Write tomograms of noise, of sizes between two, as MRC files at 10 Å per voxel."""
    import mrcfile

    folder.mkdir(parents=True)
    for number in range(count):
        share = (number * 7 % count) / max(1, count - 1)  # large and small ones mixed
        shape = [round((a + share * (b - a)) / 8) * 8 for a, b in zip(smallest, largest, strict=True)]
        with mrcfile.new(folder / f"t{number:04}.mrc") as file:
            file.set_data(np.random.default_rng([1, number]).standard_normal(shape, dtype=np.float32))
            file.voxel_size = 10.0


def make_campaign(folder: Path, name: str, workers: int, *, stages: str = "") -> Path:
    """Write a campaign file for all files in ``raw``."""
    path = folder / f"{name}.toml"
    path.write_text(
        f'name = "{name}"\noutput = "{name}"\nweights = "demo"\ntomograms = ["raw/*.mrc"]\n'
        f'{stages}\n[convert]\ncontrast = "dark"\n\n'
        f'[workers]\nkind = "local"\nprocesses = {workers}\ncores = {workers}\n'
    )
    return path


def run_here(options: argparse.Namespace) -> None:
    """What a measured process does: one campaign file."""
    from deepfinder_dask.campaigns import run

    figures, result = measured(lambda: run(options.campaign, progress=False))
    report(options.report, {**figures, "done": result.counts.get("done", 0), "done_now": result.done_now})


def schedule_here(options: argparse.Namespace) -> None:
    """What a measured process does: blocks that compute nothing."""
    from deepfinder_dask.campaigns.planning.config import Limits
    from deepfinder_dask.campaigns.planning.entries import Entry
    from deepfinder_dask.campaigns.running.conductor import Conductor
    from deepfinder_dask.campaigns.running.stages import BlocksStage
    from deepfinder_dask.campaigns.running.survey import survey
    from deepfinder_dask.execution.clusters import open_workforce

    home = Path(options.campaign)
    entries = [Entry(f"t{number:05}", f"/nowhere/t{number:05}.mrc") for number in range(options.tomograms)]
    stages = [BlocksStage(abs, options.blocks)]
    with open_workforce({"kind": "local", "processes": options.workers_list[-1]}) as executor:
        list(executor.run(abs, range(100), label="warm up"))
        conductor = Conductor(home, stages, executor, limits=Limits(free_disk=0))
        todo = survey(home, entries, stages).todo
        figures, _ = measured(lambda: conductor.run(todo))
    again, left = measured(lambda: survey(home, entries, stages).todo)
    report(options.report, {**figures, "left": len(left), "look_again_seconds": again["seconds"]})


def results_of(home: Path) -> dict[str, str]:
    """SHA-256 of the particles and of the voxels of the label map of each tomogram."""
    from deepfinder_dask.particles import read_particles
    from deepfinder_dask.tomograms import open_image

    found = {}
    for folder in sorted((home / "tomograms").iterdir()):
        # Values, not files: blocks, and with them shards, are as large as the memory of a worker allows.
        digest = hashlib.sha256(read_particles(folder / "particles.parquet").table.to_csv(index=False).encode())
        digest.update(open_image(folder / "segmentation.zarr" / "labels").levels[0].read().tobytes())
        found[folder.name] = digest.hexdigest()
    return found


def measure_workers(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The same campaign with different numbers of workers."""
    make_files(folder / "raw", options.tomograms or 20, SMALLEST, LARGEST)
    rows, hashes = {}, []
    for workers in options.workers_list:
        name = f"workers_{workers}"
        campaign = make_campaign(folder, name, workers)
        figures = run_reporting([sys.executable, __file__, "--do", "run", "--campaign", str(campaign), "--report"])
        timings = json.loads((folder / name / "timings.json").read_text())
        rows[str(workers)] = {
            "done": figures["done"],
            "seconds": timings["seconds"],
            "tomograms_an_hour": 3600 * figures["done"] / timings["seconds"],
            "idle": timings["idle"],
            "idle_until_seconds": timings["full_until"],
            "driver_peak_mib": figures["peak_mib"],
        }
        hashes.append(results_of(folder / name))
    first = rows[str(options.workers_list[0])]
    for row in rows.values():
        row["faster"] = first["seconds"] / row["seconds"]
    return {"by_workers": rows, "identical": all(one == hashes[0] for one in hashes), "machine": machine()}


def measure_scheduling(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What blocks cost that compute nothing."""
    tomograms, blocks = options.tomograms or 1000, options.blocks
    words = ["--do", "schedule", "--campaign", str(folder / "home"), "--tomograms", str(tomograms)]
    words += ["--blocks", str(blocks), "--workers", str(options.workers_list[-1]), "--report"]
    figures = run_reporting([sys.executable, __file__, *words])
    count = tomograms * blocks
    return {
        "tomograms": tomograms,
        "blocks": count,
        "workers": options.workers_list[-1],
        "wall_ms_a_block": 1000 * figures["seconds"] / count,
        "driver_and_scheduler_cpu_ms_a_block": 1000 * figures["cpu_seconds"] / count,
        "driver_and_scheduler_peak_mib": figures["peak_mib"],
        "left_to_do": figures["left"],
        "look_again_seconds": figures["look_again_seconds"],
        "machine": machine(),
    }


def measure_resume(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """How long the same command takes where everything is done."""
    count = options.tomograms or 1000
    make_files(folder / "raw", count, FILE, FILE)
    stages = "\n[stages]\nsegment = false\ncluster = false\nexport = false\nevaluate = false\n"
    campaign = make_campaign(folder, "converted", options.workers_list[-1], stages=stages)
    words = [sys.executable, __file__, "--do", "run", "--campaign", str(campaign), "--report"]
    first, again = run_reporting(words), run_reporting(words)
    return {
        "tomograms": count,
        "first_seconds": first["seconds"],
        "first_done": first["done_now"],
        "again_seconds": again["seconds"],
        "again_seconds_with_start": again["start_seconds"] + again["seconds"],
        "again_cpu_seconds": again["cpu_seconds"],
        "again_done": again["done_now"],
        "again_peak_mib": again["peak_mib"],
        "machine": machine(),
    }


STUDIES = {"workers": measure_workers, "scheduling": measure_scheduling, "resume": measure_resume}
TASKS = {"run": run_here, "schedule": schedule_here}


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All figures of a study, with the files in ``folder``."""
    return STUDIES[options.study](options, folder)


def show(figures: dict[str, Any]) -> None:
    """Print a table."""
    print(", ".join(f"{key}: {value}" for key, value in figures["machine"].items()))
    rows = {"": {key: value for key, value in figures.items() if key not in ("machine", "by_workers")}}
    for name, row in {**figures.get("by_workers", {}), **rows}.items():
        print(*[f"workers: {name}"] * bool(name))
        for key, value in row.items():
            print(f"{key:38}{value:.3f}" if isinstance(value, float) else f"{key:38}{value}")


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", nargs="?", default="scheduling", choices=STUDIES, help="default %(default)s")
    parser.add_argument("--tomograms", type=int, default=0, help="how many (default 20, or 1000 trivial ones)")
    parser.add_argument("--blocks", type=int, default=100, help="of each trivial tomogram (default %(default)s)")
    parser.add_argument("--workers", default="1,2", help="numbers of worker processes (default %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="where the files go (default here)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--do", choices=TASKS, help=argparse.SUPPRESS)
    parser.add_argument("--campaign", help=argparse.SUPPRESS)
    parser.add_argument("--report", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.workers_list = [int(number) for number in options.workers.split(",")]
    if options.do:
        TASKS[options.do](options)
    else:
        run_and_print(options, run, show)


if __name__ == "__main__":
    main()
