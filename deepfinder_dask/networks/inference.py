"""Forward passes for use, not for training: parameters made ready once, then blocks that equal one pass over the whole.

A pass goes through the block along z in waves (:mod:`deepfinder_dask.networks.windows`), each step of a wave tile by
tile (:mod:`deepfinder_dask.networks.kernels`). A tile gathers what it reads from the windows of its sources, computes
while that is in the processor's cache, and puts its result into its own window. Tiles are independent: on a CPU each
is computed by one thread, so that the number of threads cannot change a bit, and memory once taken is used again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, partial
from itertools import islice, pairwise

import torch
from torch import Tensor

from deepfinder_dask.blocks import Box, Shape3, triple
from deepfinder_dask.errors import GeometryError, SettingsError
from deepfinder_dask.networks.devices import Precision, bf16_supported, machine_kind
from deepfinder_dask.networks.kernels import (
    LINE_GROUP,
    PARITIES,
    LineConvolution,
    PlainConvolution,
    UpConvolution,
    workspace,
)
from deepfinder_dask.networks.regions import levels_of, read_by
from deepfinder_dask.networks.unet import INPUT, Conv, Pool, Program, UpConv, folded_program
from deepfinder_dask.networks.weights import Weights
from deepfinder_dask.networks.windows import WAVE_PLANES, Schedule, Window, schedule, stored_sources, windowed

NUMERICS = 1
"""Version of the arithmetic: raised whenever the bits of an output change on the same machine, here or in what
segmentation does around it (normalising, resampling, choosing the winner); resumed work must have the same."""
TILE_VOXELS = 16384
"""Voxels of a tile on a CPU: enough to make the calls cheap, few enough to stay in the cache."""
TILE_WIDTH = 160
"""Most voxels of a tile along x on a CPU."""
GPU_WAVE_PLANES = 32
"""Planes of a wave on a GPU, where a step's whole wave is one tile."""


def inference_program(classes: int, *, device: str = "cpu", precision: Precision = "fp32") -> Program:
    """Steps that a device computes in a precision: what a block must read follows from them."""
    lines = torch.device(device).type == "cpu" and precision == "fp32"
    return folded_program(classes, LINE_GROUP if lines else 1)


