"""Projected cost equals what the regions of all blocks add up to, and what a process really takes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfinder_dask.blocks import BlockGrid
from deepfinder_dask.networks import UNet, inference_program, needed_regions
from deepfinder_dask.networks.cost import TILE_BYTES, arithmetic_of, costs_of
from deepfinder_dask.networks.unet import INPUT, deepfinder_program
from deepfinder_dask.networks.windows import schedule, windowed

PROGRAM = inference_program(4)


def test_size_of_the_network_is_that_of_the_paper():
    assert sum(values.numel() for values in UNet(4).parameters()) == 903_060


@pytest.mark.parametrize(
    ("program", "thousands"),
    [(deepfinder_program(4), 193), (inference_program(4, precision="bf16"), 180), (PROGRAM, 109)],
)
def test_arithmetic_of_one_pass(program, thousands):
    per_voxel = arithmetic_of(program)
    regions = needed_regions(program, BlockGrid((64,) * 3, (64,) * 3)[0].write, (64,) * 3)
    assert sum(regions[k].size * n for k, n in per_voxel.items()) / 64**3 == pytest.approx(1e3 * thousands, rel=0.005)


@settings(max_examples=15, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 20).map(lambda n: 4 * n)] * 3),
    core=st.tuples(*[st.integers(2, 12).map(lambda n: 4 * n)] * 3),
    precision=st.sampled_from(["fp32", "bf16"]),
)
def test_costs_are_those_of_all_blocks(shape, core, precision):
    program = inference_program(4, precision=precision)
    width = 4 if precision == "fp32" else 2
    per_voxel = arithmetic_of(program)
    work, network, read, written = 0.0, 0, 0, 0
    for block in BlockGrid(shape, core):
        plan = schedule(program, block.write, shape)
        work += sum(plan.regions[name].size * count for name, count in per_voxel.items())
        planes = {name: plan.regions[name].shape for name in windowed(program)}
        held = sum(plan.planes[k] * y * x * windowed(program)[k] * width for k, (_, y, x) in planes.items())
        network, read = max(network, held), max(read, plan.regions[INPUT].size)
        written = max(written, block.write.size)
    costs = costs_of(program, shape, [[n] for n in core], value_bytes=width, threads=2)
    assert costs.work[0, 0, 0] == pytest.approx(work)
    assert costs.network[0, 0, 0] >= network + 2 * TILE_BYTES
    assert costs.network[0, 0, 0] <= 1.3 * network + 2 * TILE_BYTES + 16 * 4 * 4 * core[1] * core[2]
    assert costs.read[0, 0, 0] >= read
    assert costs.core[0, 0, 0] == written


def test_many_candidates_at_once_cost_what_each_costs_alone():
    shape, sizes = (96, 64, 128), [[96, 48], [64], [128, 64, 32]]
    table = costs_of(PROGRAM, shape, sizes)
    assert table.work.shape == (2, 1, 3)
    for at in np.ndindex(table.work.shape):
        alone = costs_of(PROGRAM, shape, [[axis[i]] for axis, i in zip(sizes, at, strict=True)])
        assert (table.work[at], table.network[at]) == (alone.work[0, 0, 0], alone.network[0, 0, 0])


def test_a_gpu_holds_whole_waves():
    sizes = [[128], [128], [128]]
    one, all_at_once = (costs_of(PROGRAM, (128,) * 3, sizes, wave_planes=32, tiled=tiled) for tiled in (True, False))
    assert all_at_once.network[0, 0, 0] - one.network[0, 0, 0] > 32 * 128**2 * (80 + 32) * 4 - TILE_BYTES


MEASURE = """
import sys, torch
from deepfinder_dask.blocks import Box
from deepfinder_dask.networks import UNet, Weights, prepare
from deepfinder_dask.networks.cost import costs_of
from deepfinder_dask.particles import ParticleClass

def resident(field):
    return next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith(field))

z, y, x, threads = map(int, sys.argv[1:])
torch.set_num_threads(threads)
inference = prepare(Weights(UNet(2).state_dict(), (ParticleClass("a", 1),), voxel_size=10.0))
small = Box.whole((8, 8, 8))
inference.logits(torch.zeros(1, 1, 8, 8, 8), small, small, (8, 8, 8))  # libraries load what they need
volume, whole = torch.zeros(1, 1, z, y, x), Box.whole((z, y, x))
before = resident("VmRSS")
for _ in inference.slabs(volume, whole, whole, (z, y, x)):
    pass
projected = costs_of(inference.program, (z, y, x), [[z], [y], [x]], threads=threads).network[0, 0, 0]
print(resident("VmHWM") - before, int(projected))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("case", [(24, 96, 160, 1), pytest.param((96, 192, 192, 2), marks=pytest.mark.slow)])
def test_projected_memory_is_what_a_process_takes(case):
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, case)], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    taken, projected = map(int, done.stdout.split())
    assert 0.75 * projected < taken <= projected
