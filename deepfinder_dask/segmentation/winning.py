"""From logits to labels and pseudo-probabilities, voxel by voxel, on whatever device the logits are.

Every value depends on its own voxel alone and is computed in one fixed order (``torch.softmax`` is not: on the CPU its
last bits change with the size of the block).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Winner(NamedTuple):
    """The class with the largest pseudo-probability of every voxel."""

    labels: Tensor
    """(z, y, x) uint8, the first of equals."""
    probability: Tensor
    """(z, y, x) uint8, its pseudo-probability times 255, rounded to the nearest, ties to even."""


def winner(logits: Tensor) -> Winner:
    """Label map and winning pseudo-probability of logits.

    Parameters
    ----------
    logits : Tensor
        (class, z, y, x) float32.
    """
    labels, best = largest(logits)
    total = torch.zeros_like(best)
    for one in logits:
        total += torch.exp(one - best)
    return Winner(labels, _quantised(255.0 / total))  # the winner's share is exp(0) = 1


def pseudo_probabilities(logits: Tensor) -> Tensor:
    """Softmax over the classes, (class, z, y, x) float32."""
    shares = torch.exp(logits - largest(logits)[1])
    total = shares[0].clone()
    for share in shares[1:]:
        total += share
    return shares.div_(total)


def winner_of_probabilities(probabilities: Tensor) -> Winner:
    """Label map and winning pseudo-probability of (averaged) pseudo-probabilities, (class, z, y, x) float32."""
    labels, best = largest(probabilities)
    return Winner(labels, _quantised(255.0 * best))


def as_scores(probabilities: Tensor, score_type: str) -> Tensor:
    """Pseudo-probabilities as they are stored: float16, or uint8 with 255 for 1."""
    return probabilities.to(torch.float16) if score_type == "float16" else _quantised(255.0 * probabilities)


def largest(values: Tensor) -> Winner:
    """Index and value of the largest along the first axis, the first of equals: (z, y, x) uint8 and float32."""
    best = values[0].clone()
    labels = torch.zeros(best.shape, dtype=torch.uint8, device=values.device)
    for number in range(1, len(values)):
        better = values[number] > best
        labels.masked_fill_(better, number)
        torch.where(better, values[number], best, out=best)
    return Winner(labels, best)


def _quantised(values: Tensor) -> Tensor:
    return torch.round(values).to(torch.uint8)
