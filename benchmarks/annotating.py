"""Slices of the annotator: seconds until the first one, then for each, as the page asks for them; memory of the server.

Run::

    python benchmarks/annotating.py --tomogram TS_01.zarr       # a tomogram that is there
    python benchmarks/annotating.py --shape 464,928,928         # noise, 1.6 GB, in a temporary folder
    python benchmarks/annotating.py --shape 64,96,128           # small

*overview*: the whole plane on 600 pixels; *first*: the coarser one that is shown before it where nobody has been yet;
*window*: 512 × 512 voxels of the full resolution; *whole*: the plane at full resolution. *jump*: to slices far from
each other; *scroll*: slice by slice.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
from lib.measure import machine

SCREEN = 600
WINDOW = 512
PLANES = ((1, 2), (0, 2), (1, 0))


def make(path: Path, shape: tuple[int, int, int]) -> None:
    """A tomogram of noise with its pyramid."""
    from deepfinder_dask.blocks import Box
    from deepfinder_dask.tomograms import build_pyramid, create_image, finish_image

    volume = create_image(path, shape=shape, dtype="float32", voxel_size=10.0)
    rng = np.random.default_rng(0)
    step = volume.write_unit[0]
    for z in range(0, shape[0], step):
        box = Box((z, 0, 0), (min(z + step, shape[0]), *shape[1:]))
        volume.write(box, rng.standard_normal(box.shape, dtype=np.float32))
    build_pyramid(path)
    finish_image(path)


def measure(url: str, repeats: int, process: int) -> dict[str, float]:
    """Median and longest seconds of each kind of slice, each axis in turn; mean processor seconds of the server."""
    with urllib.request.urlopen(f"{url}session") as answer:
        facts = json.load(answer)
    shape = facts["shape"]
    figures: dict[str, float] = {}
    for kind in ("first", "overview", "window", "whole"):
        for way in ("jump", "scroll"):
            seconds = []
            before = processor_seconds(process)
            for axis, (up, right) in enumerate(PLANES):
                dot = 1.4 * max(shape[up], shape[right]) / SCREEN  # as the page decides
                fine = [n for n, one in enumerate(facts["levels"]) if max(one["factor"]) <= dot] or [0]
                level = {"first": min(fine[-1] + 1, len(facts["levels"]) - 1), "overview": fine[-1]}.get(kind, 0)
                extent = facts["levels"][level]["shape"]
                rows, columns = (min(WINDOW, extent[a]) if kind == "window" else extent[a] for a in (up, right))
                for n in range(repeats):
                    index = (n * 97 + 40) % shape[axis] if way == "jump" else min(shape[axis] - 1, shape[axis] // 3 + n)
                    asked = {"axis": axis, "index": index, "level": level, "slices": 1}
                    asked |= {"row": 0, "rows": rows, "column": 0, "columns": columns}
                    start = time.perf_counter()
                    with urllib.request.urlopen(f"{url}slice?{urllib.parse.urlencode(asked)}") as answer:
                        answer.read()
                    seconds.append(time.perf_counter() - start)
            figures[f"{kind}_{way}_cpu_seconds"] = (processor_seconds(process) - before) / len(seconds)
            figures[f"{kind}_{way}_seconds"] = statistics.median(seconds)
            figures[f"{kind}_{way}_longest"] = max(seconds)
    return figures


def processor_seconds(process: int) -> float:
    """Processor seconds of a process so far; these say more than seconds on a machine that others use, too."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mib(process: int) -> float:
    """Peak memory of a process that runs, in MiB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def run(tomogram: Path, folder: Path, repeats: int) -> dict[str, object]:
    """All figures of one tomogram."""
    classes = folder / "classes.toml"
    classes.write_text('[[class]]\nname = "ribosome"\nlabel = 1\nradius = 130.0\n', encoding="utf-8")
    words = ["annotate", str(tomogram), "-c", str(classes), "-o", str(folder / "picks.parquet"), "--no-open"]
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "deepfinder_dask", *words], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            line = process.stderr.readline()
            url = next(word for word in line.split() if word.startswith("http://"))
            served = time.perf_counter() - start
            figures = measure(url, repeats, process.pid)
            memory = peak_mib(process.pid)
        finally:
            process.kill()
    return {"seconds_to_page": served, **figures, "server_peak_mib": memory, "machine": machine()}


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--shape", default="464,928,928", help="voxels z,y,x of a tomogram of noise (default %(default)s)"
    )
    parser.add_argument("--tomogram", type=Path, help="a tomogram that is there, instead")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="where the files go (default here)")
    parser.add_argument("--repeats", type=int, default=20, help="slices of each kind and axis (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        tomogram = options.tomogram
        if tomogram is None:
            z, y, x = (int(n) for n in options.shape.split(","))
            tomogram = Path(name, "noise.zarr")
            make(tomogram, (z, y, x))
        figures = run(tomogram, Path(name), options.repeats)
    if options.json:
        print(json.dumps(figures))
        return
    for key, value in figures.items():
        print(f"{key:28}{value:.3f}" if isinstance(value, float) else f"{key:28}{value}")


if __name__ == "__main__":
    main()
