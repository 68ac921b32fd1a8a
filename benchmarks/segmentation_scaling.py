"""How segmentation scales: memory bounds, volumes, workers, and a tomogram of full size.

Run::

    python benchmarks/segmentation_scaling.py                              # all sections but the last, half an hour
    python benchmarks/segmentation_scaling.py --sections bounds,volumes    # some of them
    python benchmarks/segmentation_scaling.py --sections none --large      # 928 x 928 x 464: needs 5 GB of disk
    python benchmarks/segmentation_scaling.py --sections workers --seconds 1 --block 16,16,16      # small

- bounds: one tomogram, one worker process, several memory bounds; the peak of the worker beside each bound.
- volumes: 1, 2, 4 and 8 times a volume, one worker process, one bound; the peak must not grow.
- workers: 1 against 2 workers of one core each, on the same blocks. The workers are up and have segmented something
  small before the clock starts. The volume has so many blocks that one worker should need --seconds.
- large: the tomogram of the paper's size, made of noise block by block, from Zarr to label map.

What scheduling itself costs is measured by benchmarks/scheduling.py.

Peaks are what the workers recorded with their blocks, or the largest of the processes where that is more.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from lib.inputs import Shape3, make_tomogram, make_weights, parse_shape
from lib.measure import machine, report, run_reporting
from lib.segmenting import GIB, load_network_code, run_segment

SPARE = 1.15
"""Blocks are taken for this much more time than was asked for, since calibration is rough."""


def measure_bounds(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Figures of one tomogram for each bound."""
    make_tomogram(folder / "bounds.zarr", parse_shape(options.shape))
    rows = []
    for bound in (float(n) for n in options.memory.split(",")):
        output = folder / f"bounds-{bound:g}.zarr"
        settings = settings_of(options, memory=int(bound * GIB), workers=1)
        figures = run_segment(folder / "bounds.zarr", folder / "weights.safetensors", output, **settings)
        rows.append({"bound_mib": bound * 1024, **figures})
        show_row(f"bound of {bound:g} GiB", rows[-1])
    return rows


