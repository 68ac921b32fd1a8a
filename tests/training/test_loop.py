from __future__ import annotations

import numpy as np
import pytest
import torch

from deepfinder_dask.errors import PartialFailure
from deepfinder_dask.networks.unet import UNet
from deepfinder_dask.tomograms import Scaling
from deepfinder_dask.training.judging import f1_of_voxels, find_hard_negatives
from deepfinder_dask.training.loading import AHEAD, Batch
from deepfinder_dask.training.loop import run
from deepfinder_dask.training.losses import Loss, dice_and_cross_entropy
from deepfinder_dask.training.patches import Annotated, ArraySource, PatchSampler
from deepfinder_dask.training.state import Schedule, new_state
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
        Scaling(float(values.mean()), float(values.std())),
        np.full((1, 3), 7.5),
        np.ones(1, dtype=np.int64),
    )
    return PatchSampler([one], size=16, batch=2, shift=0, seed=0, background=True)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_sharing_a_batch_gives_the_gradients_of_one_pass(threads):
    torch.manual_seed(0)
    network = UNet(3)
    values, labels = torch.randn(3, 1, 8, 8, 8), torch.randint(0, 3, (3, 8, 8, 8))
    loss = dice_and_cross_entropy(network(values), labels)
    wanted = torch.autograd.grad(loss, list(network.parameters()))
    before = torch.get_num_threads()
    with open_workers(threads) as workers:
        got = workers.gradients(network, Batch(values, labels), Loss())
    assert torch.get_num_threads() == before
    assert got == pytest.approx(float(loss.detach()), rel=1e-5)
    for parameter, gradient in zip(network.parameters(), wanted, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-4 * float(gradient.abs().max()) + 1e-7)


def test_mixed_precision_computes_layers_in_bf16_and_gradients_in_fp32():
    torch.manual_seed(0)
    network = UNet(3)
    values, labels = torch.randn(2, 1, 8, 8, 8), torch.randint(0, 3, (2, 8, 8, 8))
    exact = float(dice_and_cross_entropy(network(values), labels).detach())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(values)
    loss = dice_and_cross_entropy(logits, labels)
    wanted = torch.autograd.grad(loss, list(network.parameters()))
    with open_workers(2, "bf16") as workers:
        value = workers.gradients(network, Batch(values, labels), Loss())
    assert value == pytest.approx(float(loss.detach()), rel=1e-4)
    assert value == pytest.approx(exact, rel=0.05)
    assert value != exact, "it is not fp32"
    for parameter, gradient in zip(network.parameters(), wanted, strict=True):
        assert parameter.grad.dtype == torch.float32
        assert (parameter.grad - gradient).norm() < 0.1 * gradient.norm() + 1e-5


@pytest.mark.slow
def test_a_tiny_batch_is_learnt_by_heart(sampler):
    schedule = Schedule(steps=25, learning_rate=2e-3, warm_up=3, check_every=25)
    state = new_state(2, schedule)
    improvements = []
    run(state, sampler, sampler, schedule, lambda _, improved: improvements.append(improved))
    losses = [entry["loss"] for entry in state.record]
    assert losses[-1] < 0.4 * losses[0]
    assert state.record[-1]["f1_1"] == state.best > 0.8
    assert improvements == [False] * 24 + [True]


def test_not_a_number_stops_and_keeps_the_last_good_weights(sampler):
    schedule = Schedule(steps=10, learning_rate=1e30, warm_up=1, check_every=10)
    state = new_state(2, schedule)
    with pytest.raises(PartialFailure, match=r"step [23] of 10.*last good weights are kept.*lower learning_rate"):
        run(state, sampler, sampler, schedule, lambda *_: None)
    assert all(torch.isfinite(p).all() for p in state.network.parameters())
    with torch.no_grad():
        logits = state.network(torch.from_numpy(sampler.read(sampler.draw(0))[0]))
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize(("check_every", "rate"), [(1, float("inf")), (1, 1e30), (10, float("inf"))])
def test_weights_that_overflow_are_not_kept(sampler, check_every, rate):
    """The very first step ruins the weights, whether or not a check follows it."""
    schedule = Schedule(steps=10, learning_rate=rate, warm_up=1, check_every=check_every, average=0.9)
    state = new_state(2, schedule)
    first = [p.clone() for p in state.network.parameters()]
    kept = []
    with pytest.raises(PartialFailure, match=r"training stopped at step [12] of 10: .*not finite"):
        run(state, sampler, sampler, schedule, lambda s, _: kept.append(s.step))
    for weights in (state.network, state.averaged):
        assert all(torch.equal(a, b) for a, b in zip(first, weights.parameters(), strict=True))
    assert len(state.record) == state.step == len(kept)


