"""A pass along z that holds a few planes of every step: which planes are computed when, and where they are kept.

Each wave of the pass takes the output a few planes further along z, and every step with it, just as far as the steps
that read it need. Of each step's output only a window stays in memory: the planes that something still reads.

::

    z →          computed and gone │ held by the window │ of this wave │ not yet
    high_2       ──────────────────┼────────────────────┼──────────────┼────────     read by pool_1 at once,
    high_3       ──────┼─┼──────────────────────────────────────────────────────     by high_3 some 40 planes later
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from deepfinder_dask.blocks import Box, Shape3
from deepfinder_dask.networks.regions import Regions, channels_of, needed_regions, read_by, sources
from deepfinder_dask.networks.unet import INPUT, Concat, Conv, Program

WAVE_PLANES = 8
"""Planes by which a wave takes the output further."""

Wave = dict[str, tuple[int, int]]
"""First plane and one past the last that a wave computes of each step, on the step's own grid."""


@dataclass(frozen=True)
class Schedule:
    """The waves of a pass."""

    regions: Regions
    """Voxels of every step that the core needs."""
    waves: tuple[Wave, ...]
    """What is computed, in order; steps without new planes are left out."""
    planes: dict[str, int]
    """Planes that the window of each step holds at most."""


def stored_sources(program: Program, name: str) -> tuple[str, ...]:
    """Names of the steps whose values a step reads; those of a Concat stay where they are, in two windows."""
    found: tuple[str, ...] = ()
    for source in sources(program[name]):
        found += stored_sources(program, source) if isinstance(program.get(source), Concat) else (source,)
    return found


def windowed(program: Program) -> dict[str, int]:
    """Steps that have a window, and their channels: all but the last two, which are computed tile by tile in one."""
    output = next(reversed(program))
    direct = (INPUT, output, *stored_sources(program, output))
    stored = {
        name
        for other, step in program.items()
        if not isinstance(step, Concat)
        for name in stored_sources(program, other)
    }
    return {name: channels for name, channels in channels_of(program).items() if name in stored and name not in direct}


def schedule(program: Program, core: Box, shape: Shape3, planes: int = WAVE_PLANES) -> Schedule:
    """Waves that compute a core.

    Parameters
    ----------
    program : Program
        Steps of the network.
    core : Box
        Voxels wanted of the output.
    shape : Shape3
        Whole volume in voxels, (z, y, x), multiples of 4.
    planes : int
        Planes by which a wave takes the output further.

    Returns
    -------
    Schedule
        Regions, waves and the planes to hold.

    Raises
    ------
    GeometryError
        As :func:`needed_regions`.
    """
    regions = needed_regions(program, core, shape)
    steps = [name for name, step in program.items() if not isinstance(step, Concat)]
    readers = {name: [other for other in steps if name in stored_sources(program, other)] for name in steps}
    output = steps[-1]
    done = {name: regions[name].start[0] for name in program}
    held = dict.fromkeys(steps, 0)
    waves: list[Wave] = []
    reach = core.start[0] // planes * planes
    while any(stop > regions[name].start[0] for name, stop in _reached(program, reach).items()):
        reach -= planes  # the first waves fill the windows before the output begins
    while done[output] < core.stop[0]:
        reach = min(reach + planes, core.stop[0])
        reached = _reached(program, reach)
        before, done = done, {n: min(max(reached[n], a), regions[n].stop[0]) for n, a in done.items()}
        for name in steps:
            waiting = [other for other in readers[name] if before[other] < regions[other].stop[0]]
            reads = [read_by(program[other], _planes(before[other], before[other] + 1)).start[0] for other in waiting]
            first = max(min(reads, default=before[name]), regions[name].start[0])
            held[name] = max(held[name], done[name] - first)
        wave = {name: (before[name], done[name]) for name in steps if done[name] > before[name]}
        if wave:
            waves.append(wave)
    return Schedule(regions, tuple(waves), held)


def _reached(program: Program, reach: int) -> dict[str, int]:
    """How far along z each step must be computed for the output to reach a plane, borders left aside."""
    stops = {next(reversed(program)): reach}
    for name, step in reversed(program.items()):
        if isinstance(step, Conv):
            stops[name] = -(-stops[name] // step.group) * step.group
        for source in sources(step):
            stop = read_by(step, _planes(stops[name] - 1, stops[name])).stop[0]
            stops[source] = max(stops.get(source, stop), stop)
    return stops


def _planes(start: int, stop: int) -> Box:
    return Box((start, 0, 0), (stop, 1, 1))


@dataclass(frozen=True)
class Window:
    """The planes of a step in memory, in a ring: a plane takes the place of one that nothing reads any more."""

    values: Tensor
    """(plane, y, x, channel)."""
    box: Box
    """The step's region; y and x of the planes."""

    def plane(self, z: int, box: Box) -> Tensor:
        """Values of one plane, within the y and x of a box: (y, x, channel), not a copy."""
        _, y, x = box.within(self.box).slices()
        return self.values[(z - self.box.start[0]) % len(self.values), y, x]

    def runs(self, box: Box) -> Iterator[tuple[int, Tensor]]:
        """Values of a box, in one or two runs of planes: offset from the box's first plane, (plane, y, x, channel)."""
        _, y, x = box.within(self.box).slices()
        z = box.start[0]
        while z < box.stop[0]:
            first = (z - self.box.start[0]) % len(self.values)
            count = min(box.stop[0] - z, len(self.values) - first)
            yield z - box.start[0], self.values[first : first + count, y, x]
            z += count
