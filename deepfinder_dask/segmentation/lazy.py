"""A segmentation as lazy Dask arrays, to be composed with a user's own graph: nothing is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Box, triple
from deepfinder_dask.errors import SettingsError
from deepfinder_dask.execution import SerialExecutor, options_to_settings
from deepfinder_dask.networks import Weights, load_weights
from deepfinder_dask.segmentation.block import Classifier
from deepfinder_dask.segmentation.job import settle
from deepfinder_dask.segmentation.settings import SegmentSettings
from deepfinder_dask.segmentation.store import LazySegmentation
from deepfinder_dask.tomograms import Tomogram


def segment_lazily(
    tomogram: Tomogram | str | Path,
    weights: Weights | str | Path,
    settings: SegmentSettings | None = None,
    **options: Any,
) -> LazySegmentation:
    """Label map, probability and scores of a tomogram as lazy Dask arrays.

    Each block is one task that reads what it needs straight from the tomogram's store; there are no edges between
    blocks. The values are those that :func:`~deepfinder_dask.segment` writes. Blocks are planned for the machine that
    calls this; workers of another kind refuse them.

    Parameters
    ----------
    tomogram, weights, settings, **options
        As for :func:`~deepfinder_dask.segment`; ``workers``, ``scheduler`` and ``overwrite`` say nothing here, since
        whoever computes the arrays says where.

    Raises
    ------
    InputError
        As :func:`~deepfinder_dask.segment`.
    SettingsError
        If the tomogram would have to be rescaled, which needs a store: rescale it first.
    """
    import dask.array
    from dask.base import tokenize
    from dask.delayed import delayed

    settings = options_to_settings(SegmentSettings, settings, options)
    tomogram = tomogram if isinstance(tomogram, Tomogram) else Tomogram.open(tomogram)
    weights = weights if isinstance(weights, Weights) else load_weights(weights)
    job = settle(tomogram, weights, settings, SerialExecutor())
    if job.scale is not None:
        raise SettingsError("a lazy segmentation cannot resample the tomogram: segment it into a store with --rescale")
    grid = job.plan.grid
    chunks = tuple(
        tuple(min(c, n - start) for start in range(0, n, c)) for n, c in zip(grid.shape, grid.core, strict=True)
    )
    token = tokenize(tomogram.volume, job.identity, grid)
    shared = delayed(job.classifier(job.tomogram), name=f"classifier-{token}", traverse=False)
    blocks = dask.array.map_blocks(
        _classify,
        shared,
        chunks=chunks,
        dtype=object,
        meta=np.empty((0, 0, 0), object),
        name=f"segment {tomogram.name}-{token}",
    )

    def part(field: str, dtype: str, lead: tuple[int, ...] = ()) -> dask.array.Array:
        where: dict[str, Any] = {"new_axis": [0], "chunks": (lead, *chunks)} if lead else {"chunks": chunks}
        picked: dask.array.Array = dask.array.map_blocks(
            _pick, blocks, field=field, dtype=dtype, meta=np.empty((0,) * (3 + len(lead)), dtype), **where
        )
        return picked

    classes = len(weights.classes) + 1
    return LazySegmentation(
        labels=part("labels", "uint8"),
        probability=part("probability", "uint8"),
        scores=part("scores", settings.score_type, (classes,)) if settings.scores else None,
        tomogram=tomogram.name,
        voxel_size=tomogram.voxel_size,
        classes=weights.classes,
    )


def _classify(classifier: Classifier, block_info: Any = None) -> NDArray[Any]:
    """Everything about one block, in an object array of one element."""
    location = block_info[None]["array-location"]
    box = Box(triple(a for a, _ in location), triple(b for _, b in location))
    found = np.empty((1, 1, 1), object)
    found[0, 0, 0] = classifier(box)
    return found


def _pick(found: NDArray[Any], field: str) -> NDArray[Any]:
    values: NDArray[Any] = getattr(found[0, 0, 0], field)
    return values
