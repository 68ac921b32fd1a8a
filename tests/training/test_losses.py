from __future__ import annotations

import numpy as np
import pytest
import torch

from deepfinder_dask.training.losses import dice, dice_and_cross_entropy


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
