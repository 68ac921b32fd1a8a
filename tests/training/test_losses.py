from __future__ import annotations

import numpy as np
import pytest
import torch

from deepfinder_dask.training.losses import Loss, dice, dice_and_cross_entropy


def one_hot(labels, classes):
    return torch.nn.functional.one_hot(labels, classes).movedim(-1, 1).float()


def test_dice_against_its_definition():
    rng = np.random.default_rng(0)
    truth, found = torch.from_numpy(rng.integers(0, 3, size=(2, 2, 6, 6, 6)))
    got = dice(one_hot(found, 3), truth).numpy()
    for label in range(3):
        a, b = (found == label).sum(), (truth == label).sum()
        both = ((found == label) & (truth == label)).sum()
        assert got[label] == pytest.approx(float((2 * both + 1) / (a + b + 1)))


def test_perfect_and_absent_classes_have_dice_one():
    truth = torch.zeros((1, 4, 4, 4), dtype=torch.int64)
    assert dice(one_hot(truth, 3), truth).tolist() == [1, 1, 1]


@pytest.mark.parametrize("fill", [0, 1, 255])
def test_loss_and_gradient_are_finite_whatever_is_absent(fill):
    logits = torch.randn(2, 4, 4, 4, 4, requires_grad=True)
    loss = dice_and_cross_entropy(logits, torch.full((2, 4, 4, 4), fill))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()


def test_ignored_voxels_do_not_count():
    torch.manual_seed(0)
    logits, labels = torch.randn(1, 3, 4, 4, 4), torch.randint(0, 3, (1, 4, 4, 4))
    labels[..., 2:] = 255
    changed = logits.clone()
    changed[..., 2:] = 100 * torch.randn(1, 3, 4, 4, 2)
    assert dice_and_cross_entropy(logits, labels) == dice_and_cross_entropy(changed, labels)
    part = dice_and_cross_entropy(logits[..., :2], labels[..., :2])
    assert dice_and_cross_entropy(logits, labels) == pytest.approx(float(part))


def test_better_predictions_have_a_smaller_loss():
    labels = torch.randint(0, 3, (1, 6, 6, 6))
    losses = [float(dice_and_cross_entropy(k * one_hot(labels, 3), labels)) for k in (0, 2, 10, 30)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 1e-3


LOSSES = [
    Loss(),
    Loss("dice"),
    Loss("cross-entropy"),
    Loss("tversky", 0.3, 0.7),
    Loss("tversky+cross-entropy", 0.3, 0.7),
]


def test_tversky_against_its_definition():
    rng = np.random.default_rng(1)
    truth, found = torch.from_numpy(rng.integers(0, 3, size=(2, 2, 6, 6, 6)))
    value = float(Loss("tversky", 0.3, 0.7)(200 * one_hot(found, 3), truth))
    indices = []
    for label in range(3):
        hit = int(((found == label) & (truth == label)).sum())
        excess, missed = int((found == label).sum()) - hit, int((truth == label).sum()) - hit
        indices.append((hit + 0.5) / (hit + 0.3 * excess + 0.7 * missed + 0.5))
    assert value == pytest.approx(1 - np.mean(indices), abs=1e-5)
    dice_value = Loss("dice")(200 * one_hot(found, 3), truth)
    assert float(Loss("tversky")(200 * one_hot(found, 3), truth)) == pytest.approx(float(dice_value), abs=1e-6)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda one: one.name)
def test_parts_of_a_batch_add_up_to_its_loss(loss):
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 3, 4, 4, 4), torch.randint(0, 3, (5, 4, 4, 4))
    labels[2] = 255
    parts = sum(loss.sums(logits[a:b], labels[a:b]) for a, b in ((0, 2), (2, 3), (3, 5)))
    assert float(loss.value(parts)) == pytest.approx(float(loss(logits, labels)), rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda one: one.name)
@pytest.mark.parametrize("fill", [0, 2, 255])
def test_every_loss_is_finite_whatever_a_batch_lacks(loss, fill):
    logits = (50 * torch.randn(2, 4, 4, 4, 4)).requires_grad_()
    known = torch.tensor([[True, False, True, False], [True, True, True, False]])
    for annotated in (None, known):
        value = loss(logits, torch.full((2, 4, 4, 4), fill), annotated)
        (gradient,) = torch.autograd.grad(value, logits)
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("loss", LOSSES, ids=lambda one: one.name)
def test_a_class_that_is_not_annotated_brings_no_loss(loss):
    """Whether the network calls background of the first patch class 1 or not: no difference, there alone."""
    torch.manual_seed(0)
    labels = torch.zeros((2, 4, 4, 4), dtype=torch.int64)
    labels[:, 0] = 2
    known = torch.tensor([[True, False, True], [True, True, True]])

    def value(first, second, annotated):
        called = torch.stack([torch.full((4, 4, 4), first), torch.full((4, 4, 4), second)])
        called[:, 0] = 2
        return float(loss(20 * one_hot(called, 3), labels, annotated))

    assert value(1, 0, known) == pytest.approx(value(0, 0, known), abs=1e-5)
    assert value(1, 0, None) > value(0, 0, None) + 0.05
    assert value(0, 1, known) > value(0, 0, known) + 0.05
    assert value(2, 0, known) > value(0, 0, known) + 0.05
    assert value(0, 1, torch.ones((2, 3), dtype=torch.bool)) == pytest.approx(value(0, 1, None), abs=1e-6)
