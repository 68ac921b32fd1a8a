"""Convert a synthetic MRC file in a process of its own: rate, processor time and peak memory, beside a plain copy.

Run::

    python benchmarks/convert.py                      # 928 x 928 x 464 float32, 1.6 GB: needs 5 GB of disk
    python benchmarks/convert.py --shape 64,96,128    # small

Both the copy and the conversion end with all data on the disk (fsync, sync). The file has just been written, so that
both read it from the page cache where there is room.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from lib.measure import machine, run_child

PIECE = 16 * 2**20
CHILD = """
import sys
from deepfinder_dask.tomograms import convert
convert(sys.argv[1], sys.argv[2], progress=False)
"""


def make_mrc(path: Path, shape: tuple[int, int, int], seed: int = 0) -> None:
    """Write a float32 MRC file of noise around a slow ramp, (z, y, x), 10 Å per voxel."""
    rng = np.random.default_rng(seed)
    header = np.zeros(256, np.int32)
    header[:4] = (*shape[::-1], 2)
    header[7:10] = shape[::-1]
    header[10:16] = np.array([10 * n for n in shape[::-1]] + [90] * 3, np.float32).view(np.int32)
    header[16:19] = 1, 2, 3
    header[52:53] = np.frombuffer(b"MAP ", np.int32)
    header[53:54] = np.frombuffer(bytes([0x44, 0x44, 0, 0]), np.int32)
    ramp = np.linspace(-1, 1, shape[2], dtype=np.float32)
    with path.open("wb") as file:
        file.write(header.tobytes())
        for _ in range(shape[0]):
            plane = rng.standard_normal(shape[1:], dtype=np.float32)
            file.write((plane + ramp).tobytes())


def copy_file(source: Path, target: Path) -> dict[str, float]:
    """Seconds that a plain copy takes until it is on the disk, and its processor seconds."""
    started, cpu = time.perf_counter(), time.process_time()
    with source.open("rb") as reader, target.open("wb") as writer:
        while piece := reader.read(PIECE):
            writer.write(piece)
        writer.flush()
        os.fsync(writer.fileno())
    return {"copy_seconds": time.perf_counter() - started, "copy_cpu_seconds": time.process_time() - cpu}


def convert_file(source: Path, target: Path) -> dict[str, float]:
    """Seconds until done and until on the disk, processor seconds and peak MiB of a converting process."""
    started = time.perf_counter()
    figures = run_child([sys.executable, "-c", CHILD, str(source), str(target)])
    os.sync()
    return {**figures, "seconds_on_disk": time.perf_counter() - started}


def run(shape: tuple[int, int, int], folder: Path) -> dict[str, object]:
    """All figures of one size, with the files in a temporary folder inside ``folder``."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        source = Path(name, "tomogram.mrc")
        make_mrc(source, shape)
        os.sync()
        copied = copy_file(source, Path(name, "copy.mrc"))
        Path(name, "copy.mrc").unlink()
        converted = convert_file(source, Path(name, "tomogram.zarr"))
        gigabytes = source.stat().st_size / 1e9
    return {
        "shape": shape,
        "gigabytes": gigabytes,
        **copied,
        "copy_gb_per_s": gigabytes / copied["copy_seconds"],
        **converted,
        "convert_gb_per_s": gigabytes / converted["seconds"],
        "convert_on_disk_gb_per_s": gigabytes / converted["seconds_on_disk"],
        "machine": machine(),
    }


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="464,928,928", help="voxels z,y,x (default %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="where the files go (default here)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    z, y, x = (int(n) for n in options.shape.split(","))
    figures = run((z, y, x), options.folder)
    if options.json:
        print(json.dumps(figures))
        return
    for key, value in figures.items():
        print(f"{key:26}{value:.3f}" if isinstance(value, float) else f"{key:26}{value}")


if __name__ == "__main__":
    main()
