"""Judging a network on patches: F1 of voxels on fixed ones, and false positives in the training tomograms."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from deepfinder_dask.networks.unet import UNet
from deepfinder_dask.particles.classes import BACKGROUND, IGNORE
from deepfinder_dask.training.patches import PatchSampler, Place
from deepfinder_dask.training.state import State
from deepfinder_dask.training.steps import Engine
from deepfinder_dask.training.watching.examples import JudgedPatches

SEARCHED = 2
"""Patches searched for false positives at a check, for each patch of a batch."""
FALSE_SHARE = 0.002
"""Part of a patch's voxels that are false positives, from which on it is a hard negative."""


class FixedPatches:
    """Validation patches, read once, and the truth in them."""

    def __init__(self, sampler: PatchSampler) -> None:
        patches = sampler.draw(0)
        values, self.truth = sampler.read(patches)
        self.values = torch.from_numpy(values)
        self.known = sampler.knowledge(patches)
        self.found = np.zeros_like(self.truth)

    def judge(self, engine: Engine, network: UNet) -> tuple[dict[str, float], bool]:
        """``f1_<label>``, ``precision_<label>`` and ``recall_<label>`` of each class, ``f1``, the mean of the first,
        and whether all logits are finite.
        """
        labels, finite = engine.predict(network, self.values)
        self.found = labels.numpy()
        named: dict[str, float] = {}
        for label, (precision, recall, f1) in scores_of_voxels(
            self.found, self.truth, network.classes, self.known
        ).items():
            named |= {f"f1_{label}": f1, f"precision_{label}": precision, f"recall_{label}": recall}
        f1s = [score for key, score in named.items() if key.startswith("f1_")]
        return named | {"f1": float(np.mean(f1s))}, finite

    def judged(self) -> JudgedPatches:
        """The patches, and what the network found in them when it was judged last."""
        return JudgedPatches(self.values[:, 0].numpy(), self.truth, self.found)


def scores_of_voxels(
    found: NDArray[np.uint8], truth: NDArray[np.integer], classes: int, known: NDArray[np.bool_] | None = None
) -> Mapping[int, tuple[float, float, float]]:
    """Precision, recall and F1 of the voxels of each class but the background.

    Precision is 1 where nothing was found, recall where there is nothing to find. Voxels that are 255 (ignore) in
    ``truth`` do not count.

    Parameters
    ----------
    found, truth : (n, z, y, x)
    classes : int
        Number of classes, background among them.
    known : (n, class) bool, optional
        Which classes are annotated in each patch; others do not count there.
    """
    scores = {}
    for label in range(1, classes):
        counted = truth != IGNORE
        if known is not None:
            counted &= known[:, label, None, None, None]
        predicted, actual = (found == label) & counted, (truth == label) & counted
        hits, there, all_found = int((predicted & actual).sum()), int(actual.sum()), int(predicted.sum())
        scores[label] = (
            hits / all_found if all_found else 1.0,
            hits / there if there else 1.0,
            2 * hits / (all_found + there) if all_found + there else 1.0,
        )
    return scores


def f1_of_voxels(
    found: NDArray[np.uint8], truth: NDArray[np.integer], classes: int, known: NDArray[np.bool_] | None = None
) -> Mapping[int, float]:
    """F1 of the voxels of each class but the background, of those that `scores_of_voxels` gives; 1 for a class absent
    from both.
    """
    return {label: f1 for label, (_, _, f1) in scores_of_voxels(found, truth, classes, known).items()}


def find_hard_negatives(engine: Engine, state: State, training: PatchSampler) -> list[Place]:
    """Places in the training tomograms where the network finds particles that are none.

    Patches anywhere are searched, which depend on the seed and the step alone.

    Returns
    -------
    list of Place
        Centroids of the false positives of a patch, worst patch first; at most as many as a batch has patches.
    """
    rng = np.random.default_rng([training.seed, state.step, 2])
    patches = [training.anywhere(rng) for _ in range(SEARCHED * training.batch)]
    worst: list[tuple[int, Place]] = []
    for patch in patches:  # one by one: memory is that of one patch
        values, truth = training.read([patch])
        found = engine.predict(state.judged, torch.from_numpy(values))[0].numpy()
        tomogram = training.tomograms[patch.tomogram]
        real = tomogram.knows(state.network.classes)[found[0]]
        false = np.argwhere((found[0] != BACKGROUND) & (truth[0] == BACKGROUND) & real)
        if len(false) > FALSE_SHARE * found[0].size:
            z, y, x = (float(v) for v in false.mean(axis=0) + patch.box.start)
            worst.append((len(false), (patch.tomogram, z, y, x)))
    worst.sort(key=lambda one: -one[0])
    return [place for _, place in worst[: training.batch]]
