"""Blocks paint what the whole would have: any shapes, blocks, positions; and the whole is what brute force says."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfinder_dask.blocks import BlockGrid
from deepfinder_dask.particles import ParticleClass
from deepfinder_dask.targets.given import GivenLabels
from deepfinder_dask.targets.objects import Objects, as_the_original, objects_of, touching
from deepfinder_dask.targets.painting import Canvas, Task, halo_of, paint
from deepfinder_dask.targets.shapes import Shape
from deepfinder_dask.tomograms.boxes import ArraySource
from deepfinder_dask.tomograms.regions import Region

CLASSES = {
    "small": ParticleClass("small", 1, radius=25.0),
    "large": ParticleClass("large", 2, radius=60.0),
    "odd": ParticleClass("odd", 7, radius=30.0),
}


def wedge(voxel_size=(7.0, 9.0, 11.0)) -> Shape:
    """A shape without any symmetry."""
    values = np.zeros((8, 7, 9), np.float32)
    values[1:7, 2:4, 2:5] = 1
    values[1:3, 2:6, 2:8] = 0.8
    return Shape("odd", values, voxel_size, (3.5, 3.0, 3.25), 90.0, 0.5, 1.0, "wedge.mrc")


@st.composite
def scenes(draw):
    """A small tomogram with particles, some at its border, given maps and a mask; and a grid of blocks."""
    shape = tuple(draw(st.integers(1, 26)) for _ in range(3))
    voxel_size = draw(st.sampled_from([(10.0, 10.0, 10.0), (13.68, 13.68, 13.68), (7.0, 10.0, 12.5)]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(0, 9))
    edges = np.array(shape) - 1.0
    centres = rng.uniform(-0.5, edges + 0.5, (count, 3))
    on_voxels = rng.random(count) < 0.5
    centres[on_voxels] = np.clip(np.round(centres[on_voxels]), 0, edges)
    names = rng.choice(list(CLASSES), count).tolist()
    angles = rng.uniform(-180, 180, (count, 3))
    objects = objects_of(centres, angles, names, CLASSES, (wedge(),), voxel_size)
    if draw(st.booleans()) and len(set(voxel_size)) == 1:
        objects = as_the_original(objects, (wedge(),), voxel_size)
    maps = tuple(
        GivenLabels(ArraySource(rng.choice([0, 0, 0, 2, 5, 255], shape).astype(np.uint8)), "map", None, None, (2, 5))
        for _ in range(draw(st.integers(0, 2)))
    )
    mask = Region.of(rng.random(shape) < 0.8) if draw(st.booleans()) else None
    shell = draw(st.sampled_from([None, 10.0, 27.36, 41.0]))
    kept = draw(st.sampled_from([(1, 2, 5, 7), (1, 5), ()]))
    canvas = Canvas(voxel_size, (wedge(),), maps, mask, shell, kept)
    core = tuple(draw(st.integers(1, n)) for n in shape)
    return canvas, objects, shape, core


def paint_all(canvas: Canvas, objects: Objects, shape, core):
    """Labels of the whole, made of blocks, and all counts."""
    halo = halo_of(canvas.shell, canvas.voxel_size)
    grid = BlockGrid(shape, core, halo, halo)
    near = touching(objects, grid)
    labels = np.full(shape, 99, np.uint8)
    won, lost = np.zeros(len(objects), np.int64), {}
    for block in grid:
        part, tally = paint(canvas, Task(block, objects.take(near.get(block.number, np.zeros(0, np.intp)))))
        labels[block.write.slices()] = part
        won[tally.rows] += tally.won
        assert (tally.voxels == np.bincount(part.ravel(), minlength=256)).all()
        for pair, count in tally.lost.items():
            lost[pair] = lost.get(pair, 0) + count
    return labels, won, lost


def whole(canvas: Canvas, objects: Objects, shape):
    """One block, which sees every particle: no index decides anything."""
    block = BlockGrid(shape, shape)[0]
    labels, tally = paint(canvas, Task(block, objects))
    won = np.zeros(len(objects), np.int64)
    won[tally.rows] = tally.won
    return labels, won, tally.lost


@settings(max_examples=60)
@given(scenes())
def test_blocks_equal_the_whole(scene) -> None:
    canvas, objects, shape, core = scene
    labels, won, lost = paint_all(canvas, objects, shape, core)
    expected = whole(canvas, objects, shape)
    np.testing.assert_array_equal(labels, expected[0])
    np.testing.assert_array_equal(won, expected[1])
    assert lost == expected[2]


@settings(max_examples=30)
@given(scenes(), st.integers(0, 2**32))
def test_the_order_of_particles_decides_nothing(scene, seed) -> None:
    """Spheres only: `objects_of` is given another order."""
    canvas, objects, shape, _ = scene
    rng = np.random.default_rng(seed)
    names = np.array([{1: "small", 2: "large", 7: "odd"}[n] for n in objects.label.tolist()], dtype=object)
    unknown = np.full((len(names), 3), np.nan)
    order = rng.permutation(len(names))
    made = []
    for rows in (np.arange(len(names)), order):
        again = objects_of(objects.centre[rows], unknown[rows], names[rows], CLASSES, (), canvas.voxel_size)
        labels, _, lost = whole(canvas, again, shape)
        made.append((labels, lost))
    np.testing.assert_array_equal(made[0][0], made[1][0])
    assert made[0][1] == made[1][1]


def test_an_index_that_forgets_a_particle_is_found() -> None:
    """The comparison above fails where a block misses a particle that only grazes it."""
    canvas = Canvas((10.0,) * 3, (), (), None, None, (1, 2))
    objects = objects_of(np.array([[8.0, 8.0, 8.0]]), np.full((1, 3), np.nan), ["large"], CLASSES, (), (10.0,) * 3)
    labels, *_ = paint_all(canvas, replace(objects, high=objects.high - 3), (20, 20, 20), (4, 4, 4))
    assert (labels != whole(canvas, objects, (20, 20, 20))[0]).any()


def test_spheres_are_what_brute_force_says() -> None:
    """Nearest centre in Å, ties to the smaller label, then z, y, x; every claim that fails is counted."""
    rng = np.random.default_rng(3)
    shape, size = (22, 26, 30), np.array([8.0, 10.0, 12.0])
    centres = rng.uniform(-0.5, np.array(shape) - 0.5, (12, 3))
    centres[:4] = np.round(centres[:4])
    centres[1] = centres[0]  # a tie: the smaller label has it all
    names = ["large", "small", "small", "large"] * 3
    objects = objects_of(centres, np.full((12, 3), np.nan), names, CLASSES, (), tuple(size))
    canvas = Canvas(tuple(size), (), (), None, None, (1, 2))
    labels, won, lost = whole(canvas, objects, shape)
    index = np.indices(shape).reshape(3, -1).T
    square = (((index[:, None] - centres) * size) ** 2).sum(axis=2)
    numbers = np.array([CLASSES[name].label for name in names])
    claims = square <= np.array([CLASSES[name].radius for name in names]) ** 2
    order = np.lexsort((*centres.T[::-1], numbers))
    ranked = np.where(claims, square, np.inf)[:, order]
    winner = order[ranked.argmin(axis=1)]
    expected = np.where(claims.any(axis=1), numbers[winner], 0)
    np.testing.assert_array_equal(labels.ravel(), expected)
    assert won.tolist() == [(claims[:, row] & (winner == row)).sum() for row in range(12)]
    pairs = {}
    for row in range(12):
        for by in winner[claims[:, row] & (winner != row)]:
            pair = (numbers[by], numbers[row])
            pairs[pair] = pairs.get(pair, 0) + 1
    assert lost == pairs
    assert len(lost) == 4


def test_given_maps_lie_below_particles_and_the_smallest_label_counts() -> None:
    shape = (3, 4, 5)
    first, second = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    first[:, 0], second[:, :2] = 9, 4
    second[:, 3] = 255
    maps = [GivenLabels(ArraySource(v), "map", None, None, (4, 9)) for v in (first, second)]
    objects = objects_of(np.array([[1.0, 0.0, 0.0]]), np.full((1, 3), np.nan), ["small"], CLASSES, (), (30.0,) * 3)
    for order in (maps, maps[::-1]):
        canvas = Canvas((30.0,) * 3, (), tuple(order), None, None, (1, 4, 9))
        labels, won, lost = whole(canvas, objects, shape)
        assert won.tolist() == [1]
        assert labels[1, 0, 0] == 1
        assert (np.delete(labels[:, 0].ravel(), 5) == 4).all()
        assert (labels[:, 1] == 4).all()
        assert (labels[:, 2] == 0).all()
        assert (labels[:, 3] == 255).all()
        assert lost == {(1, 4): 1, (1, 9): 1, (4, 9): 14}


@pytest.mark.parametrize("voxel_size", [(10.0, 10.0, 10.0), (8.0, 10.0, 12.0)])
def test_the_shell_is_what_is_near_in_angstrom(voxel_size) -> None:
    shape = (15, 16, 17)
    size = np.array(voxel_size)
    objects = objects_of(np.array([[7.0, 8.0, 8.0]]), np.full((1, 3), np.nan), ["small"], CLASSES, (), voxel_size)
    labels, *_ = whole(Canvas(voxel_size, (), (), None, 20.0, (1,)), objects, shape)
    inside = np.argwhere(labels == 1)
    for voxel in np.ndindex(shape):
        distance = np.sqrt((((inside - np.array(voxel)) * size) ** 2).sum(axis=1).min())
        assert labels[voxel] == (1 if distance == 0 else 255 if distance <= 20 else 0)


def test_what_is_not_annotated_is_ignored_but_claimed() -> None:
    objects = objects_of(
        np.array([[5.0, 5.0, 5.0], [5.0, 5.0, 9.0]]),
        np.full((2, 3), np.nan),
        ["small", "large"],
        CLASSES,
        (),
        (10.0,) * 3,
    )
    everything, *_ = whole(Canvas((10.0,) * 3, (), (), None, None, (1, 2)), objects, (16, 16, 16))
    some, *_ = whole(Canvas((10.0,) * 3, (), (), None, None, (1,)), objects, (16, 16, 16))
    np.testing.assert_array_equal(some, np.where(everything == 2, 255, everything))
    masked = np.zeros((16, 16, 16), bool)
    masked[:, :, :8] = True
    mask = Region.of(masked)
    half, *_ = whole(Canvas((10.0,) * 3, (), (), mask, None, (1, 2)), objects, (16, 16, 16))
    np.testing.assert_array_equal(half, np.where(masked, everything, 255))


def test_every_pair_of_blocks_is_disjoint_and_all_particles_are_somewhere() -> None:
    """The index lists a particle for each block that its voxels are in, and for no block far away."""
    rng = np.random.default_rng(1)
    shape = (30, 40, 50)
    objects = objects_of(
        rng.uniform(0, np.array(shape) - 1, (40, 3)), np.full((40, 3), np.nan), ["small"] * 40, CLASSES, (), (10.0,) * 3
    )
    grid = BlockGrid(shape, (8, 16, 10))
    near = touching(objects, grid)
    for block in grid:
        low, high = np.array(block.write.start), np.array(block.write.stop)
        gap = np.maximum(0, np.maximum(low - objects.centre, objects.centre - (high - 1))) * 10.0
        distance = np.linalg.norm(gap, axis=1)
        listed = set(near.get(block.number, np.zeros(0, int)).tolist())
        assert set(np.flatnonzero(distance <= 25.0).tolist()) <= listed
        assert listed <= set(np.flatnonzero(gap.max(axis=1) <= 45.0).tolist())
    assert not any(a.write.intersect(b.write).size for a, b in combinations(grid, 2))