class Inference:
    """A network made ready for a device and a precision.

    Built by :func:`prepare`; not to be used by two threads at once. Its windows stay allocated between passes.
    """

    def __init__(self, weights: Weights, device: torch.device, precision: Precision, *, emulate: bool = False) -> None:
        self.classes = len(weights.classes) + 1
        self.device = device
        self.precision = precision
        self.program: Program = inference_program(self.classes, device=device.type, precision=precision)
        self._emulates = emulate
        self._dtype = torch.bfloat16 if precision == "bf16" and not emulate else torch.float32
        self._output = next(reversed(self.program))
        self._feeder = stored_sources(self.program, self._output)[0]
        self._levels = levels_of(self.program)
        self._storage: dict[str, Tensor] = {}
        self._kernels: dict[str, PlainConvolution | LineConvolution] = {}
        self._up_kernels: dict[str, UpConvolution] = {}
        for name, step in self.program.items():
            if not isinstance(step, Conv | UpConv):
                continue
            weight = weights.state[f"convs.{name}.weight"].to(device)
            bias = weights.state[f"convs.{name}.bias"].to(device)
            if isinstance(step, UpConv):
                self._up_kernels[name] = UpConvolution(weight, bias, self._cast)
            elif step.group == LINE_GROUP:
                self._kernels[name] = LineConvolution(weight, bias)
            elif step.source == INPUT or name == self._output:
                self._kernels[name] = PlainConvolution(weight, bias)  # under 1 % of the arithmetic: always float32
            else:
                self._kernels[name] = PlainConvolution(self._cast(weight), self._cast(bias))

    def logits(
        self, x: Tensor, read: Box, core: Box, shape: Shape3, *, check: Callable[[], None] | None = None
    ) -> Tensor:
        """Logits of a core, bit-identical to those of one pass over the whole volume.

        Parameters
        ----------
        x : Tensor
            Normalised voxels of ``read``, (1, 1, z, y, x) float32.
        read : Box
            Voxels that ``x`` holds; contains what the core needs (``needed_regions(self.program, …)``).
        core : Box
            Voxels wanted of the output.
        shape : Shape3
            Whole volume in voxels, (z, y, x), multiples of 4.
        check : callable, optional
            Called before every step; what it raises stops the pass.

        Returns
        -------
        Tensor
            (class, z, y, x) float32, on the device.

        Raises
        ------
        GeometryError
            If ``read`` lacks voxels that the core needs, or ``x`` is not of its shape.
        """
        whole = torch.empty((self.classes, *core.shape), device=self.device)
        for _ in self._waves(x, read, core, shape, check, lambda box: whole[(..., *box.within(core).slices())]):
            pass
        return whole

    def slabs(
        self, x: Tensor, read: Box, core: Box, shape: Shape3, *, check: Callable[[], None] | None = None
    ) -> Iterator[tuple[Box, Tensor]]:
        """The same logits a few planes at a time, along z, so that those of a whole core are never in memory.

        Parameters
        ----------
        x, read, core, shape, check
            As for :meth:`logits`. No other pass may begin before the last slab.

        Yields
        ------
        box : Box
            Planes of the core.
        logits : Tensor
            (class, z, y, x) float32, on the device.
        """
        return self._waves(
            x, read, core, shape, check, lambda box: torch.empty((self.classes, *box.shape), device=self.device)
        )

    def _waves(
        self,
        x: Tensor,
        read: Box,
        core: Box,
        shape: Shape3,
        check: Callable[[], None] | None,
        target: Callable[[Box], Tensor],
    ) -> Iterator[tuple[Box, Tensor]]:
        """One pass; the logits of a wave go where ``target`` says for its planes."""
        gpu = self.device.type == "cuda"
        plan = schedule(self.program, core, shape, GPU_WAVE_PLANES if gpu else WAVE_PLANES)
        needed = plan.regions[INPUT]
        if tuple(x.shape) != (1, 1, *read.shape) or not read.contains(needed):
            raise GeometryError(
                f"the core {core.start}..{core.stop} needs voxels {needed.start}..{needed.stop}, "
                f"got {tuple(x.shape[2:])} voxels from {read.start}..{read.stop}"
            )
        windows = self._windows(plan)
        windows[INPUT] = Window(x[0, 0, ..., None].to(self.device), read)
        for wave in plan.waves:
            for name, (start, stop) in wave.items():
                if name == self._output:
                    continue  # computed tile by tile with the step that it reads
                if check is not None:
                    check()
                region = plan.regions[name]
                box = Box((start, *region.start[1:]), (stop, *region.stop[1:]))
                out = target(box) if name == self._feeder else None
                with _deterministic() if gpu else nullcontext():
                    tiles = [box] if gpu else tiles_of(box, torch.get_num_threads())
                    _spread(partial(self._compute, name, box, windows, shape, out), tiles)
                if out is not None:
                    yield box, out

    @torch.inference_mode()
    def _windows(self, plan: Schedule) -> dict[str, Window]:
        """A window for every step that others read, in memory that is kept for the next pass."""
        windows = {}
        for name, channels in windowed(self.program).items():
            planes, (_, height, width) = plan.planes[name], plan.regions[name].shape
            size = planes * height * width * channels
            if name not in self._storage or self._storage[name].numel() < size:
                self._storage.pop(name, None)
                self._storage[name] = torch.empty(size, dtype=self._dtype, device=self.device)
            values = self._storage[name][:size].view(planes, height, width, channels)
            windows[name] = Window(values, plan.regions[name])
        return windows

    @torch.inference_mode()
    def _compute(
        self, name: str, wave: Box, windows: Mapping[str, Window], shape: Shape3, out: Tensor | None, tile: Box
    ) -> None:
        """One tile of a step: into its window, or as logits into those of the wave."""
        step = self.program[name]
        match step:
            case Conv():
                first = tile.start[0] // step.group * step.group
                planes = self._kernels[name].planes(self._gather(name, read_by(step, tile), windows, shape))
                wanted = islice(planes, tile.start[0] - first, tile.stop[0] - first)
                if out is None:
                    for z, values in zip(range(tile.start[0], tile.stop[0]), wanted, strict=True):
                        self._activate(values, windows[name].plane(z, tile))
                    return
                dense = workspace.take("dense", (*tile.shape, step.channels_out), self._dtype, self.device)
                for values, place in zip(wanted, dense, strict=True):
                    self._activate(values, place)
                logits = out[(..., *tile.within(wave).slices())]
                for z, values in enumerate(self._kernels[self._output].planes(dense.float())):
                    logits[:, z] = values.permute(2, 0, 1)
            case UpConv():
                for parity in PARITIES:
                    self._compute_parity(name, step, tile, parity, windows, shape)
            case Pool():
                source, target = windows[step.source], windows[name]
                fine = read_by(step, tile)
                for z in range(tile.start[0], tile.stop[0]):
                    values = torch.maximum(source.plane(2 * z, fine), source.plane(2 * z + 1, fine))
                    values = torch.maximum(values[0::2], values[1::2])
                    torch.maximum(values[:, 0::2], values[:, 1::2], out=target.plane(z, tile))
            case _:
                raise TypeError(f"step {name!r} is not for inference")

    def _compute_parity(
        self, name: str, step: UpConv, tile: Box, parity: Shape3, windows: Mapping[str, Window], shape: Shape3
    ) -> None:
        """Every other voxel of a tile, from the coarse voxels 2 i + parity."""
        first = triple((n - p + 1) // 2 for n, p in zip(tile.start, parity, strict=True))
        last = triple((n - p + 1) // 2 + p for n, p in zip(tile.stop, parity, strict=True))
        if any(b - p <= a for a, b, p in zip(first, last, parity, strict=True)):
            return  # a tile of one plane has no odd planes, or no even ones
        coarse = self._gather(name, Box(first, last), windows, shape)
        z, y, x = (2 * n + p - t for n, p, t in zip(first, parity, tile.start, strict=True))
        for number, values in enumerate(self._up_kernels[name].planes(coarse, parity)):
            plane = windows[name].plane(tile.start[0] + z + 2 * number, tile)
            self._activate(values, plane[y::2, x::2])

    def _gather(self, name: str, box: Box, windows: Mapping[str, Window], shape: Shape3) -> Tensor:
        """What a step reads in a box, (z, y, x, channel): channels of its sources side by side, zeros outside."""
        sources = [windows[source] for source in stored_sources(self.program, name)]
        level = self._levels[stored_sources(self.program, name)[0]]
        held = box.clip(triple(n >> level for n in shape))
        channels = sum(source.values.shape[-1] for source in sources)
        tile = workspace.take("gathered", (*box.shape, channels), sources[0].values.dtype, self.device)
        if held != box:
            tile.zero_()
        inside = tile[held.within(box).slices()]
        at = 0
        for source in sources:
            wide = source.values.shape[-1]
            for z, values in source.runs(held):
                inside[z : z + len(values), ..., at : at + wide].copy_(values)
            at += wide
        return tile

    def _activate(self, values: Tensor, place: Tensor) -> None:
        """ReLU on the way to where the values stay."""
        torch.clamp_min(values, 0, out=place)
        if self._emulates:
            place.copy_(place.bfloat16())

    def _cast(self, parameters: Tensor) -> Tensor:
        """Parameters as a step inside the network has them."""
        return parameters.bfloat16().float() if self._emulates else parameters.to(self._dtype)


def tiles_of(box: Box, threads: int) -> list[Box]:
    """Tiles of a step's wave on a CPU, all planes each: several for every thread, none too large for the cache."""
    depth, height, width = box.shape
    columns = -(-width // TILE_WIDTH)
    voxels = TILE_VOXELS if threads == 1 else min(TILE_VOXELS, max(512, box.size // (2 * threads)))
    rows = -(-height // max(1, voxels * columns // (depth * width)))
    ys = [box.start[1] + height * i // rows for i in range(rows + 1)]
    xs = [box.start[2] + width * i // columns for i in range(columns + 1)]
    return [Box((box.start[0], y0, x0), (box.stop[0], y1, x1)) for y0, y1 in pairwise(ys) for x0, x1 in pairwise(xs)]


def prepare(
    weights: Weights, *, device: str = "cpu", precision: Precision = "fp32", emulate: bool = False
) -> Inference:
    """A network ready for forward passes.

    Parameters
    ----------
    weights : Weights
        The parameters.
    device : str
        ``cpu`` or a CUDA device.
    precision : str
        ``fp32`` or ``bf16``. In bf16 the first and the last convolution stay in float32.
    emulate : bool
        Compute bf16 in float32, with weights and each step's output rounded: slow, and the same up to the order of
        sums; to compare labels where the hardware has no bf16.

    Returns
    -------
    Inference
        What computes logits.

    Raises
    ------
    SettingsError
        If the device cannot compute in this precision.
    """
    emulate = emulate and precision == "bf16"
    if precision == "bf16" and not emulate and not bf16_supported(device):
        raise SettingsError(f"expected hardware that multiplies bf16, found {machine_kind(device)}: use fp32")
    return Inference(weights, torch.device(device), precision, emulate=emulate)


def _spread(function: Callable[[Box], None], tiles: list[Box]) -> None:
    """Apply a function to all tiles, by as many threads as torch may use here, each on one core."""
    threads = min(torch.get_num_threads(), len(tiles))
    if threads == 1:
        for tile in tiles:
            function(tile)
        return
    futures = [_team(torch.get_num_threads()).submit(function, tile) for tile in tiles]
    try:
        for future in futures:
            future.result()
    finally:
        for future in futures:
            future.cancel()
        wait(futures)  # whatever happens, nothing of this pass goes on behind its back


@lru_cache(maxsize=1)
def _team(threads: int) -> ThreadPoolExecutor:
    """Threads for which torch uses one core each."""
    team = ThreadPoolExecutor(threads, "tile", initializer=torch.set_num_threads, initargs=(1,))
    together = threading.Barrier(threads)
    list(team.map(lambda _: together.wait(), range(threads)))
    torch.set_num_threads(threads)  # threads yet to come take the latest number of any thread: ours, as before
    return team


def _deterministic() -> AbstractContextManager[None]:
    """The same kernels and sums at every call on a GPU, float32 in full."""
    flags: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return flags
