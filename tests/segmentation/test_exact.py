"""Blocks give exactly what one pass over the whole volume gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepfinder_dask.blocks import BlockGrid, Box
from deepfinder_dask.execution import Progress
from deepfinder_dask.networks import bf16_supported, machine_kind, padded_shape, prepare
from deepfinder_dask.segmentation import segment
from deepfinder_dask.segmentation.block import PLAIN, TURNED, Classifier, mirrored
from deepfinder_dask.segmentation.winning import as_scores, pseudo_probabilities, winner, winner_of_probabilities
from deepfinder_dask.segmentation.workers import WorkerKind
from deepfinder_dask.tomograms import Scaling
from deepfinder_dask.tomograms.statistics import statistics_of

MEAN, STD = 4.75, 3.125
PRECISIONS = [
    "fp32",
    pytest.param("bf16", marks=pytest.mark.skipif(not bf16_supported(), reason="this processor multiplies no bf16")),
]


def kind(precision="fp32"):
    return WorkerKind("cpu", precision, machine_kind("cpu"), str(torch.__version__))


def padded_and_normalised(values):
    padded = np.zeros(padded_shape(values.shape), np.float32)
    padded[Box.whole(values.shape).slices()] = (values - np.float32(MEAN)) / np.float32(STD)
    return torch.from_numpy(padded)[None, None]


def whole_pass(weights, values, precision="fp32"):
    """Logits of one pass over the normalised volume, padded with zeros on the high side."""
    x = padded_and_normalised(values)
    whole = Box.whole(tuple(x.shape[2:]))
    with torch.inference_mode():
        logits = prepare(weights, precision=precision).logits(x, whole, whole, whole.shape)
    return logits[(..., *Box.whole(values.shape).slices())]


def classifier(tomogram, weights, precision="fp32", **options):
    return Classifier(tomogram.volume, weights, kind(precision), Scaling(MEAN, STD), **options)


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("precision", PRECISIONS)
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shape=st.tuples(*[st.integers(1, 45)] * 3), core=st.tuples(*[st.integers(3, 9).map(lambda n: 4 * n)] * 3))
def test_logits_of_blocks_equal_one_pass_bit_for_bit(make_tomogram, weights, threads, precision, shape, core):
    tomogram = make_tomogram(shape)
    whole = whole_pass(weights, tomogram.read(), precision)
    task = classifier(tomogram, weights, precision)
    with torch.inference_mode():
        for block in BlockGrid(shape, core):
            part = task.logits(task.read(block.write)[0], block.write)
            assert torch.equal(part, whole[(..., *block.write.slices())])


def test_the_fast_forward_is_the_plain_network(make_tomogram, weights):
    values = make_tomogram((20, 33, 28)).read()
    with torch.inference_mode():
        plain = weights.build()(padded_and_normalised(values))[0][(..., *Box.whole(values.shape).slices())]
    assert torch.allclose(whole_pass(weights, values), plain, atol=1e-4 * float(plain.abs().max()))


def test_inverting_is_the_same_as_a_turned_tomogram(make_tomogram, weights):
    tomogram = make_tomogram((12, 16, 20))
    turned = make_tomogram((12, 16, 20), values=2 * MEAN - tomogram.read(), name="turned")
    box = Box.whole((12, 16, 20))
    with torch.inference_mode():
        inverting, plain = classifier(tomogram, weights, invert=True), classifier(turned, weights)
        assert torch.allclose(
            inverting.logits(inverting.read(box)[0], box), plain.logits(plain.read(box)[0], box), atol=1e-4
        )


@pytest.mark.parametrize(
    "tilt_axis", ["y", pytest.param("x", marks=pytest.mark.slow), pytest.param("z", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("core", [(12, 16, 20), (32, 32, 32)])
def test_averaging_over_turned_blocks_equals_averaging_over_the_turned_volume(make_tomogram, weights, tilt_axis, core):
    """Sizes that are no multiple of 4: the turned volume is padded on its own high side."""
    shape = (21, 34, 30)
    tomogram = make_tomogram(shape)
    values, axes = tomogram.read(), TURNED[tilt_axis]
    turned = whole_pass(weights, np.flip(values, axes).copy()).flip([axis + 1 for axis in axes])
    with torch.inference_mode():
        mean = (pseudo_probabilities(whole_pass(weights, values)) + pseudo_probabilities(turned)) / 2
    labels, probability = winner_of_probabilities(mean)
    task = classifier(tomogram, weights, passes=(PLAIN, axes), score_type="float16")
    for block in BlockGrid(shape, core):
        found, inside = task(block.write), block.write.slices()
        assert np.array_equal(found.labels, labels[inside])
        assert np.array_equal(found.probability, probability[inside])
        assert np.array_equal(found.scores, mean[(..., *inside)].to(torch.float16))
    assert not torch.equal(labels, winner(whole_pass(weights, values)).labels)


@given(
    shape=st.tuples(*[st.integers(4, 30)] * 3),
    ends=st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 3),
    axes=st.sampled_from([PLAIN, *TURNED.values()]),
)
def test_mirrored_boxes_hold_the_mirrored_voxels(shape, ends, axes):
    values = np.arange(np.prod(shape)).reshape(shape)
    box = Box(tuple(a for a, _ in ends), tuple(n - b + 3 for n, (_, b) in zip(shape, ends, strict=True))).clip(shape)
    other = mirrored(box, shape, axes)
    assert np.array_equal(np.flip(np.flip(values, axes)[other.slices()], axes), values[box.slices()])
    assert mirrored(other, shape, axes) == box


def test_normalised_volume_has_mean_zero_and_deviation_one():
    values = np.random.default_rng(0).normal(200, 31, (20, 20, 20))
    normal = Scaling(values.mean(), values.std()).apply(values)
    assert normal.dtype == np.float32
    assert abs(normal.mean()) < 1e-5
    assert abs(normal.std() - 1) < 1e-5


@given(seed=st.integers(0, 1000), size=st.integers(1, 40), scale=st.sampled_from([0.1, 3.0, 40.0]))
def test_winner_does_not_depend_on_its_surroundings(seed, size, scale):
    """Each voxel's label and probability are the same alone and in a larger block, and are those of the softmax."""
    logits = torch.randn(5, 3, 7, 41, generator=torch.Generator().manual_seed(seed)) * scale
    labels, probability = winner(logits)
    shares = pseudo_probabilities(logits)
    part = logits[..., 41 - size :]
    assert torch.equal(winner(part).labels, labels[..., 41 - size :])
    assert torch.equal(winner(part).probability, probability[..., 41 - size :])
    assert torch.equal(pseudo_probabilities(part), shares[..., 41 - size :])
    exact = torch.softmax(logits.double(), 0)
    assert torch.equal(labels, exact.argmax(0).to(torch.uint8))
    assert (probability / 255 - exact.amax(0)).abs().max() <= 0.5 / 255 + 1e-6
    assert (shares - exact).abs().max() < 1e-6
    assert (as_scores(shares, "uint8") / 255 - exact).abs().max() <= 0.5 / 255 + 1e-6
    assert as_scores(shares, "float16").dtype == torch.float16