def test_patience_ends_a_run_that_no_longer_gets_better(sampler):
    schedule = Schedule(steps=50, learning_rate=1e-12, warm_up=1, check_every=1, patience=2)
    state = new_state(2, schedule)
    improvements = []
    run(state, sampler, sampler, schedule, lambda _, improved: improvements.append(improved))
    assert improvements == [True, False, False]
    assert state.stopped
    run(state, sampler, sampler, schedule, lambda *_: pytest.fail("it has ended"))


def test_the_average_follows_the_weights():
    schedule = Schedule(steps=10, average=0.5)
    state = new_state(2, schedule)
    start = next(state.network.parameters()).detach().clone()
    assert torch.equal(start, next(state.judged.parameters()))
    state.step = 100
    with torch.no_grad():
        for parameter in state.network.parameters():
            parameter.add_(1.0)
    state.move_average(0.5)
    assert torch.allclose(next(state.judged.parameters()), start + 0.5)
    assert state.judged is not state.network
    state.step = 1  # the first steps count for more
    state.move_average(0.999)
    assert torch.allclose(next(state.judged.parameters()), start + 0.95)


def test_hard_negatives_are_used_when_no_loader_can_have_drawn_without_them():
    state = new_state(2, Schedule(steps=10))
    used = {}
    for state.step in range(0, 30, 2):
        state.add_hard([(0, float(state.step), 0.0, 0.0)])
        for ahead in range(1, AHEAD + 1):  # what a loader has drawn by now stays what it was
            assert used.get(state.step + ahead, state.hard_at(state.step + ahead)) == state.hard_at(state.step + ahead)
        used |= {step: state.hard_at(step) for step in range(state.step, state.step + 10)}
        assert len(state.hard) <= AHEAD + 1
    assert used[10] == [(0, 6.0, 0.0, 0.0)]
    assert new_state(2, Schedule(steps=10)).hard_at(5) == []


def test_false_positives_in_the_training_tomograms_become_hard_negatives(sampler):
    """A network that sees class 1 everywhere is told where it is wrong; one that sees nothing is not."""
    state = new_state(2, Schedule(steps=10))
    with torch.no_grad():
        state.network.bias("classify").copy_(torch.tensor([0.0, 1e6]))
    with open_workers(1) as workers:
        (place, *_) = find_hard_negatives(workers, state, sampler)
        with torch.no_grad():
            state.network.bias("classify").copy_(torch.tensor([1e6, 0.0]))
        assert find_hard_negatives(workers, state, sampler) == []
    assert place[0] == 0
    assert np.allclose(place[1:], 7.5, atol=0.1), "the centroid of all that is not the ball"


def test_the_learning_rate_rises_then_falls_to_nothing():
    schedule = Schedule(steps=100, learning_rate=1.0, warm_up=10)
    rates = [schedule.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == pytest.approx(0.91)
    assert rates[-1] == pytest.approx(0.01)
    steady = Schedule(steps=100, learning_rate=1.0, warm_up=10, decay="constant")
    assert [steady.rate(step) for step in (0, 9, 99)] == [pytest.approx(0.1), 1.0, 1.0]


def test_first_weights_depend_on_the_seed_alone():
    state, again, other = (new_state(2, Schedule(1, seed=seed)).network for seed in (1, 1, 2))
    weights = [next(iter(n.parameters())) for n in (state, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_f1_of_voxels():
    truth = np.array([1, 1, 1, 2, 0, 255]).reshape(1, 1, 1, 6)
    found = np.array([1, 1, 0, 0, 1, 2], dtype=np.uint8).reshape(1, 1, 1, 6)
    assert f1_of_voxels(found, truth, 4) == {1: pytest.approx(2 / 3), 2: 0.0, 3: 1.0}
    known = np.array([[True, False, True, True]])
    assert f1_of_voxels(found, truth, 4, known) == {1: 1.0, 2: 0.0, 3: 1.0}
