"""Logits of any core are those of one pass over the whole volume, bit for bit, and those of the plain network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile

from deepfinder_dask.blocks import Box
from deepfinder_dask.errors import GeometryError, SettingsError
from deepfinder_dask.networks import (
    bf16_supported,
    import_keras_weights,
    inference_program,
    machine_kind,
    needed_regions,
    prepare,
)
from deepfinder_dask.networks.inference import tiles_of
from deepfinder_dask.networks.unet import INPUT

SHAPE = (36, 40, 68)
VARIANTS = [("fp32", False), ("bf16", True)]
if bf16_supported():
    VARIANTS.append(("bf16", False))


@pytest.fixture(scope="module", params=VARIANTS, ids=["fp32", "bf16 emulated", "bf16"][: len(VARIANTS)])
def inference(request, random_weights):
    precision, emulate = request.param
    return prepare(random_weights, precision=precision, emulate=emulate)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def noise(shape, seed=3):
    return torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(seed))


def whole_pass(inference, volume):
    whole = Box.whole(tuple(volume.shape[2:]))
    return inference.logits(volume, whole, whole, whole.shape)


def of_core(inference, volume, core):
    """Logits of a core from the voxels that it needs and no other."""
    shape = tuple(volume.shape[2:])
    read = needed_regions(inference.program, core, shape)[INPUT]
    return inference.logits(volume[(..., *read.slices())].clone(), read, core, shape)


@st.composite
def volumes_and_cores(draw):
    shape = tuple(draw(st.tuples(*[st.integers(1, 9).map(lambda n: 4 * n)] * 3)))
    start = [draw(st.integers(0, n - 1)) for n in shape]
    stop = [draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True)]
    return shape, Box(tuple(start), tuple(stop))


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(case=volumes_and_cores(), count=st.sampled_from([1, 2, 3]))
def test_any_core_equals_the_whole_bit_for_bit(inference, threads, case, count):
    shape, core = case
    volume = noise(shape)
    threads(1)
    whole = whole_pass(inference, volume)
    threads(count)
    assert torch.equal(of_core(inference, volume, core), whole[(..., *core.slices())])


@pytest.fixture(scope="module")
def whole(inference):
    return whole_pass(inference, noise(SHAPE))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("start", [(0, 0, 0), (4, 8, 36), (3, 7, 17)])
def test_cores_of_32_equal_the_whole_bit_for_bit(inference, whole, threads, start, count):
    threads(count)
    core = Box(start, tuple(n + 32 for n in start))
    assert torch.equal(of_core(inference, noise(SHAPE), core), whole[(..., *core.slices())])


def test_less_halo_or_another_origin_would_be_noticed(inference):
    """One voxel of context less on one side, or a volume that begins two voxels later, changes the core."""
    volume = noise((8, 12, 176))
    whole = whole_pass(inference, volume)
    core = Box((0, 0, 64), (8, 12, 96))
    for low, high, same in [(32, 36, True), (28, 36, False), (32, 32, False), (34, 38, False)]:
        start = core.start[2] - low
        crop = volume[..., start : core.stop[2] + high]
        crop = crop[..., : crop.shape[-1] // 4 * 4]
        part = whole_pass(inference, crop)[..., low : low + 32]
        assert torch.equal(part, whole[(..., *core.slices())]) == same


def test_every_voxel_read_matters(inference):
    volume = noise((8, 12, 176))
    core = Box((0, 0, 64), (8, 12, 96))
    read = needed_regions(inference.program, core, (8, 12, 176))[INPUT]
    reference = of_core(inference, volume, core)
    for x in (read.start[2], read.stop[2] - 1):
        shaken = volume.clone()
        shaken[..., x] += 100.0
        assert not torch.equal(of_core(inference, shaken, core), reference)


def test_logits_are_those_of_the_plain_network(random_network, random_weights):
    volume = noise((36, 40, 44))
    with torch.inference_mode():
        plain = random_network(volume)[0]
    scale = float(plain.abs().max())
    assert float((whole_pass(prepare(random_weights), volume) - plain).abs().max()) < 2e-5 * scale
    rounded = whole_pass(prepare(random_weights, precision="bf16", emulate=True), volume)
    assert 1e-3 * scale < float((rounded - plain).abs().max()) < 5e-2 * scale
    assert float((rounded.argmax(0) != plain.argmax(0)).float().mean()) < 0.02


def test_labels_of_the_original_weights_stay(data_dir):
    golden = data_dir / "original_deepfinder"
    weights = import_keras_weights(golden / "weights_3_classes.h5")
    with np.load(golden / "forward_64x72x80.npz") as archive:
        x, softmax = archive["x"].squeeze(), np.moveaxis(archive["softmax"].squeeze(), -1, 0)
    logits = whole_pass(prepare(weights), torch.from_numpy(x)[None, None])
    assert np.abs(torch.softmax(logits, 0).numpy() - softmax).max() < 1e-5
    assert np.array_equal(logits.argmax(0).numpy(), softmax.argmax(0))


def test_slabs_are_the_logits_plane_by_plane(inference):
    volume, core = noise(SHAPE), Box((3, 0, 5), (33, 40, 30))
    read = needed_regions(inference.program, core, SHAPE)[INPUT]
    slabs = list(inference.slabs(volume[(..., *read.slices())], read, core, SHAPE))
    assert [box.start[0] for box, _ in slabs[1:]] == [box.stop[0] for box, _ in slabs[:-1]]
    assert max(box.shape[0] for box, _ in slabs) < 16
    assert torch.equal(torch.cat([part for _, part in slabs], 1), of_core(inference, volume, core))


def test_blocks_of_all_sizes_share_their_memory(inference):
    """What an earlier block left in the windows never shows."""
    volume = noise(SHAPE)
    small, large = Box((4, 4, 4), (12, 12, 12)), Box((0, 0, 0), (36, 40, 32))
    first = of_core(inference, volume, small)
    of_core(inference, volume * torch.nan, large)
    assert torch.equal(of_core(inference, volume, small), first)


def test_gradients_and_inference_mode_change_nothing(inference):
    volume, core = noise((8, 16, 24)), Box((0, 4, 3), (8, 16, 20))
    outside = of_core(inference, volume, core)
    with torch.inference_mode():
        inside = of_core(inference, volume, core)
    assert torch.equal(outside, inside)
    assert torch.equal(outside, of_core(inference, volume, core))
    outside += 1  # an ordinary tensor


def test_every_convolution_takes_onednn(inference, threads):
    """Torch's own kernels for small blocks differ in the last bits."""
    threads(1)
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        whole_pass(inference, noise((4, 4, 4)))
        of_core(inference, noise(SHAPE), Box((3, 5, 7), (4, 6, 8)))
    names = {event.key for event in trace.key_averages()}
    assert "aten::mkldnn_convolution" in names
    assert not [name for name in names if "slow_conv" in name or name in ("aten::conv3d", "aten::convolution")]


