"""What training minimises: Dice and cross-entropy."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from deepfinder_dask.particles.classes import IGNORE

EPSILON = 1.0
"""Voxels added to numerator and denominator of Dice: a class that is absent and not predicted has Dice 1, never 0/0."""


def dice(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Dice coefficient of each class over a whole batch.

    Parameters
    ----------
    probabilities : (n, class, z, y, x) float32
        Pseudo-probabilities.
    labels : (n, z, y, x) int64
        Labels; voxels of 255 (ignore) do not count.

    Returns
    -------
    coefficients : (class,) float32
        0 (no overlap) to 1.
    """
    known = (labels != IGNORE).unsqueeze(1)
    truth = torch.zeros_like(probabilities).scatter_(1, (labels * known[:, 0]).unsqueeze(1), 1.0) * known
    found = probabilities * known
    over = (0, 2, 3, 4)
    return (2 * (found * truth).sum(over) + EPSILON) / (found.sum(over) + truth.sum(over) + EPSILON)


def dice_and_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """One minus the mean Dice coefficient, plus the mean cross-entropy.

    Parameters
    ----------
    logits : (n, class, z, y, x) float32
    labels : (n, z, y, x) int64
        Labels; 255 is ignored.

    Returns
    -------
    loss : () float32
        Finite for finite logits, also where a class is absent or every voxel is ignored.
    """
    known = (labels != IGNORE).sum()
    entropy = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum") / known.clamp(min=1)
    return 1 - dice(logits.softmax(1), labels).mean() + entropy
