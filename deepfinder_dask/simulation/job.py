"""The blocks of a simulation: slabs of y to render, project and reconstruct, and images in between.

The tilt axis is y, so that a slab of y is projected and reconstructed on its own; only the images are needed whole.

::

    slab of y ──► density, truth ──► its rows of all projections ─┐
                                                                  ├─► each image: CTF, shift, noise ─┐
    slab of y ◄── tomogram ◄── its rows of all images, filtered ◄─┴──────────────────────────────────┘
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Box, Shape3
from deepfinder_dask.execution import Executor, Progress
from deepfinder_dask.simulation.imaging import Camera, Measured
from deepfinder_dask.simulation.rendering import render
from deepfinder_dask.simulation.scene import Scene
from deepfinder_dask.simulation.tilt_series import project
from deepfinder_dask.tomograms import Volume, create_image

T = TypeVar("T")
R = TypeVar("R")

SLAB = 64
"""Rows of y in a slab: what a worker holds of the volume at once."""
SHARD: Shape3 = (128, SLAB, 256)
"""Shard of what is written slab by slab, in voxels."""


@dataclass(frozen=True)
class Outputs:
    """Empty arrays that a simulation fills."""

    tomogram: Volume
    """(z, y, x) float32."""
    labels: Volume
    """(z, y, x) uint8."""
    instances: Volume
    """(z, y, x) uint32."""
    density: Volume | None = None
    """(z, y, x) float32, where it is wanted."""


@dataclass(frozen=True)
class Outcome:
    """What is known of a simulation when its arrays are filled."""

    sizes: NDArray[np.int64]
    """Voxels of each instance, the ice first."""
    measured: tuple[Measured, ...]
    """Signal and noise of each image."""


@dataclass(frozen=True)
class _Work:
    """What all blocks share."""

    scene: Scene
    camera: Camera
    outputs: Outputs
    projections: Volume
    images: Volume


@dataclass(frozen=True)
class _RenderSlab:
    """Render a slab, store its truth and its rows of the projections."""

    work: _Work

    def __call__(self, slab: Box) -> NDArray[np.int64]:
        outputs = self.work.outputs
        truth = render(self.work.scene, slab)
        outputs.labels.write(slab, truth.labels)
        outputs.instances.write(slab, truth.instances)
        if outputs.density is not None:
            outputs.density.write(slab, truth.density)
        rows = project(truth.density, self.work.camera.true_tilts)
        self.work.projections.write(_rows(slab, len(rows), self.work.scene.shape), rows)
        scene = self.work.scene
        count = 1 + len(scene.particles) + len(scene.beads) + len(scene.membranes)
        return np.bincount(truth.instances.ravel(), minlength=count).astype(np.int64)


@dataclass(frozen=True)
class _TakeImage:
    """Make an image of a projection."""

    work: _Work
    level: float

    def __call__(self, number: int) -> Measured:
        image, measured = self.work.camera.take(_read_image(self.work.projections, number), number, self.level)
        self.work.images.write(_one(number, self.work.images), image[None])
        return measured


@dataclass(frozen=True)
class _ReconstructSlab:
    """Reconstruct a slab from its rows of all images."""

    work: _Work
    means: list[float]

    def __call__(self, slab: Box) -> None:
        rows = self.work.images.read(_rows(slab, len(self.means), self.work.scene.shape))
        self.work.outputs.tomogram.write(slab, self.work.camera.reconstruct(rows, self.means, slab.shape[0]))


def fill(
    scene: Scene, camera: Camera, outputs: Outputs, executor: Executor, images: Path, scratch: Path, bar: Progress
) -> Outcome:
    """Simulate a scene into empty arrays.

    Parameters
    ----------
    scene : Scene
    camera : Camera
    outputs : Outputs
    executor : Executor
        Runs the blocks.
    images : Path
        Store of the tilt series, made here, unfinished in the end.
    scratch : Path
        Folder for what is needed meanwhile; removed in the end.
    bar : Progress
        Goes on by :func:`steps`.

    Returns
    -------
    Outcome
    """
    count, (_, height, width) = len(camera.tilts), scene.shape
    with _scratch(scratch):
        series = [
            create_image(
                path,
                shape=(count, height, width),
                dtype=np.float32,
                voxel_size=scene.voxel_size,
                chunk=(1, SLAB, width),
                shard=None,
                compression="none",
                kind="tilt series",
            )
            for path in (scratch / "projections.zarr", images)
        ]
        work = _Work(scene, camera, outputs, *series)
        slabs = _slabs(scene.shape)
        sizes = sum(_run(executor, _RenderSlab(work), slabs, "render", bar).values(), np.zeros(1, np.int64))
        level = camera.noise_level(_read_image(work.projections, camera.untilted))
        taken = _run(executor, _TakeImage(work, level), list(range(count)), "image", bar)
        measured = tuple(taken[number] for number in range(count))
        _run(executor, _ReconstructSlab(work, [m.mean for m in measured]), slabs, "reconstruct", bar)
    return Outcome(sizes, measured)


def steps(shape: Shape3, images: int) -> int:
    """Units of progress of one tomogram."""
    return 2 * len(_slabs(shape)) + images


def _slabs(shape: Shape3) -> list[Box]:
    depth, height, width = shape
    return [Box((0, y, 0), (depth, min(y + SLAB, height), width)) for y in range(0, height, SLAB)]


def _rows(slab: Box, images: int, shape: Shape3) -> Box:
    """The rows of a slab in all images."""
    return Box((0, slab.start[1], 0), (images, slab.stop[1], shape[2]))


def _one(number: int, images: Volume) -> Box:
    return Box((number, 0, 0), (number + 1, *images.space[1:]))


def _read_image(images: Volume, number: int) -> NDArray[np.float32]:
    values: NDArray[np.float32] = images.read(_one(number, images))[0]
    return values


def _run(executor: Executor, function: Callable[[T], R], items: list[T], label: str, bar: Progress) -> dict[int, R]:
    """Results of all items by their place."""
    results = {}
    for number, result in executor.run(function, items, label=label):
        results[number] = result
        bar.advance()
    return results


@contextmanager
def _scratch(folder: Path) -> Iterator[None]:
    """A folder that is gone in the end."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
