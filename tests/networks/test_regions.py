"""The halo and the regions are what one pass over the whole volume needs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepfinder_dask.blocks import Box
from deepfinder_dask.errors import GeometryError
from deepfinder_dask.networks import derive_halo, inference_program, needed_regions, padded_shape
from deepfinder_dask.networks.regions import levels_of, read_by
from deepfinder_dask.networks.unet import INPUT, Concat, deepfinder_program, folded_program
from deepfinder_dask.networks.windows import schedule, stored_sources


def test_halo_follows_from_the_steps():
    assert derive_halo(deepfinder_program(5)) == (32, 36)
    assert derive_halo(inference_program(5, precision="bf16")) == (32, 36)


@st.composite
def shapes_and_cores(draw):
    shape = tuple(draw(st.tuples(*[st.integers(1, 40).map(lambda n: 4 * n)] * 3)))
    start = [draw(st.integers(0, n - 1)) for n in shape]
    stop = [draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True)]
    return shape, Box(tuple(start), tuple(stop))


@given(case=shapes_and_cores())
def test_folding_changes_nothing_that_is_needed(case):
    shape, core = case
    plain, folded = (needed_regions(program(4), core, shape) for program in (deepfinder_program, folded_program))
    assert folded == {name: plain[name] for name in folded}


@given(case=shapes_and_cores(), group=st.sampled_from([1, 4]), planes=st.sampled_from([4, 8, 32]))
def test_every_wave_finds_what_it_reads(case, group, planes):
    """Each plane is computed once, after all that it reads, and before those have left their windows."""
    shape, core = case
    program = folded_program(4, group)
    plan = schedule(program, core, shape, planes)
    levels = levels_of(program)
    done = {name: plan.regions[name].start[0] for name in program}
    for wave in plan.waves:
        for name, (start, stop) in wave.items():
            step, region = program[name], plan.regions[name]
            assert start == done[name] < stop
            read = read_by(step, Box((start, *region.start[1:]), (stop, *region.stop[1:])))
            for source in stored_sources(program, name):
                wanted = read.clip(tuple(n >> levels[source] for n in shape))
                assert plan.regions[source].contains(wanted)
                if source != INPUT:
                    assert wanted.stop[0] <= done[source]
                    assert wanted.start[0] >= done[source] - plan.planes[source]
            done[name] = stop
    for name, step in program.items():
        if not isinstance(step, Concat):
            assert done[name] == plan.regions[name].stop[0]


def test_windows_do_not_grow_with_the_volume():
    held = [schedule(folded_program(4, 4), Box.whole((n, 32, 32)), (n, 32, 32)).planes for n in (256, 512)]
    assert held[0] == held[1]
    assert held[0]["high_2"] < 64


def test_needs_are_refused_where_the_volume_cannot_meet_them():
    core, program = Box((0, 0, 64), (8, 12, 96)), deepfinder_program(4)
    with pytest.raises(GeometryError, match="multiples of 4"):
        needed_regions(program, core, (8, 12, 175))
    with pytest.raises(GeometryError, match="outside"):
        needed_regions(program, core.shift((0, 0, 90)), (8, 12, 176))


def test_shapes_are_padded_up():
    assert padded_shape((1, 8, 93)) == (4, 8, 96)
