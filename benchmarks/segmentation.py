"""Segment a tomogram in blocks, beside the network in one pass over the whole volume: processor time, memory, labels.

Run::

    python benchmarks/segmentation.py                                  # 96 x 192 x 192, bounds of 1, 2 and 4 GiB
    python benchmarks/segmentation.py --shape 24,32,40 --memory 1      # small

Each run is a process of its own that reads the tomogram from its store and writes a label map; the peer keeps the whole
volume and all its layers in memory. Seconds of an empty run (imports) are listed apart and taken off the ratios.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from lib.measure import machine, run_child

from deepfinder_dask.blocks import Box
from deepfinder_dask.networks import UNet, Weights, load_weights, padded_shape, save_weights
from deepfinder_dask.particles import ParticleClass
from deepfinder_dask.segmentation import Segmentation, normalise, segment
from deepfinder_dask.tomograms import Tomogram, create_image, finish_image
from deepfinder_dask.tomograms.statistics import statistics_of

GIB = 2**30


def make_inputs(folder: Path, shape: tuple[int, int, int]) -> None:
    """A tomogram of noise and a network with random weights and biases, 4 classes."""
    volume = create_image(folder / "tomogram.zarr", shape=shape, dtype="float32", voxel_size=10.0, shard=shape)
    values = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    volume.write(Box.whole(shape), values)
    finish_image(folder / "tomogram.zarr", {"statistics": statistics_of(volume).to_dict()})
    torch.manual_seed(0)
    network = UNet(4)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    classes = tuple(ParticleClass(f"class {label}", label) for label in (1, 2, 3))
    save_weights(Weights(network.state_dict(), classes, voxel_size=10.0), folder / "weights.safetensors")


def whole_pass(folder: Path) -> None:
    """The peer: one plain pass over the whole volume."""
    tomogram = Tomogram.open(folder / "tomogram.zarr")
    padded = np.zeros(padded_shape(tomogram.shape), np.float32)
    statistics = tomogram.statistics
    padded[Box.whole(tomogram.shape).slices()] = normalise(tomogram.read(), statistics.mean, statistics.std)
    network = load_weights(folder / "weights.safetensors").build()
    with torch.inference_mode():
        labels = network(torch.from_numpy(padded)[None, None])[0].argmax(0).to(torch.uint8)
    np.save(folder / "whole.npy", labels.numpy()[Box.whole(tomogram.shape).slices()])


def in_blocks(folder: Path, memory: float) -> None:
    """Ours, within a bound of ``memory`` GiB."""
    output = folder / f"blocks-{memory:g}.zarr"
    segment(folder / "tomogram.zarr", folder / "weights.safetensors", output, memory=int(memory * GIB), progress=False)


def run(shape: tuple[int, int, int], bounds: list[float]) -> dict[str, object]:
    """All figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_inputs(folder, shape)

        def child(*words: str) -> dict[str, float]:
            return run_child([sys.executable, __file__, "--child", str(folder), *words])

        start = child("nothing")
        whole = child("whole")
        labels = np.load(folder / "whole.npy")
        figures: dict[str, object] = {"shape": shape, "start": start, "whole pass": whole}
        for bound in bounds:
            ours = child("blocks", str(bound))
            done = Segmentation.open(str(folder / f"blocks-{bound:g}.zarr"))
            figures[f"blocks, {bound:g} GiB"] = {
                **ours,
                "core": done.attributes["plan"]["core"],
                "waste": done.attributes["plan"]["waste"],
                "cpu_ratio": (ours["cpu_seconds"] - start["cpu_seconds"])
                / (whole["cpu_seconds"] - start["cpu_seconds"]),
                "labels_that_differ": int((done.label_map.read() != labels).sum()),
            }
    return {**figures, "machine": machine()}


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="96,192,192", help="voxels z,y,x (default %(default)s)")
    parser.add_argument("--memory", default="1,2,4", help="bounds in GiB (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        folder, job, *rest = options.child
        if job == "whole":
            whole_pass(Path(folder))
        elif job == "blocks":
            in_blocks(Path(folder), float(rest[0]))
        return
    z, y, x = (int(n) for n in options.shape.split(","))
    figures = run((z, y, x), [float(n) for n in options.memory.split(",")])
    if options.json:
        print(json.dumps(figures))
        return
    for name, values in figures.items():
        if not isinstance(values, dict):
            print(f"{name:18}{values}")
            continue
        shown = (
            f"{key} {value:.2f}" if isinstance(value, float) else f"{key} {value}" for key, value in values.items()
        )
        print(f"{name:18}{', '.join(shown)}")


if __name__ == "__main__":
    main()
