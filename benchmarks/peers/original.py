"""The original DeepFinder, run as a program of its own by the Python of .venv-peers/ (`make peers`).

Used by benchmarks/segmentation.py::

    original.py network FOLDER CLASSES REPORT     its network with random weights and biases -> FOLDER/original.h5
    original.py segment FOLDER CLASSES PATCH REPORT    FOLDER/tomogram.npy -> FOLDER/original.npy

Nothing is downloaded. PATCH is ``default`` for the size that the library takes by itself.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from lib.measure import measured, report

PROBE = 48
"""Voxels of a cube on which its network alone is compared with ours: a multiple of 4."""


def make_network(folder: Path, classes: int) -> None:
    """Save the original's network with random weights and biases, from a seed."""
    from deepfinder import models

    network = models.my_model(PROBE, classes)
    rng = np.random.default_rng(0)
    values = []
    for old in network.get_weights():
        # Kernels are (z, y, x, in, out): this spread keeps the size of the activations from layer to layer.
        spread = (2 / np.prod(old.shape[:-1])) ** 0.5 if old.ndim > 1 else 0.1
        values.append(rng.normal(scale=spread, size=old.shape).astype(np.float32))
    network.set_weights(values)
    network.save_weights(str(folder / "original.h5"))


def segment(folder: Path, classes: int, patch: str) -> dict[str, object]:
    """Segment with the library's call, at its own settings; the label map and what one patch alone gives are saved."""
    from deepfinder import models
    from deepfinder.inference import Segment
    from deepfinder.utils import smap

    tomogram = np.load(folder / "tomogram.npy")
    choice = {} if patch == "default" else {"patch_size": int(patch)}
    segmenter = Segment(Ncl=classes, path_weights=str(folder / "original.h5"), **choice)
    figures, scores = measured(lambda: segmenter.launch(tomogram))
    labels_figures, labels = measured(lambda: smap.to_labelmap(scores))
    np.save(folder / "original.npy", labels)
    size = min(PROBE, *(n // 4 * 4 for n in tomogram.shape))
    part = tomogram[:size, :size, :size]
    network = models.my_model(size, classes)
    network.load_weights(str(folder / "original.h5"))
    part = (part - part.mean()) / part.std()
    np.savez(folder / "probe.npz", x=part, scores=network.predict(part[None, ..., None], verbose=0)[0])
    return {
        **figures,
        "patch": segmenter.P,
        "labels_cpu_seconds": labels_figures["cpu_seconds"],
        "labels_seconds": labels_figures["seconds"],
    }


def main() -> None:
    """Do the job that the words ask for."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    job, folder, classes, *rest = sys.argv[1:]
    if job == "network":
        make_network(Path(folder), int(classes))
        report(rest[0], {})
    else:
        report(rest[1], segment(Path(folder), int(classes), rest[0]))


if __name__ == "__main__":
    main()