def measure_volumes(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of 1, 2, 4 and 8 times a volume under one bound."""
    shape, bound, rows = parse_shape(options.base), options.volume_memory, []
    for times, axis in ((1, None), (2, 1), (4, 0), (8, 2)):
        shape = shape if axis is None else doubled(shape, axis)
        tomogram = folder / f"volume-{times}.zarr"
        make_tomogram(tomogram, shape)
        settings = settings_of(options, memory=int(bound * GIB), workers=1)
        figures = run_segment(
            tomogram, folder / "weights.safetensors", folder / f"volume-{times}-labels.zarr", **settings
        )
        rows.append({"times": times, "shape": shape, "bound_mib": bound * 1024, **figures})
        show_row(f"{times} x: {' x '.join(map(str, shape))}", rows[-1])
    peaks = [row["worker_peak_mib"] for row in rows]
    print(f"peaks of 1 x to 8 x lie {max(peaks) / min(peaks) - 1:.1%} apart")
    return {"rows": rows, "spread": max(peaks) / min(peaks) - 1}


def measure_workers(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds that 1 and 2 workers of one core take for the same blocks."""
    core = parse_shape(options.block)
    small, large = folder / "calibration.zarr", folder / "work.zarr"
    make_tomogram(small, doubled(doubled(core, 1), 2))
    calibration = run_workers(folder, small, small, 1, options)
    # A block in the middle of a volume reads more than those of the small one, which are all at its borders.
    blocks = options.seconds * SPARE / (calibration["seconds"] / 4)
    layers = max(2, math.ceil(blocks / 4))
    make_tomogram(large, (core[0] * layers, core[1] * 2, core[2] * 2))
    rows = {str(workers): run_workers(folder, small, large, workers, options) for workers in (1, 2)}
    for workers, row in rows.items():
        print(f"{workers} worker(s): {row['seconds']:.1f} s for {row['blocks']} blocks")
    speed_up = rows["1"]["seconds"] / rows["2"]["seconds"]
    print(f"speed-up {speed_up:.2f}; one worker started in {rows['1']['start_seconds']:.1f} s")
    return {"core": core, **rows, "speed_up": speed_up}


def run_workers(folder: Path, small: Path, large: Path, workers: int, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of one segmentation by workers of one core each that have been at work before."""
    output = folder / f"{large.stem}-{workers}"
    words = ["--child", str(folder), str(small), str(large), str(output), str(workers)]
    settings = json.dumps(settings_of(options, block=parse_shape(options.block)))
    return run_reporting([sys.executable, __file__, *words, settings], cores=workers)


def child_workers(folder: str, small: str, large: str, output: str, workers: str, settings: str, path: str) -> None:
    """Child process: segment something small, then, by the clock, something large."""
    from deepfinder_dask.execution import open_executor
    from deepfinder_dask.segmentation import segment

    started = time.perf_counter()
    chosen = json.loads(settings)
    weights = Path(folder) / "weights.safetensors"
    with open_executor(int(workers), None) as executor:
        executor.ask(load_network_code)  # the small one may leave a worker without a block
        segment(small, weights, f"{output}-warm.zarr", executor=executor, progress=False, **chosen)
        begun = time.perf_counter()
        done = segment(large, weights, f"{output}.zarr", executor=executor, progress=False, **chosen)
        seconds = time.perf_counter() - begun
    figures = {
        "seconds": seconds,
        "start_seconds": begun - started,
        "blocks": done.attributes["plan"]["blocks"],
    }
    report(path, figures)


def measure_large(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of a whole tomogram, end to end."""
    tomogram = folder / "large.zarr"
    make_tomogram(tomogram, parse_shape(options.large_shape))
    settings = settings_of(options, memory=int(options.large_memory * GIB))
    figures = run_segment(tomogram, folder / "weights.safetensors", folder / "large-labels.zarr", **settings)
    figures = {"shape": parse_shape(options.large_shape), "bound_mib": options.large_memory * 1024, **figures}
    show_row(f"{options.large_shape}, {options.large_memory:g} GiB", figures)
    return figures


def settings_of(options: argparse.Namespace, **others: Any) -> dict[str, Any]:
    """Settings of ``segment`` that all sections share, and others."""
    return {"precision": options.precision, "device": "cpu", **others}


def doubled(shape: Shape3, axis: int) -> Shape3:
    """A shape with twice the voxels along one axis."""
    z, y, x = (2 * n if number == axis else n for number, n in enumerate(shape))
    return z, y, x


def show_row(name: str, row: dict[str, Any]) -> None:
    """Print the figures of one segmentation."""
    print(
        f"{name:28} peak {row['worker_peak_mib']:6.0f} MiB of {row['bound_mib']:.0f}, {row['cpu_seconds']:.1f} CPU-s, "
        f"{row['seconds']:.1f} s, {row['voxels_per_second']:.0f} voxels/s, waste {row['waste']:.2f}, "
        f"{row['blocks']} blocks of {'x'.join(map(str, row['core']))}",
        flush=True,
    )


SECTIONS: dict[str, Callable[[Path, argparse.Namespace], Any]] = {
    "bounds": measure_bounds,
    "volumes": measure_volumes,
    "workers": measure_workers,
}


def main() -> None:
    """Parse the options, measure, print."""
    if sys.argv[1:2] == ["--child"]:
        child_workers(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sections", default=",".join(SECTIONS), help="which, or none (default %(default)s)")
    parser.add_argument("--large", action="store_true", help="a whole tomogram too: half an hour")
    parser.add_argument("--precision", default="fp32", help="fp32 or bf16 (default %(default)s)")
    parser.add_argument("--shape", default="160,256,256", help="bounds: voxels z,y,x (default %(default)s)")
    parser.add_argument("--memory", default="1,2,4,8", help="bounds: GiB (default %(default)s)")
    parser.add_argument("--base", default="80,128,256", help="volumes: voxels z,y,x of 1 x (default %(default)s)")
    parser.add_argument(
        "--volume-memory", type=float, default=1, help="volumes: GiB, less than 1 x would take (default %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=200, help="workers: work for one (default %(default)s)")
    parser.add_argument("--block", default="64,96,96", help="workers: voxels of a block (default %(default)s)")
    parser.add_argument("--large-shape", default="464,928,928", help="large: voxels z,y,x (default %(default)s)")
    parser.add_argument("--large-memory", type=float, default=8, help="large: GiB (default %(default)s)")
    parser.add_argument("--folder", type=Path, help="where temporary files go (default the system's place)")
    parser.add_argument("--json", action="store_true", help="print one JSON object; the rest goes to stderr")
    options = parser.parse_args()
    names = [name for name in options.sections.split(",") if name != "none"]
    if unknown := [name for name in names if name not in SECTIONS]:
        parser.error(f"expected sections among {', '.join(SECTIONS)}, got {', '.join(unknown)}")
    sections = {name: SECTIONS[name] for name in names} | ({"large": measure_large} if options.large else {})
    figures: dict[str, Any] = {}
    with redirect_stdout(sys.stderr if options.json else sys.stdout):
        for name, section in sections.items():
            print(f"\n{name}", flush=True)
            with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
                make_weights(Path(temporary, "weights.safetensors"), classes=4)
                figures[name] = section(Path(temporary), options)
        figures["machine"] = machine()
        print()
        for key, value in figures["machine"].items():
            print(f"{key:10}{value}")
    if options.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
