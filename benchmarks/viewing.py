"""The viewer on a large tomogram: from the command to the first image on screen, and the memory of its server.

A tomogram of noise with a pyramid, a label map and particles are made block by block; then ``deepfinder view`` runs as
a user runs it, and headless Chromium opens its page. The clock starts with the process and stops when the canvas shows
slices of the tomogram. Chromium itself runs already, as a user's browser does.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from lib.inputs import VOXEL_SIZE, parse_shape
from lib.measure import machine, run_and_print

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "lib"))

SHOWN = "return typeof viewer !== 'undefined' && viewer.layerManager.managedLayers.length > 0 && viewer.isReady()"
PEAK = "VmHWM"


def make_stores(folder: Path, shape: tuple[int, int, int], count: int) -> dict[str, Path]:
    """Tomogram, label map and particles."""
    from deepfinder_dask.blocks import BlockGrid, triple
    from deepfinder_dask.particles import ParticleClass, Particles, TomogramFacts
    from deepfinder_dask.tomograms import build_pyramid, create_image, finish_image
    from deepfinder_dask.tomograms.statistics import statistics_of

    paths = {name: folder / name for name in ("tomogram.zarr", "labels.zarr", "particles.parquet")}
    classes = [ParticleClass(f"class {n}", n, radius=60.0 + 20 * n) for n in range(1, 5)]
    kinds: list[tuple[Path, str, str]] = [
        (paths["tomogram.zarr"], "float32", "mean"),
        (paths["labels.zarr"], "uint8", "mode"),
    ]
    for path, dtype, method in kinds:
        volume = create_image(path, shape=shape, dtype=dtype, voxel_size=VOXEL_SIZE)
        for number, block in enumerate(BlockGrid(shape, triple(volume.write_unit))):
            rng = np.random.default_rng([number, dtype == "uint8"])
            if dtype == "uint8":
                values = np.zeros(block.write.shape, np.uint8)
                values[10:40, 20:60, 30:90] = 1 + number % 4
            else:
                values = rng.standard_normal(block.write.shape, dtype=np.float32)
            volume.write(block.write, values)
        build_pyramid(path, method="mean" if method == "mean" else "mode")
        if dtype == "uint8":
            finish_image(path, method="mode", label_colours={one.label: one.colour for one in classes})
        else:
            finish_image(path, {"statistics": statistics_of(volume).to_dict()})
    rng = np.random.default_rng(9)
    Particles.from_voxels(
        rng.uniform(0, np.asarray(shape) - 1, (count, 3)),
        tomogram="tomogram",
        facts=TomogramFacts((VOXEL_SIZE,) * 3, shape),
        labels=rng.integers(1, 5, count),
        classes=classes,
        scores=rng.uniform(0, 1, count),
    ).write(paths["particles.parquet"])
    return paths


def measure(browser: Any, words: list[str]) -> dict[str, float]:
    """Start the command, open its page, wait for the slices, look around; seconds and the peak of the server."""
    browser.clear()
    start = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "deepfinder_dask", "view", *words, "--no-open"], stderr=subprocess.PIPE, text=True
    )
    try:
        address = (child.stderr or sys.stdin).readline().split()[2]  # it is a pipe, which types cannot tell
        served = time.perf_counter() - start
        browser.open(address)
        first = None
        while time.perf_counter() - start < 300:
            if _slices_on_screen(browser.pixels()):
                first = time.perf_counter() - start
                break
        browser.wait(lambda: browser.run(SHOWN), 300, what="all of the page")
        complete = time.perf_counter() - start
        _look_around(browser)
        status = Path(f"/proc/{child.pid}/status").read_text().splitlines()
        peak = next(int(line.split()[1]) / 1024 for line in status if line.startswith(PEAK))
    finally:
        child.terminate()
        child.wait(60)
        browser.open("about:blank")
    if first is None:
        raise SystemExit("no image in 300 s")
    return {"seconds_to_page": served, "seconds_to_image": first, "seconds_to_all": complete, "server_peak_mib": peak}


def _slices_on_screen(pixels: np.ndarray) -> bool:
    """Whether the panel at the top left shows grey values of many kinds."""
    height, width, _ = pixels.shape
    part = pixels[height // 4 : height // 2, width // 10 : width // 3].astype(int)
    return bool(part.std() > 5 and len(np.unique(part[..., 0])) > 30)


def _look_around(browser: Any) -> None:
    """Other slices, and closer: what a user does in the first minute."""
    for zoom, x, y, z in ((1.0, 0.3, 0.4, 0.2), (0.5, 0.7, 0.6, 0.8), (2.0, 0.5, 0.5, 0.5), (4.0, 0.2, 0.9, 0.4)):
        browser.run(
            """const [zoom, ...part] = arguments, bounds = viewer.coordinateSpace.value.bounds;
            viewer.position.value = Float32Array.from(part, (p, i) =>
                bounds.lowerBounds[i] + p * (bounds.upperBounds[i] - bounds.lowerBounds[i]));
            viewer.navigationState.zoomFactor.value = zoom;""",
            zoom,
            x,
            y,
            z,
        )
        time.sleep(0.5)
        browser.wait(lambda: browser.run(SHOWN), 300, what="other slices")


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Figures of the tomogram alone, and with labels and particles."""
    from browsing import chromium

    paths = make_stores(folder, options.shape, options.particles)
    more = ["--labels", str(paths["labels.zarr"]), "--particles", str(paths["particles.parquet"])]
    with chromium() as browser:
        browser.resize(1600, 900)
        alone = [measure(browser, [str(paths["tomogram.zarr"])]) for _ in range(options.repeats)]
        print(json.dumps(alone), file=sys.stderr)  # the rest takes a while where there is no graphics card
        everything = measure(browser, [str(paths["tomogram.zarr"]), *more])
    best = min(alone, key=lambda one: one["seconds_to_image"])
    return {
        "machine": machine(),
        "shape": options.shape,
        "particles": options.particles,
        "repeats": options.repeats,
        "tomogram": best,
        "with_labels_and_particles": everything,
    }


def show(figures: dict[str, Any]) -> None:
    """Print the figures for people."""
    print(json.dumps(figures["machine"], ensure_ascii=False))
    print(f"{' × '.join(map(str, figures['shape']))} voxels (z, y, x)")
    for name, words in (
        ("tomogram", f"tomogram, best of {figures['repeats']}"),
        ("with_labels_and_particles", f"with label map and {figures['particles']} particles"),
    ):
        one = figures[name]
        print(
            f"{words}: page after {one['seconds_to_page']:.1f} s, first image after {one['seconds_to_image']:.1f} s, "
            f"all of it after {one['seconds_to_all']:.1f} s; server {one['server_peak_mib']:.0f} MiB at most"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=parse_shape, default=(464, 928, 928), help="voxels z,y,x")
    parser.add_argument("--particles", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", default=None, help="where the stores go for a while (2.5 GB at full size)")
    parser.add_argument("--json", action="store_true")
    run_and_print(parser.parse_args(), run, show)
