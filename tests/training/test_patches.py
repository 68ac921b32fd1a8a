from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deepfinder_dask.blocks import Box
from deepfinder_dask.errors import GeometryError
from deepfinder_dask.segmentation.block import TURNED
from deepfinder_dask.tomograms import Scaling
from deepfinder_dask.training.patches import NEGATIVE, Annotated, ArraySource, Patch, PatchSampler

SHAPE = (24, 40, 32)


def tomogram(seed=0, labels=(1, 1, 1, 1, 1, 2)):
    rng = np.random.default_rng(seed)
    values = rng.normal(5, 3, size=SHAPE).astype(np.float32)
    truth = rng.integers(0, 3, size=SHAPE).astype(np.uint8)
    positions = rng.uniform(0, np.array(SHAPE) - 1, size=(len(labels), 3))
    return Annotated(
        f"t{seed}",
        SHAPE,
        ArraySource(values),
        ArraySource(truth),
        Scaling(5.0, 3.0),
        positions,
        np.array(labels, dtype=np.int64),
    )


@pytest.fixture
def sampler():
    return PatchSampler([tomogram(0), tomogram(1, (2,))], size=16, batch=6, shift=5, seed=7, background=True)


def test_patches_depend_on_seed_and_step_alone(sampler):
    again = replace(sampler, seed=7)
    assert [sampler.draw(n) for n in (3, 1, 3)] == [again.draw(n) for n in (3, 1, 3)]
    assert sampler.draw(1) != sampler.draw(2)
    assert replace(sampler, seed=8).draw(1) != sampler.draw(1)


def test_patches_lie_inside_and_are_turned_half_the_time(sampler):
    patches = [p for step in range(100) for p in sampler.draw(step)]
    for patch in patches:
        assert patch.box.shape == (16, 16, 16)
        assert patch.box.clip(SHAPE) == patch.box
    assert np.mean([p.turned for p in patches]) == pytest.approx(0.5, abs=0.07)


def test_every_class_and_the_background_are_seen_equally_often():
    """Class 2 has one position in the middle of its own tomogram, class 1 a thousand in another."""
    rare = Annotated(
        "rare",
        SHAPE,
        ArraySource(np.zeros(1)),
        ArraySource(np.zeros(1)),
        Scaling(0, 1),
        np.full((1, 3), 12.0),
        np.array([2]),
    )
    common = Annotated(
        "common",
        SHAPE,
        ArraySource(np.zeros(1)),
        ArraySource(np.zeros(1)),
        Scaling(0, 1),
        np.full((1000, 3), 12.0),
        np.ones(1000, int),
    )
    sampler = PatchSampler([rare, common], size=16, batch=3, shift=0, seed=0, background=True)
    for step in range(20):
        at_particles = [p.tomogram for p in sampler.draw(step) if p.box.start == (4, 4, 4)]
        assert {0, 1} <= set(at_particles)


def test_a_particle_stays_within_the_shift(sampler):
    class_two = PatchSampler([tomogram(1, (2,))], size=16, batch=2, shift=5, seed=1, background=True)
    (position,) = class_two.tomograms[0].positions
    near = 0
    for step in range(50):
        for patch in class_two.draw(step):
            middle = np.array(patch.box.start) + 8
            clipped = np.clip(position, 8, np.array(SHAPE) - 8)
            near += bool(np.all(np.abs(middle - clipped) <= 5.5))
    assert near >= 50, "one patch of each two looks at the particle"


def test_reading_normalises_by_the_whole_tomogram_and_turns_about_y(sampler):
    patches = [p for step in range(4) for p in sampler.draw(step)]
    values, labels = sampler.read(patches)
    assert values.dtype == np.float32
    assert labels.dtype == np.uint8
    assert {p.turned for p in patches} == {True, False}
    for number, patch in enumerate(patches):
        source = sampler.tomograms[patch.tomogram]
        grey = (source.values.read(patch.box) - 5.0) / 3.0
        truth = source.labels.read(patch.box)
        if patch.turned:
            grey, truth = np.rot90(grey, 2, axes=(0, 2)), np.rot90(truth, 2, axes=(0, 2))
        assert np.allclose(values[number, 0], grey, atol=1e-5)
        assert (labels[number] == truth).all()


def test_a_patch_larger_than_the_tomogram_is_refused():
    with pytest.raises(GeometryError, match="patch_size must not exceed the tomogram: 28"):
        PatchSampler([tomogram()], size=28, batch=1, shift=0, seed=0)


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_a_turn_about_the_tilt_axis_is_exact_and_no_mirror(axis):
    """180° about one axis: the other two axes are reversed, and twice the turn is no turn."""
    planes = {"x": (0, 1), "y": (0, 2), "z": (1, 2)}
    sampler = replace(PatchSampler([tomogram(0)], 16, 12, 5, 7), reversed_axes=TURNED[axis])
    patches = sampler.draw(0)
    values, labels = sampler.read(patches)
    plain, marks = sampler.read([replace(p, turned=False) for p in patches])
    for number, patch in enumerate(patches):
        quarters = 2 if patch.turned else 0
        assert (values[number, 0] == np.rot90(plain[number, 0], quarters, axes=planes[axis])).all()
        assert (labels[number] == np.rot90(marks[number], quarters, axes=planes[axis])).all()


def test_classes_are_uniform_whatever_their_numbers():
    """A hundred particles of class 1 and one of class 2: each fills half of a batch."""
    many = tomogram(3, (1,) * 100 + (2,))
    sampler = PatchSampler([many], size=16, batch=10, shift=0, seed=0)
    rare = many.positions[-1]
    middle = np.clip(rare, 8, np.array(SHAPE) - 8)
    for step in range(5):
        near = [np.abs(np.array(p.box.start) + 8 - middle).max() <= 0.5 for p in sampler.draw(step)]
        assert sum(near) >= 5


def test_negatives_and_hard_negatives_are_visited_as_often_as_a_class():
    one = tomogram(4, (1, 1, NEGATIVE))
    one.positions[:] = [[8, 8, 8], [8, 8, 8], [12, 30, 20]]
    sampler = PatchSampler([one], size=16, batch=9, shift=0, seed=0)
    starts = [p.box.start for p in sampler.draw(0, hard=[(0, 10.0, 20.0, 9.0)])]
    assert [starts.count(s) for s in ((0, 0, 0), (4, 22, 12), (2, 12, 1))] == [3, 3, 3]
    assert sorted({p.box.start for p in sampler.draw(0)}) == [(0, 0, 0), (4, 22, 12)]


def test_marks_of_classes_that_are_not_annotated_are_ignored():
    partly = replace(tomogram(0), known=(2,))
    sampler = PatchSampler([tomogram(1), partly], size=16, batch=2, shift=0, seed=0, classes=2)
    patches = [Patch(n, Box((0, 0, 0), (16, 16, 16)), turned=False) for n in (0, 1)]
    _, labels = sampler.read(patches)
    truth = partly.labels.values[:16, :16, :16]
    assert (labels[1] == np.where(truth == 1, 255, truth)).all()
    assert sampler.knowledge(patches).tolist() == [[True, True, True], [True, False, True]]
    assert PatchSampler([tomogram(1)], 16, 2, 0, 0).knowledge(patches[:1]) is None


def test_without_positions_patches_are_anywhere():
    empty = tomogram(0, ())
    assert len(PatchSampler([empty], 16, 4, 5, 0).draw(0)) == 4