def test_equal_logits_go_to_the_first_class():
    labels, probability = winner(torch.zeros(4, 2, 2, 2))
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


@pytest.mark.parametrize(
    ("core", "chunk", "workers"),
    [
        ((32, 32, 32), 16, 2),
        ((16, 28, 36), (1, 40, 70), None),
        ((36, 40, 44), (34, 7, 50), None),
        ((64, 20, 72), 16, None),
        pytest.param((8, 40, 72), (1, 40, 70), 2, marks=pytest.mark.slow),
    ],
)
def test_no_block_size_storage_layout_or_executor_changes_a_byte(
    make_tomogram, weights, tmp_path, core, chunk, workers
):
    """Five blocks, 32³ among them, over three layouts of chunks, in this process and in worker processes."""
    tomogram = make_tomogram((34, 40, 70), chunk=chunk)
    whole = whole_segmentation(weights, tomogram)
    done = segment(tomogram, weights, tmp_path / "blocks.zarr", block=core, workers=workers)
    assert np.array_equal(done.label_map.read(), whole.labels)
    assert np.array_equal(done.probability_map.read(), whole.probability)


def whole_segmentation(weights, tomogram):
    statistics = statistics_of(tomogram.volume)
    task = Classifier(tomogram.volume, weights, kind(), Scaling(statistics.mean, statistics.std))
    return task(Box.whole(tomogram.shape))


@pytest.mark.parametrize("passes", [(PLAIN,), (PLAIN, TURNED["y"])])
def test_voxels_of_a_block_are_told_on_the_way(make_tomogram, weights, passes):
    box = Box((0, 8, 0), (20, 28, 24))
    with Progress("segment", 1, voxels=box.size) as bar:
        classifier(make_tomogram((20, 33, 28)), weights, passes=passes)(box)
        assert bar.numbers()["voxels_done"] == box.size
