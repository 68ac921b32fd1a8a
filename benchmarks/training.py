"""A step of training beside a bare one, and memory for one and for many tomograms.

Run::

    python benchmarks/training.py                                      # 6 patches of 48³, one tomogram and eight
    python benchmarks/training.py --patch 32 --batch 4 --steps 12      # smaller
    python benchmarks/training.py --shape 160,256,256 --average 0.99

A bare step is forward, loss, backward and Adam's update on one batch that lies in memory, with the same threads as the
training's own; half of the bare steps are taken before the training and half after it. A step of the training also
reads its patches from the stores (ahead of the device), looks whether loss, gradients and weights are finite, keeps the
last good weights and moves the average; checks are not counted. "plain PyTorch" is the same bare step as one would
write it first, with torch's own threads.

Seconds are medians over steps; processor seconds are means and count all threads, those that read among them, so they
also mean something on a machine with other work. Each number of tomograms is measured in a process of its own, whose
peak memory is given.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from lib.inputs import Shape3, make_tomogram, parse_shape
from lib.measure import machine, peak_mib, report, run_reporting

CLASSES = 6
"""Classes of particles."""
PARTICLES = 50
"""Particles of each class in a tomogram."""
UNCOUNTED = 2
"""First steps of each kind, in which memory is taken for the first time."""


def make_labels(path: Path, shape: Shape3) -> None:
    """Store a label map of slabs, one class after the other."""
    from deepfinder_dask.blocks import BlockGrid, triple
    from deepfinder_dask.tomograms import create_image, finish_image

    volume = create_image(path, shape=shape, dtype="uint8", voxel_size=10.0)
    for block in BlockGrid(shape, triple(volume.write_unit)):
        planes = np.arange(block.write.start[1], block.write.stop[1]) // 8 % (CLASSES + 1)
        labels = np.broadcast_to(planes.astype(np.uint8)[None, :, None], block.write.shape)
        volume.write(block.write, np.ascontiguousarray(labels))
    finish_image(path)


def make_data(folder: Path, number: int, shape: Shape3) -> None:
    """Store tomograms of noise with label maps and particles."""
    from deepfinder_dask.particles import Particles, TomogramFacts, placeholder_classes

    for index in range(number):
        name = f"t{index}"
        make_tomogram(folder / f"{name}.zarr", shape, index)
        make_labels(folder / f"{name}_labels.zarr", shape)
        positions = np.random.default_rng(index).uniform(0, np.array(shape) - 1, size=(CLASSES * PARTICLES, 3))
        labels = np.repeat(np.arange(1, CLASSES + 1), PARTICLES)
        facts = TomogramFacts((10.0, 10.0, 10.0), shape)
        classes = placeholder_classes(range(1, CLASSES + 1))
        table = Particles.from_voxels(positions, tomogram=name, facts=facts, labels=labels, classes=classes)
        table.write(folder / f"{name}.parquet")


def train_and_time(folder: Path, number: int, options: argparse.Namespace) -> dict[str, Any]:
    """Child process: bare steps, a training run, bare steps."""
    import torch

    from deepfinder_dask.execution.computing import own_cores
    from deepfinder_dask.networks import UNet, bf16_supported
    from deepfinder_dask.training.config import Example, TrainingConfig
    from deepfinder_dask.training.data import open_data
    from deepfinder_dask.training.loading import Batch
    from deepfinder_dask.training.loop import Place, run
    from deepfinder_dask.training.losses import Loss
    from deepfinder_dask.training.patches import PatchSampler
    from deepfinder_dask.training.state import Schedule, new_state
    from deepfinder_dask.training.steps import mixed, open_workers

    precision: Any = "bf16" if bf16_supported() else "fp32"
    threads = own_cores()
    examples = [Example(f"t{n}.zarr", f"t{n}_labels.zarr", f"t{n}.parquet") for n in range(number)]
    data = open_data(TrainingConfig(tuple(examples), (examples[0],)), folder)
    sampler = PatchSampler(data.train, options.patch, options.batch, 13, 0, CLASSES)
    values, labels = (torch.from_numpy(part) for part in sampler.read(sampler.draw(0)))
    loss = Loss()

    def timed(step: Callable[[], object], count: int) -> list[tuple[float, float]]:
        taken = []
        for _ in range(count + UNCOUNTED):
            start, start_cpu = time.perf_counter(), time.process_time()
            step()
            taken.append((time.perf_counter() - start, time.process_time() - start_cpu))
        return taken[UNCOUNTED:]

    def bare_steps(count: int) -> list[tuple[float, float]]:
        network = UNet(CLASSES + 1).to(memory_format=torch.channels_last_3d)
        optimizer = torch.optim.Adam(network.parameters())
        with open_workers(threads, precision) as workers:

            def step() -> None:
                workers.gradients(network, Batch(values, labels), loss)
                optimizer.step()

            return timed(step, count)

    def plain_steps(count: int) -> list[tuple[float, float]]:
        network = UNet(CLASSES + 1)
        optimizer = torch.optim.Adam(network.parameters())
        torch.set_num_threads(threads)

        def step() -> None:
            optimizer.zero_grad()
            with mixed("cpu", precision):
                logits = network(values)
            loss(logits, labels).backward()
            optimizer.step()

        return timed(step, count)

    half = max(1, options.steps // 2)
    bare = bare_steps(half)
    never = options.steps + UNCOUNTED + 1
    schedule = Schedule(never, check_every=never, average=options.average)
    state = new_state(CLASSES + 1, schedule)
    marks = [(time.perf_counter(), time.process_time())]

    class Enough(Exception):
        """The steps to be counted are done."""

    def note(*_: object) -> None:
        marks.append((time.perf_counter(), time.process_time()))
        if len(marks) == never:
            raise Enough

    fixed = PatchSampler(data.validation, options.patch, 1, 13, 0, CLASSES)
    with suppress(Enough):
        run(state, sampler, fixed, schedule, note, place=Place(threads, 2, precision))
    trained = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(marks[UNCOUNTED:])]
    peak = peak_mib()
    bare += bare_steps(half)
    figures: dict[str, Any] = {"peak_mib": peak, "threads": threads, "precision": precision}
    kinds = {"bare": bare, "training": trained}
    if number == 1 and not options.no_plain:
        kinds["plain PyTorch"] = plain_steps(half)
    for name, steps in kinds.items():
        figures[name] = [statistics.median(s for s, _ in steps), statistics.mean(c for _, c in steps)]
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patch", type=int, default=48, help="voxels along an edge of a patch")
    parser.add_argument("--batch", type=int, default=6, help="patches of a step")
    parser.add_argument("--steps", type=int, default=20, help="steps counted of each kind")
    parser.add_argument("--shape", type=parse_shape, default=(128, 192, 192), help="voxels of a tomogram, z,y,x")
    parser.add_argument("--tomograms", default="1,8", help="numbers of tomograms to train on")
    parser.add_argument("--average", type=float, default=0.0, help="decay of the moving average of the weights")
    parser.add_argument("--no-plain", action="store_true", help="leave out plain PyTorch")
    parser.add_argument("--child", nargs=2, metavar=("FOLDER", "NUMBER"), help=argparse.SUPPRESS)
    parser.add_argument("report", nargs="?", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        report(options.report, train_and_time(Path(options.child[0]), int(options.child[1]), options))
        return
    print(", ".join(f"{key}: {value}" for key, value in machine().items()))
    numbers = [int(n) for n in options.tomograms.split(",")]
    shape = ",".join(map(str, options.shape))
    with tempfile.TemporaryDirectory() as folder:
        make_data(Path(folder), max(numbers), options.shape)
        print(f"{options.batch} patches of {options.patch}³, tomograms of {shape} voxels")
        heads = f"{'s':>8} {'CPU-s':>8} {'s/bare':>8} {'CPU-s/bare':>11} {'peak MiB':>9}"
        print(f"{'tomograms':>9} {'step':>14} {heads}")
        for number in numbers:
            command = [sys.executable, __file__, "--patch", str(options.patch), "--batch", str(options.batch)]
            command += ["--steps", str(options.steps), "--average", str(options.average), "--shape", shape]
            command += ["--no-plain"] * options.no_plain + ["--child", folder, str(number)]
            figures = run_reporting(command)
            bare = figures["bare"]
            for name in ("plain PyTorch", "bare", "training"):
                if name in figures:
                    wall, cpu = figures[name]
                    peak = f"{figures['peak_mib']:9.0f}" if name == "training" else ""
                    ratios = f"{wall / bare[0]:8.3f} {cpu / bare[1]:11.3f}"
                    print(f"{number:>9} {name:>14} {wall:8.3f} {cpu:8.3f} {ratios} {peak}")
        print(f"{figures['threads']} threads, {figures['precision']}")


if __name__ == "__main__":
    main()
