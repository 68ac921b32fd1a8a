"""Which voxels each step of a network needs for a block, and so the halo.

Going backwards from the block's core, each step asks its source for the voxels it reads, clipped at the volume's true
borders. Going forwards, every step then computes its region and no more: a convolution reads zeros exactly where its
context was clipped, as in one pass over the whole volume, and takes its context from its source everywhere else.
"""

from __future__ import annotations

from deepfinder_dask.blocks import Box, Shape3, triple
from deepfinder_dask.errors import GeometryError
from deepfinder_dask.networks.unet import DIVISOR, INPUT, Concat, Conv, Pool, Program, Step, Up, UpConv

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
