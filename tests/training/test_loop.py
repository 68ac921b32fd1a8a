from __future__ import annotations

import numpy as np
import pytest
import torch

from deepfinder_dask.errors import PartialFailure
from deepfinder_dask.networks.unet import UNet
from deepfinder_dask.training.loop import Schedule, f1_of_voxels, new_state, run
from deepfinder_dask.training.losses import dice_and_cross_entropy
from deepfinder_dask.training.patches import Annotated, ArraySource, PatchSampler
from deepfinder_dask.training.steps import open_workers


@pytest.fixture(scope="module")
def sampler():
    """A dark ball in noise."""
    grid = np.stack(np.meshgrid(*[np.arange(16)] * 3, indexing="ij"))
    ball = ((grid - 7.5) ** 2).sum(axis=0) < 16
    values = np.random.default_rng(0).normal(size=ball.shape).astype(np.float32) - 3 * ball
    one = Annotated(
        "ball",
        ball.shape,
        ArraySource(values),
        ArraySource(ball.astype(np.uint8)),
        float(values.mean()),
        float(values.std()),
        np.full((1, 3), 7.5),
        np.ones(1, dtype=np.int64),
    )
    return PatchSampler([one], size=16, batch=2, shift=0, seed=0)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_sharing_a_batch_gives_the_gradients_of_one_pass(threads):
    torch.manual_seed(0)
    network = UNet(3)
    values, labels = torch.randn(3, 1, 8, 8, 8), torch.randint(0, 3, (3, 8, 8, 8))
    loss = dice_and_cross_entropy(network(values), labels)
    wanted = torch.autograd.grad(loss, list(network.parameters()))
    before = torch.get_num_threads()
    with open_workers(threads) as workers:
        got = workers.gradients(network, values, labels, dice_and_cross_entropy)
    assert torch.get_num_threads() == before
    assert got == pytest.approx(float(loss.detach()), rel=1e-5)
    for parameter, gradient in zip(network.parameters(), wanted, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-4 * float(gradient.abs().max()) + 1e-7)


def test_a_tiny_batch_is_learnt_by_heart(sampler):
    schedule = Schedule(steps=25, learning_rate=2e-3, warm_up=3, threads=2, check_every=25)
    state = new_state(2, schedule)
    improvements = []
    run(state, sampler, sampler, schedule, lambda _, improved: improvements.append(improved))
    losses = [entry["loss"] for entry in state.record]
    assert losses[-1] < 0.4 * losses[0]
    assert state.record[-1]["f1_1"] == state.best > 0.8
    assert improvements == [False] * 24 + [True]


def test_not_a_number_stops_and_keeps_the_last_good_weights(sampler):
    schedule = Schedule(steps=10, learning_rate=1e30, warm_up=1, threads=1, check_every=10)
    state = new_state(2, schedule)
    with pytest.raises(PartialFailure, match=r"step [23] of 10.*last good weights are kept.*lower learning_rate"):
        run(state, sampler, sampler, schedule, lambda *_: None)
    assert all(torch.isfinite(p).all() for p in state.network.parameters())
    with torch.no_grad():
        logits = state.network(torch.from_numpy(sampler.read(sampler.draw(0))[0]))
    assert torch.isfinite(logits).all()


def test_the_learning_rate_rises_then_falls_to_nothing():
    schedule = Schedule(steps=100, learning_rate=1.0, warm_up=10)
    rates = [schedule.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == pytest.approx(0.91)
    assert rates[-1] == pytest.approx(0.01)


def test_first_weights_depend_on_the_seed_alone():
    state, again, other = (new_state(2, Schedule(1, seed=seed)).network for seed in (1, 1, 2))
    weights = [next(iter(n.parameters())) for n in (state, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_f1_of_voxels():
    truth = np.array([1, 1, 1, 2, 0, 255]).reshape(1, 1, 1, 6)
    found = np.array([1, 1, 0, 0, 1, 2], dtype=np.uint8).reshape(1, 1, 1, 6)
    assert f1_of_voxels(found, truth, 4) == {1: pytest.approx(2 / 3), 2: 0.0, 3: 1.0}
