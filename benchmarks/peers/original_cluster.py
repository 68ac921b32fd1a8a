"""The original DeepFinder's clustering, run by the Python of .venv-peers/ (`make peers`).

Used by benchmarks/clustering.py::

    original_cluster.py FOLDER BANDWIDTH REPORT     FOLDER/labels.npy -> FOLDER/original-BANDWIDTH.npy

The result has a row for each object, in the order of the original's list: z, y, x, label, size.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from lib.measure import measured, report


def main() -> None:
    """Cluster the label map with the library's call."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    folder, bandwidth, path = sys.argv[1:]
    from deepfinder.inference import Cluster

    labels = np.load(Path(folder, "labels.npy"))
    figures, found = measured(lambda: Cluster(clustRadius=int(bandwidth)).launch(labels))
    names = ("z", "y", "x", "label", "cluster_size")
    rows = np.array([[float(one[name]) for name in names] for one in found]).reshape(-1, 5)
    np.save(Path(folder, f"original-{bandwidth}.npy"), rows)
    report(path, {**figures, "found": len(rows)})


if __name__ == "__main__":
    main()
