"""One block of a segmentation: read with halo, normalise, network, winner, write."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepfinder_dask.blocks import Block
from deepfinder_dask.networks import UNet, Weights, forward_core, needed_regions, padded_shape
from deepfinder_dask.networks.unet import INPUT
from deepfinder_dask.tomograms import Volume


@dataclass(frozen=True)
class SegmentBlock:
    """Segments one block after another: called with a :class:`Block`, writes its shards, returns its cost."""

    tomogram: Volume
    """Grey values, (z, y, x)."""
    weights: Weights
    """The network."""
    mean: float
    """Mean grey value of the whole tomogram."""
    std: float
    """Standard deviation of the grey values of the whole tomogram."""
    invert: bool
    """Whether to turn the contrast over."""
    labels: Volume
    """Where the label map goes, (z, y, x) uint8."""
    probability: Volume
    """Where the winning class's pseudo-probability goes, (z, y, x) uint8, 255 is 1."""
    scores: Volume | None
    """Where the pseudo-probabilities of all classes go, (class, z, y, x) float16."""

    def __call__(self, block: Block) -> dict[str, Any]:
        """Segment one block.

        Parameters
        ----------
        block : Block
            Its ``write`` box is whole shards of the outputs.

        Returns
        -------
        dict
            ``block`` (its number) and ``seconds``.
        """
        started = time.perf_counter()
        with torch.inference_mode():
            logits = self.logits(block)
            labels, probability, scores = winner(logits, keep_scores=self.scores is not None)
        self.labels.write(block.write, labels)
        self.probability.write(block.write, probability)
        if self.scores is not None and scores is not None:
            self.scores.write(block.write, scores)
        return {"block": block.number, "seconds": time.perf_counter() - started}

    def logits(self, block: Block) -> Tensor:
        """Logits of a block's core, (class, z, y, x) float32: bit-identical to one pass over the whole volume."""
        network = network_of(self.weights)
        shape = self.tomogram.space
        padded = padded_shape(shape)
        read = needed_regions(network.program, block.write, padded)[INPUT]
        held = read.clip(shape)
        x = np.zeros(read.shape, np.float32)  # what lies beyond the volume's high side stays zero
        x[held.within(read).slices()] = normalise(self.tomogram.read(held), self.mean, self.std, invert=self.invert)
        return forward_core(network, torch.from_numpy(x)[None, None], read, block.write, padded)[0]


def normalise(values: NDArray[Any], mean: float, std: float, *, invert: bool = False) -> NDArray[np.float32]:
    """Grey values with mean 0 and standard deviation 1 over the tomogram.

    Parameters
    ----------
    values : ndarray
        Grey values, any shape, any real dtype.
    mean, std : float
        Statistics of the whole tomogram; ``std`` above 0.
    invert : bool
        Turn the contrast over.

    Returns
    -------
    ndarray
        float32, same shape.
    """
    normal = values.astype(np.float32)
    normal -= np.float32(mean)
    normal /= np.float32(-std if invert else std)
    return normal


def winner(
    logits: Tensor, *, keep_scores: bool
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float16] | None]:
    """Label map and pseudo-probabilities of logits.

    Every value depends on its own voxel alone and is computed in one fixed order (``torch.softmax`` is not: its last
    bits change with the size of the block).

    Parameters
    ----------
    logits : Tensor
        (class, z, y, x) float32.
    keep_scores : bool
        Whether to return the pseudo-probabilities of all classes.

    Returns
    -------
    labels : ndarray
        (z, y, x) uint8, the class with the largest logit, the first of equals.
    probability : ndarray
        (z, y, x) uint8, its pseudo-probability (softmax) times 255, rounded to the nearest, ties to even.
    scores : ndarray or None
        (class, z, y, x) float16.
    """
    logits = logits.contiguous()
    best = logits[0].clone()
    labels = torch.zeros(best.shape, dtype=torch.uint8)
    for number in range(1, len(logits)):
        better = logits[number] > best
        labels.masked_fill_(better, number)
        torch.where(better, logits[number], best, out=best)
    shares = torch.exp(logits - best)
    total = shares[0].clone()
    for share in shares[1:]:
        total += share
    probability = torch.round(255.0 / total).to(torch.uint8)  # the winner's share is exp(0) = 1
    scores = (shares / total).to(torch.float16).numpy() if keep_scores else None
    return labels.numpy(), probability.numpy(), scores


_networks: dict[str, UNet] = {}


def network_of(weights: Weights) -> UNet:
    """The network of these weights, built once in a process."""
    network = _networks.get(weights.sha256)
    if network is None:
        _networks.clear()  # one network in memory at a time
        network = _networks[weights.sha256] = weights.build()
    return network