def test_a_pass_can_be_stopped(random_weights):
    class Stopped(Exception):
        pass

    calls = []

    def check():
        calls.append(None)
        if len(calls) == 20:
            raise Stopped

    inference = prepare(random_weights)
    volume, whole = noise((24, 16, 16)), Box.whole((24, 16, 16))
    with pytest.raises(Stopped):
        inference.logits(volume, whole, whole, whole.shape, check=check)
    assert len(calls) == 20
    assert torch.equal(whole_pass(inference, volume), whole_pass(prepare(random_weights), volume))


def test_threads_of_the_caller_stay_as_they_were(inference, threads):
    for count in (2, 1, 3):
        threads(count)
        whole_pass(inference, noise((8, 16, 64)))
        assert torch.get_num_threads() == count


@settings(deadline=None)
@given(shape=st.tuples(*[st.integers(1, 400)] * 3), start=st.tuples(*[st.integers(0, 9)] * 3), count=st.integers(1, 64))
def test_tiles_cover_their_box_once(shape, start, count):
    box = Box(start, tuple(a + n for a, n in zip(start, shape, strict=True)))
    tiles = tiles_of(box, count)
    assert sum(tile.size for tile in tiles) == box.size
    assert len({tile.start for tile in tiles}) == len(tiles)
    assert all(tile.size and box.contains(tile) for tile in tiles)


def test_missing_voxels_are_refused(inference):
    core = Box((0, 0, 64), (8, 12, 96))
    read = Box((0, 0, 36), (8, 12, 132))
    with pytest.raises(GeometryError, match="needs voxels"):
        inference.logits(noise(read.shape), read, core, (8, 12, 176))
    with pytest.raises(GeometryError, match="needs voxels"):
        inference.logits(noise((4, 4, 4)), read, core, (8, 12, 176))
    with pytest.raises(GeometryError, match="multiples of 4"):
        inference.logits(noise((4, 4, 4)), read, core, (8, 12, 175))


def test_bf16_needs_hardware_for_it(random_weights, monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert not bf16_supported()
    assert machine_kind().startswith("cpu ")
    assert machine_kind().endswith("oneDNN AVX2")
    with pytest.raises(SettingsError, match=r"found cpu .*: use fp32") as caught:
        prepare(random_weights, precision="bf16")
    assert "\n" not in str(caught.value)


def test_the_program_says_what_is_computed(inference):
    program = inference_program(4, precision=inference.precision)
    assert inference.program == program
    assert "up_1" not in program
    assert inference.classes == 4
