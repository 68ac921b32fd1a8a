"""Particles found in bf16 beside those found in fp32.

Run::

    python benchmarks/precision.py                        # the demo's scene
    python benchmarks/precision.py --seeds 2021,1,2,3     # also scenes with other places and other noise

Each scene is simulated, segmented with the demo's weights in both precisions, clustered, and compared with the truth;
the two tables of particles are also compared with each other. Counts of all scenes are pooled.

Where the CPU has no bf16, its arithmetic is emulated: in fp32, weights and outputs of each step rounded to bf16.
Hardware that multiplies bf16 numbers adds up in fp32 too; only the order of its sums is another. Its time means nothing
and is not listed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lib.measure import machine

from deepfinder_dask.blocks import BlockGrid, Box
from deepfinder_dask.clustering import cluster
from deepfinder_dask.evaluation import evaluate
from deepfinder_dask.networks import Weights, bf16_supported, load_weights, needed_regions, padded_shape, prepare
from deepfinder_dask.segmentation import Segmentation, segment
from deepfinder_dask.simulation import simulate
from deepfinder_dask.tomograms import Tomogram

ALLOWED = 0.005
"""Difference of F1 that makes no difference."""
CORE = (128, 128, 128)
"""Voxels of a block of the emulation: multiples of 4; they change nothing in the result."""


def segment_emulated(tomogram: Tomogram, weights: Weights, like: Segmentation, output: Path) -> Segmentation:
    """A copy of a segmentation with label map and probabilities computed in emulated bf16."""
    inference = prepare(weights, precision="bf16", emulate=True)
    padded = padded_shape(tomogram.shape)
    values = np.zeros(padded, np.float32)
    values[Box.whole(tomogram.shape).slices()] = weights.normalisation.scaling(tomogram.statistics).apply(
        tomogram.read()
    )
    labels, probability = np.zeros(padded, np.uint8), np.zeros(padded, np.uint8)
    for block in BlockGrid(padded, CORE):
        read = needed_regions(inference.program, block.write, padded)["x"]
        x = torch.from_numpy(np.ascontiguousarray(values[read.slices()]))[None, None]
        best, winner = inference.logits(x, read, block.write, padded).softmax(0).max(0)
        labels[block.write.slices()] = winner.numpy()
        probability[block.write.slices()] = (best * 255).round().numpy()
    shutil.copytree(like.path, output)
    copy = Segmentation.open(str(output))
    whole = Box.whole(tomogram.shape)
    copy.label_map.write(whole, labels[whole.slices()])
    copy.probability_map.write(whole, probability[whole.slices()])
    return copy


def run_scene(config: str, seed: int | None, weights: Weights, folder: Path, *, emulate: bool) -> dict[str, Any]:
    """Counts of one scene: true, found and matched particles of each comparison, and labels that differ."""
    [tomogram] = simulate(config, folder, progress=False, **({} if seed is None else {"seed": seed}))
    truth = folder / f"{tomogram.name}_particles.parquet"
    fp32 = segment(tomogram, weights, folder / "fp32.zarr", progress=False, precision="fp32", device="cpu")
    if emulate:
        bf16 = segment_emulated(tomogram, weights, fp32, folder / "bf16.zarr")
    else:
        bf16 = segment(tomogram, weights, folder / "bf16.zarr", progress=False, precision="bf16", device="cpu")
    particles = {}
    for name, done in (("fp32", fp32), ("bf16", bf16)):
        particles[name] = folder / f"{name}.parquet"
        cluster(done.path, particles[name], tomogram=tomogram.name, method="components", progress=False)
    differ = fp32.label_map.read() != bf16.label_map.read()
    surest = fp32.probability_map.read()[differ].max(initial=0) / 255
    return {
        "fp32": counts_of(truth, particles["fp32"]),
        "bf16": counts_of(truth, particles["bf16"]),
        "bf16 against fp32": counts_of(particles["fp32"], particles["bf16"]),
        "voxels": differ.size,
        "voxels_that_differ": int(differ.sum()),
        "surest": float(surest),
    }


def counts_of(truth: Path, found: Path) -> dict[str, Counter[str]]:
    """True, found and matched particles of each class and of all."""
    result = evaluate(truth, found).to_dict()
    scores = {**result["classes"], "overall": result["overall"]}
    return {name: Counter({key: score[key] for key in ("true", "found", "matched")}) for name, score in scores.items()}


def run(config: str, seeds: list[int | None], folder: Path) -> dict[str, Any]:
    """F1 of both precisions over all scenes, and how far they lie apart."""
    weights = load_weights("demo")
    emulate = not bf16_supported("cpu")
    scenes = []
    for number, seed in enumerate(seeds):
        scenes.append(run_scene(config, seed, weights, folder / str(number), emulate=emulate))
    f1 = {}
    for key in ("fp32", "bf16", "bf16 against fp32"):
        pooled: dict[str, Counter[str]] = {}
        for scene in scenes:
            for name, counts in scene[key].items():
                pooled.setdefault(name, Counter()).update(counts)
        f1[key] = {name: 2 * c["matched"] / max(1, c["true"] + c["found"]) for name, c in pooled.items()}
        f1[f"{key}: particles"] = {name: dict(counts) for name, counts in pooled.items()}
    apart = {name: f1["bf16"][name] - f1["fp32"][name] for name in f1["fp32"]}
    return {
        "bf16": "emulated" if emulate else "computed",
        "scenes": len(scenes),
        "f1": f1,
        "bf16_minus_fp32": apart,
        "within": bool(max(map(abs, apart.values())) <= ALLOWED),
        **{key: sum(scene[key] for scene in scenes) for key in ("voxels", "voxels_that_differ")},
        "surest": max(scene["surest"] for scene in scenes),
        "machine": machine(),
    }


def show(figures: dict[str, Any]) -> None:
    """Print the figures as a table."""
    if figures["bf16"] == "emulated":
        print("This CPU has no bf16: it is EMULATED (fp32 arithmetic, weights and outputs rounded to bf16).")
    print(f"{figures['scenes']} scene(s)\n{'F1':12}{'fp32':>8}{'bf16':>8}{'apart':>9}{'bf16 against fp32':>20}")
    f1 = figures["f1"]
    for name, apart in figures["bf16_minus_fp32"].items():
        row = f"{f1['fp32'][name]:8.4f}{f1['bf16'][name]:8.4f}{apart:+9.4f}{f1['bf16 against fp32'][name]:20.4f}"
        print(f"{name:12}{row}")
    print("within" if figures["within"] else "NOT within", f"{ALLOWED} of each other")
    print(
        f"labels: {figures['voxels_that_differ']} of {figures['voxels']} voxels differ; the surest of them has "
        f"probability {figures['surest']:.2f} in fp32"
    )
    print()
    for key, value in figures["machine"].items():
        print(f"{key:10}{value}")


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="demo", help="scene: a TOML file or a shipped one (default %(default)s)")
    parser.add_argument("--seeds", help="seeds of scenes, with commas (default the one of the configuration)")
    parser.add_argument("--folder", type=Path, help="where temporary files go (default the system's place)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    seeds: list[int | None] = [int(seed) for seed in options.seeds.split(",")] if options.seeds else [None]
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        figures = run(options.config, seeds, Path(name))
    if options.json:
        print(json.dumps(figures))
    else:
        show(figures)


if __name__ == "__main__":
    main()
