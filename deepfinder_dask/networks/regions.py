"""Which voxels each step of a network needs for a block: the halo, and a forward pass that computes nothing else.

Going backwards from the block's core, each step asks its source for the voxels it reads, clipped at the volume's true
borders. Going forwards, every step then computes its region and no more: a convolution pads with zeros exactly where
its context was clipped, as in one pass over the whole volume, and takes its context from its source everywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from deepfinder_dask.blocks import Box, Shape3, triple
from deepfinder_dask.errors import GeometryError
from deepfinder_dask.networks.unet import DIVISOR, INPUT, Concat, Conv, Pool, Program, Step, UNet, Up, UpConv

Regions = dict[str, Box]
"""Voxels of each step's output, counted on that step's own grid."""


def padded_shape(shape: Shape3) -> Shape3:
    """The volume's shape with its high sides padded to multiples of 4 voxels, (z, y, x)."""
    return triple(-(-n // DIVISOR) * DIVISOR for n in shape)


def needed_regions(program: Program, core: Box, shape: Shape3) -> Regions:
    """Voxels of every step that a core needs.

    Parameters
    ----------
    program : Program
        Steps of the network.
    core : Box
        Voxels wanted of the output.
    shape : Shape3
        Whole volume in voxels, (z, y, x), multiples of 4.

    Returns
    -------
    Regions
        For each step and for the input ``x``, the box on its own grid, clipped at the volume's borders.

    Raises
    ------
    GeometryError
        If the shape is no multiple of 4, or the core reaches outside it.
    """
    if any(n % DIVISOR for n in shape):
        raise GeometryError(f"the network needs sizes that are multiples of {DIVISOR} voxels, got {shape} (z, y, x)")
    if not Box.whole(shape).contains(core) or core.size == 0:
        raise GeometryError(f"the core {core.start}..{core.stop} is empty or outside the volume of shape {shape}")
    levels = levels_of(program)
    regions: Regions = {next(reversed(program)): core}
    for name, step in reversed(program.items()):
        for source in sources(step):
            wanted = read_by(step, regions[name]).clip(triple(n >> levels[source] for n in shape))
            regions[source] = _hull(regions[source], wanted) if source in regions else wanted
    return regions


def derive_halo(program: Program) -> tuple[int, int]:
    """Halo of a block whose origin and size are multiples of 4 voxels: (before, after), in voxels.

    The context of one core in the middle of a volume that is large enough, rounded up to multiples of 4.
    """
    middle, edge = 1024, 64
    core = Box((middle,) * 3, (middle + edge,) * 3)
    read = needed_regions(program, core, (2 * middle + edge,) * 3)[INPUT]
    low, high = core.start[0] - read.start[0], read.stop[0] - core.stop[0]
    return -(-low // DIVISOR) * DIVISOR, -(-high // DIVISOR) * DIVISOR


def forward_core(network: UNet, x: Tensor, read: Box, core: Box, shape: Shape3) -> Tensor:
    """Logits of a core, equal to cropping one pass over the whole volume.

    Parameters
    ----------
    network : UNet
        The network.
    x : Tensor
        Normalised voxels of ``read``, (n, 1, z, y, x) float32.
    read : Box
        Voxels that ``x`` holds; contains what the core needs (:func:`needed_regions`).
    core : Box
        Voxels wanted of the output; its start is a multiple of 4.
    shape : Shape3
        Whole volume in voxels, (z, y, x), multiples of 4.

    Returns
    -------
    Tensor
        (n, class, z, y, x) float32.

    Raises
    ------
    GeometryError
        If ``read`` lacks voxels that the core needs, or ``x`` is not of its shape.
    """
    regions = needed_regions(network.program, core, shape)
    if tuple(x.shape[2:]) != read.shape or not read.contains(regions[INPUT]):
        raise GeometryError(
            f"the core {core.start}..{core.stop} needs voxels {regions[INPUT].start}..{regions[INPUT].stop}, "
            f"got {tuple(x.shape[2:])} voxels from {read.start}..{read.stop}"
        )
    held: dict[str, _Held] = {INPUT: _Held(x, read)}
    levels, last_use = levels_of(network.program), last_uses(network.program)
    for name, step in network.program.items():
        level = levels[sources(step)[0]]
        held[name] = _compute(network, name, step, held, regions[name], triple(n >> level for n in shape))
        for source in sources(step):
            if last_use[source] == name:
                del held[source]  # memory peaks at the widest pair of layers, not at their sum
    return held[name].values


@dataclass(frozen=True, slots=True)
class _Held:
    """Values of a step and where they are."""

    values: Tensor
    """(n, channel, z, y, x)."""
    box: Box
    """Their voxels, on the step's own grid."""

    def cut(self, box: Box) -> Tensor:
        """The values of a box within."""
        return self.values[(..., *box.within(self.box).slices())]


def _compute(network: UNet, name: str, step: Step, held: dict[str, _Held], box: Box, shape: Shape3) -> _Held:
    """Values of one step in its region; ``shape`` is the whole volume on the grid of what the step reads."""
    wanted = read_by(step, box)
    match step:
        case Conv():
            read = wanted.clip(shape)
            before = (a - b for a, b in zip(read.start, wanted.start, strict=True))
            after = (b - a for a, b in zip(read.stop, wanted.stop, strict=True))
            pads = tuple(zip(before, after, strict=True))
            return _Held(network.convolve(name, held[step.source].cut(read), pads), box)
        case Pool():
            return _Held(F.max_pool3d(held[step.source].cut(wanted), 2), box)
        case Up():
            doubled = F.interpolate(held[step.source].cut(wanted), scale_factor=2, mode="nearest")
            return _Held(_Held(doubled, Box(_doubled(wanted.start), _doubled(wanted.stop))).cut(box), box)
        case UpConv():
            raise TypeError(f"step {name!r} is for inference alone")
        case Concat():
            return _Held(torch.cat([held[step.first].cut(box), held[step.second].cut(box)], 1), box)


def sources(step: Step) -> tuple[str, ...]:
    """Names of the steps that a step reads."""
    return (step.first, step.second) if isinstance(step, Concat) else (step.source,)


def read_by(step: Step, box: Box) -> Box:
    """What a step reads of its source to write ``box``, not yet clipped at the volume's borders."""
    match step:
        case Conv():
            first, last = box.start[0] // step.group * step.group, -(-box.stop[0] // step.group) * step.group
            box = Box((first, *box.start[1:]), (last, *box.stop[1:]))
            return box.grow((step.pad_low,) * 3, (step.pad_high,) * 3)
        case Pool():
            return Box(_doubled(box.start), _doubled(box.stop))
        case Up():
            return Box(triple(n // 2 for n in box.start), triple(-(-n // 2) for n in box.stop))
        case UpConv():
            return Box(triple(n // 2 for n in box.start), triple(n // 2 + 1 for n in box.stop))
        case Concat():
            return box


def _doubled(values: Shape3) -> Shape3:
    return triple(2 * n for n in values)


def _hull(a: Box, b: Box) -> Box:
    start = triple(min(i, j) for i, j in zip(a.start, b.start, strict=True))
    return Box(start, triple(max(i, j) for i, j in zip(a.stop, b.stop, strict=True)))


def levels_of(program: Program) -> dict[str, int]:
    """How often each step's grid has been halved."""
    levels = {INPUT: 0}
    for name, step in program.items():
        level = levels[sources(step)[0]]
        levels[name] = level + isinstance(step, Pool) - isinstance(step, Up | UpConv)
    return levels


def last_uses(program: Program) -> dict[str, str]:
    """The last step that reads each step."""
    return {source: name for name, step in program.items() for source in sources(step)}


def channels_of(program: Program) -> dict[str, int]:
    """Channels of each step's output."""
    channels = {INPUT: 1}
    for name, step in program.items():
        match step:
            case Conv() | UpConv():
                channels[name] = step.channels_out
            case Concat():
                channels[name] = channels[step.first] + channels[step.second]
            case _:
                channels[name] = channels[step.source]
    return channels
