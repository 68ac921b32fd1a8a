"""Blocks give exactly what one pass over the whole volume gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepfinder_dask.blocks import BlockGrid, Box
from deepfinder_dask.networks import padded_shape
from deepfinder_dask.segmentation import normalise
from deepfinder_dask.segmentation.block import SegmentBlock, winner

MEAN, STD = 4.75, 3.125


def whole_pass(weights, values):
    """Logits of the plain network on the normalised volume, padded with zeros on the high side."""
    padded = np.zeros(padded_shape(values.shape), np.float32)
    padded[Box.whole(values.shape).slices()] = (values - np.float32(MEAN)) / np.float32(STD)
    with torch.inference_mode():
        logits = weights.build()(torch.from_numpy(padded)[None, None])[0]
    return logits[(..., *Box.whole(values.shape).slices())]


def block_task(tomogram, weights, invert=False):
    return SegmentBlock(tomogram.volume, weights, MEAN, STD, invert, None, None, None)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(*[st.integers(1, 45)] * 3),
    core=st.tuples(*[st.integers(3, 9).map(lambda n: 4 * n)] * 3),
    threads=st.sampled_from([1, 2]),
)
def test_logits_of_blocks_equal_one_pass_bit_for_bit(make_tomogram, weights, shape, core, threads):
    tomogram = make_tomogram(shape)
    whole = whole_pass(weights, tomogram.read())
    task = block_task(tomogram, weights)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            for block in BlockGrid(shape, core):
                part = task.logits(block)
                assert torch.equal(part, whole[(..., *block.write.slices())])
    finally:
        torch.set_num_threads(before)


def test_inverting_is_the_same_as_a_turned_tomogram(make_tomogram, weights):
    tomogram = make_tomogram((12, 16, 20))
    turned = make_tomogram((12, 16, 20), values=2 * MEAN - tomogram.read(), name="turned")
    block = BlockGrid((12, 16, 20), (12, 16, 20))[0]
    with torch.inference_mode():
        a = block_task(tomogram, weights, invert=True).logits(block)
        b = block_task(turned, weights).logits(block)
    assert torch.allclose(a, b, atol=1e-4)


def test_normalised_volume_has_mean_zero_and_deviation_one():
    values = np.random.default_rng(0).normal(200, 31, (20, 20, 20))
    normal = normalise(values, values.mean(), values.std())
    assert normal.dtype == np.float32
    assert abs(normal.mean()) < 1e-5
    assert abs(normal.std() - 1) < 1e-5


@given(seed=st.integers(0, 1000), size=st.integers(1, 40), scale=st.sampled_from([0.1, 3.0, 40.0]))
def test_winner_does_not_depend_on_its_surroundings(seed, size, scale):
    """Each voxel's label and probability are the same alone and in a larger block, and are those of the softmax."""
    logits = torch.randn(5, 3, 7, 41, generator=torch.Generator().manual_seed(seed)) * scale
    labels, probability, scores = winner(logits, keep_scores=True)
    part = winner(logits[..., 41 - size :], keep_scores=True)
    assert np.array_equal(part[0], labels[..., 41 - size :])
    assert np.array_equal(part[1], probability[..., 41 - size :])
    assert np.array_equal(part[2], scores[..., 41 - size :])
    exact = torch.softmax(logits.double(), 0).numpy()
    assert np.array_equal(labels, exact.argmax(0))
    assert np.abs(probability / 255 - exact.max(0)).max() <= 0.5 / 255 + 1e-6
    assert np.abs(scores - exact).max() < 1e-3


def test_equal_logits_go_to_the_first_class():
    labels, probability, _ = winner(torch.zeros(4, 2, 2, 2), keep_scores=False)
    assert not labels.any()
    assert (probability == 64).all()


@pytest.mark.parametrize("core", [(32, 32, 32), (8, 16, 24)])
def test_a_shifted_origin_would_be_noticed(make_tomogram, weights, core):
    """The comparison of the tests above can fail: a plain pass over a crop that starts two voxels off differs."""
    shape = (32, 32, 48)
    values = make_tomogram(shape).read()
    whole = whole_pass(weights, values)
    shifted = whole_pass(weights, values[2:])
    assert not torch.equal(shifted[:, 6 : core[0]], whole[:, 8 : core[0] + 2][:, : core[0] - 6])
