from __future__ import annotations

import numpy as np
import pytest

from deepfinder_dask.errors import GeometryError
from deepfinder_dask.training.patches import Annotated, ArraySource, PatchSampler

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
        5.0,
        3.0,
        positions,
        np.array(labels, dtype=np.int64),
    )


@pytest.fixture
def sampler():
    return PatchSampler([tomogram(0), tomogram(1, (2,))], size=16, batch=6, shift=5, seed=7)


def test_patches_depend_on_seed_and_step_alone(sampler):
    again = PatchSampler(sampler.tomograms, 16, 6, 5, 7)
    assert [sampler.draw(n) for n in (3, 1, 3)] == [again.draw(n) for n in (3, 1, 3)]
    assert sampler.draw(1) != sampler.draw(2)
    assert PatchSampler(sampler.tomograms, 16, 6, 5, 8).draw(1) != sampler.draw(1)


def test_patches_lie_inside_and_are_turned_half_the_time(sampler):
    patches = [p for step in range(100) for p in sampler.draw(step)]
    for patch in patches:
        assert patch.box.shape == (16, 16, 16)
        assert patch.box.clip(SHAPE) == patch.box
    assert np.mean([p.turned for p in patches]) == pytest.approx(0.5, abs=0.07)


def test_every_class_and_the_background_are_seen_equally_often():
    """Class 2 has one position in the middle of its own tomogram, class 1 a thousand in another."""
    rare = Annotated(
        "rare", SHAPE, ArraySource(np.zeros(1)), ArraySource(np.zeros(1)), 0, 1, np.full((1, 3), 12.0), np.array([2])
    )
    common = Annotated(
        "common",
        SHAPE,
        ArraySource(np.zeros(1)),
        ArraySource(np.zeros(1)),
        0,
        1,
        np.full((1000, 3), 12.0),
        np.ones(1000, int),
    )
    sampler = PatchSampler([rare, common], size=16, batch=3, shift=0, seed=0)
    for step in range(20):
        at_particles = [p.tomogram for p in sampler.draw(step) if p.box.start == (4, 4, 4)]
        assert {0, 1} <= set(at_particles)


def test_a_particle_stays_within_the_shift(sampler):
    class_two = PatchSampler([tomogram(1, (2,))], size=16, batch=2, shift=5, seed=1)
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
    assert labels.dtype == np.int64
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
