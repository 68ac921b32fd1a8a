"""What training minimises: Dice, Tversky, cross-entropy, and sums of them.

A loss is a function of a few sums over the voxels of a batch. So a batch may be shared between threads and processes:
each sums over its part, and the gradient of the loss by the sums is the same for all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from deepfinder_dask.particles.classes import IGNORE

EPSILON = 1.0
"""Voxels added to numerator and denominator of Dice: a class that is absent and not predicted has Dice 1, never 0/0."""


@dataclass(frozen=True)
class Loss:
    """One of the losses, or the sum of two; finite for finite logits, whatever classes a batch lacks.

    Sources: Dice, Milletari et al. 2016; Tversky, Salehi et al. 2017 (equal weights of 0.5 make it Dice).
    """

    name: str = "dice+cross-entropy"
    """``dice``, ``tversky``, ``cross-entropy``, or one of the first two ``+cross-entropy``."""
    false_positives: float = 0.5
    """Weight of voxels found in excess (Tversky)."""
    false_negatives: float = 0.5
    """Weight of voxels missed (Tversky)."""

    def __call__(self, logits: Tensor, labels: Tensor, annotated: Tensor | None = None) -> Tensor:
        """The loss of a batch, (), float32; parameters as for :meth:`sums`."""
        return self.value(self.sums(logits, labels, annotated))

    def sums(self, logits: Tensor, labels: Tensor, annotated: Tensor | None = None) -> Tensor:
        """Sums over voxels that the loss follows from; those of the parts of a batch add up to those of the batch.

        Parameters
        ----------
        logits : (n, class, z, y, x) float
        labels : (n, z, y, x) integer
            Labels; 255 is ignored.
        annotated : (n, class) bool, optional
            Which classes are annotated in the tomogram of each patch; default all. A class that is not is taken
            for background: which of the two a voxel is given brings no loss.

        Returns
        -------
        sums : (3 * class + 2,) float32
            By class the voxels found and true, found, and true; cross-entropy; number of voxels that are not ignored.
        """
        logits, labels = logits.float(), labels.long()
        log_shares = F.log_softmax(logits, 1)
        shares = log_shares.exp()
        if annotated is not None:
            log_shares, shares = _as_background(log_shares, shares, annotated)
        known = (labels != IGNORE).unsqueeze(1)
        truth = torch.zeros_like(shares).scatter_(1, (labels * known[:, 0]).unsqueeze(1), 1.0) * known
        found = shares * known
        over = (0, 2, 3, 4)
        entropy = F.nll_loss(log_shares, labels, ignore_index=IGNORE, reduction="sum")
        count = known.sum().to(entropy)
        return torch.cat(
            [(found * truth).sum(over), found.sum(over), truth.sum(over), entropy.reshape(1), count.reshape(1)]
        )

    def value(self, sums: Tensor) -> Tensor:
        """The loss that follows from sums, ()."""
        classes = (len(sums) - 2) // 3
        both, found, true = sums[:classes], sums[classes : 2 * classes], sums[2 * classes : 3 * classes]
        loss = sums.new_zeros(())
        if "cross-entropy" in self.name:
            loss = loss + sums[-2] / sums[-1].clamp(min=1)
        if "dice" in self.name:
            loss = loss + 1 - _dice(both, found, true).mean()
        elif "tversky" in self.name:
            wrong = self.false_positives * (found - both) + self.false_negatives * (true - both)
            loss = loss + 1 - ((both + EPSILON / 2) / (both + wrong + EPSILON / 2)).mean()
        return loss


def dice(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Dice coefficient of each class over a whole batch.

    Parameters
    ----------
    probabilities : (n, class, z, y, x) float32
        Pseudo-probabilities.
    labels : (n, z, y, x) integer
        Labels; voxels of 255 (ignore) do not count.

    Returns
    -------
    coefficients : (class,) float32
        0 (no overlap) to 1.
    """
    labels = labels.long()
    known = (labels != IGNORE).unsqueeze(1)
    truth = torch.zeros_like(probabilities).scatter_(1, (labels * known[:, 0]).unsqueeze(1), 1.0) * known
    found = probabilities * known
    over = (0, 2, 3, 4)
    return _dice((found * truth).sum(over), found.sum(over), truth.sum(over))


def dice_and_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """One minus the mean Dice coefficient, plus the mean cross-entropy.

    Parameters
    ----------
    logits : (n, class, z, y, x) float32
    labels : (n, z, y, x) integer
        Labels; 255 is ignored.

    Returns
    -------
    loss : () float32
        Finite for finite logits, also where a class is absent or every voxel is ignored.
    """
    return Loss()(logits, labels)


def _dice(both: Tensor, found: Tensor, true: Tensor) -> Tensor:
    return (2 * both + EPSILON) / (found + true + EPSILON)


def _as_background(log_shares: Tensor, shares: Tensor, annotated: Tensor) -> tuple[Tensor, Tensor]:
    """Pseudo-probabilities of the classes that are annotated; those of others are added to the background's."""
    own = annotated.to(shares.device)[:, :, None, None, None]
    pooled = own.clone()
    pooled[:, 0] = False  # the background's own share, and all that are not annotated
    background = log_shares.masked_fill(pooled, -torch.inf).logsumexp(1, keepdim=True)
    # A finite stand-in for log 0: such labels do not occur, and gradients through an infinity would be 0 · ∞.
    log_shares = torch.cat([background, log_shares[:, 1:].masked_fill(~own[:, 1:], 0.0)], 1)
    return log_shares, torch.cat([background.exp(), shares[:, 1:] * own[:, 1:]], 1)
